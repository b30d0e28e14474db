"""A server of one run's exported model, in the form of TensorFlow Serving's REST API."""
