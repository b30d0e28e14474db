"""Texts: tokenization, preprocessing, augmentation, sources."""
