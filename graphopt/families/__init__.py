"""What the passes of one family share: training, masking, low rank."""
