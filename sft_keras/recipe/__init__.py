"""The recipe: everything one run is configured by. Does not import TensorFlow."""
