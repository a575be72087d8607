"""The writes to the cluster, and the one place that sends them."""
