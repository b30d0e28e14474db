"""What a trained model is served as, and the proof that each of these answers as it does.

Importing this does not import TensorFlow.
"""
