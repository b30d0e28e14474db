"""Pretrained backbones: how each is built, its input scaling and its ordered blocks."""
