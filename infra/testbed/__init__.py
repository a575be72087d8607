"""A real Kubernetes and a real Knative on this machine, in one network namespace; see docs/testbed.md."""
