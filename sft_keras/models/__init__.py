"""The staged model: a backbone in blocks, a head, and low-rank adapters."""
