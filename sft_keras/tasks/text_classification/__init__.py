"""Texts with one label, several labels or a number."""
