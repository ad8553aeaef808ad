"""What a run and the smaller commands found: on the terminal, as JSON, as a page."""
