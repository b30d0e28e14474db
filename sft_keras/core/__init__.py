"""Foundations without TensorFlow: errors, atomic files, snapshots, timing, reporting."""
