"""Everything that runs a model: sessions, latency, profiles, what onnxruntime made of a graph."""
