"""Kubernetes objects as rules and actions see them: types, the live view, what healthy means."""
