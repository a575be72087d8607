"""Rules: what a `rule.yaml` may say, the route table rendered from all of them, and the live view."""
