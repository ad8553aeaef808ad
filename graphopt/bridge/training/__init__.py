"""Training a graph: batches, loss, loop, and what surrounds them."""
