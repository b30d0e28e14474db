"""Masked language modelling, to adapt a text backbone to a domain."""
