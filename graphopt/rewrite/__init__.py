"""Surgery on graphs that more than one pass needs."""
