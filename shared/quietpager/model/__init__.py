"""Frozen data that travels between the layers; no I/O, no clock."""
