"""Reading and decoding image files on the workers of a tf.data service."""
