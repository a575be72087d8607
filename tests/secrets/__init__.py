"""Secrets that are none, and ordinary lines: what is masked and what must stay."""
