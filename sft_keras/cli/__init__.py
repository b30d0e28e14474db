"""Shared code of the commands. Does not import TensorFlow on import."""
