"""Actions: what an `action.yaml` may say, the catalogue of all of them, and how a plan is rehearsed."""
