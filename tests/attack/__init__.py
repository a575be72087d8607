"""Attacks that were once tried with success, each with what stops it and what breaks without that."""
