"""Models: the backbone with a head, split at the freeze boundary, and LoRA adapters."""
