"""What a graph says: operators, layers, shapes, cost."""
