"""The model in memory and on disk: scopes of nodes and constants, shapes, cost, surgery."""
