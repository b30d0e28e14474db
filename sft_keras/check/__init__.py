"""Data check before a run: duplicates, label errors, unreadable files. Loads TensorFlow lazily."""
