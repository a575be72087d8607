"""Records a fault of a real cluster as a case: applies a manifest, watches, and saves what there was.

`python -m infra.record NAME MANIFEST` (`make record`) is for whoever writes a rule. A case that was
recorded needs no trust in what anybody believes Kubernetes to say; replay and the rule's tests run on it.
"""
