"""Attacks, one file for each topic; each fails where the mechanism against it is taken out."""
