"""Decoding by the workers of a tf.data service."""
