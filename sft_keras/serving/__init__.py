"""A server for the exported model of one run, compatible with TensorFlow Serving's REST API."""
