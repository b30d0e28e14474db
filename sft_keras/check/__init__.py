"""The check of the data before a run. Importing this does not import TensorFlow."""
