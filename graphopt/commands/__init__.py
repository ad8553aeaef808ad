"""The Python API: one function a command of the command line."""
