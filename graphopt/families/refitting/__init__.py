"""Layers solved again one after another, so that the model gives what it gave before."""
