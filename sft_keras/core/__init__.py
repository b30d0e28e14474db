"""Foundations without TensorFlow: errors, files, snapshots, timing."""
