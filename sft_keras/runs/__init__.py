"""The run folder and all that is kept in it."""
