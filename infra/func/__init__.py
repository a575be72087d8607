"""Assembles what Knative's command `func` builds and deploys: one project folder for each function.

Who calls it: `make build`, and its tests. Nothing assembled is committed.
"""
