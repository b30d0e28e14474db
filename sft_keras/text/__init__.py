"""Texts: split into tokens, held, changed at random, served."""
