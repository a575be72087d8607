"""A small Kubernetes in one process: API server, Deployment controller and a kubelet that fails.

For the demo, for tests and for whoever writes a rule without a cluster at hand. It answers as
kube-apiserver 1.35 was measured to answer, for the kinds and verbs that quietpager uses, and no
more: no authentication, no admission policies, one node. A real cluster stays the judge.

`python -m quietpager.sandbox --port 0` runs it, `quietpager.sandbox.server.running()` does in a test.
"""
