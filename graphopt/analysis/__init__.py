"""What the graph as a whole says about its layers: where integers can flow, what hurts."""
