"""Labelled examples of any modality: listing, splitting, batching."""
