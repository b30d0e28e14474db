"""Exports of a trained model, and the proof that each of them computes the same outputs.

Importing this package does not import TensorFlow.
"""
