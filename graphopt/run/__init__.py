"""One run: where the model stands, what measures it, the driver of passes, the proof."""
