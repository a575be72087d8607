"""The one library of ours: what every function of quietpager shares.

Layers, a lower one never imports a higher one (import-linter holds them):
`model, errors` < `cluster, store` < `rules, actions` < `safety` < `runtime` < `functions` < `infra`.
"""

import os

# Looking for pydantic plugins reads the metadata of every installed package at each cold start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
