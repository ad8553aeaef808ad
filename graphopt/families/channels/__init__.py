"""What pruning whole channels takes: who reads them, what they cost, in which order they go."""
