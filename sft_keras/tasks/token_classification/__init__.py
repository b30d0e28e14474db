"""Token classification: one tag per word, as for named entities."""
