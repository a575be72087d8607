"""The one package of quietpager: the library that all functions share, and what a person runs.

Layers, a lower one never imports a higher one (import-linter holds them):
`model, errors` < `cluster, store` < `rules` < `actions` < `safety` < `analysis, learning` < `runtime`
< `functions, render, sandbox` < `local` < `cli`. In a checkout `functions` and `eventing` are links to
the folders at its top (docs/adr/0008-one-import-name.md).
"""

import os

# Looking for pydantic plugins reads the metadata of every installed package at each cold start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
