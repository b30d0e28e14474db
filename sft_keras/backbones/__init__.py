"""Pretrained backbones: their construction, weights, input scaling and ordered blocks."""
