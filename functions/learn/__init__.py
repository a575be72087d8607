"""Functions: one folder, one Knative function, one ServiceAccount."""
