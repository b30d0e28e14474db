"""Labelled examples, whatever their modality: listing, splitting, batching."""
