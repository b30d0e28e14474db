"""Evaluation: inference over a split, and the metrics that several tasks share."""
