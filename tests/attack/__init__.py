"""Attacks that were once tried with success: each with the promise that stops it, and what breaks without it."""
