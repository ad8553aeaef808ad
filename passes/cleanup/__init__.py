"""The passes of the family cleanup."""
