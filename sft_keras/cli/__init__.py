"""What all commands share. Does not import TensorFlow."""
