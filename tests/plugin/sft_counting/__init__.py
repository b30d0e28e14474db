"""Counting, as a task of a package of its own."""
