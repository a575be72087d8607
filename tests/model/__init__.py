"""An explicit-state model checker that drives the shipped functions: every interleaving, within bounds."""
