"""The model in memory and on disk, on the ONNX messages: load, edit, check, save."""
