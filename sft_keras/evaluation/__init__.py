"""Evaluation: inference over a split, and the metrics that tasks share."""
