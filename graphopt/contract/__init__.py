"""The language: what a pass is, its registry, spec text, recipes and presets."""
