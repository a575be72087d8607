"""Puts the whole product on a cluster, stopped; see `__main__` for the order of things.

Who calls it: `make deploy`, and the end-to-end tests for the store's address.
"""

from infra.deploy.store import store_url

__all__ = ["store_url"]
