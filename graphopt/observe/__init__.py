"""Statistics of the tensors of a running model, gathered in as few runs as memory allows."""
