"""The passes of the family factorize."""
