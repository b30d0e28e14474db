"""The run folder: lock, checkpoints, log, trackers, result."""
