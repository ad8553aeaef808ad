"""The passes of the family prune."""
