"""The passes of the family quantize."""
