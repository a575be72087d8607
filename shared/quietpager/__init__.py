"""The one library of ours: what every function of quietpager shares.

Layers, a lower one never imports a higher one (import-linter holds them):
`model, errors` < `cluster, store` < `rules, actions` < `safety` < `runtime` < `functions` < `infra`.
"""
