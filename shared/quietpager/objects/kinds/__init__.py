"""One file for each kind of Kubernetes object; each says `KIND`, and `objects.table` finds it by that."""
