"""A web page to try the exported model of a run."""
