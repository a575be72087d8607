"""How the product talks to a Kubernetes API server. The only package that may import `kubernetes`."""
