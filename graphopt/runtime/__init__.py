"""See design: one room, one purpose."""
