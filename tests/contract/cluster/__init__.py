"""What `port.Cluster` promises, asked of every cluster that there is.

A cluster is one entry in `support.CLUSTERS`: a context manager that gives something to talk to. Each test
gets a namespace of its own and uses nothing but the port. The expected answers were measured on
kube-apiserver 1.35.4.
"""
