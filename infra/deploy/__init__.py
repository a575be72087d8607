"""Puts the whole product on a cluster, stopped; see `__main__` for the order of things.

Who calls it: `make deploy`, and the end-to-end tests for the store's addresses.
"""

from infra.deploy.store import on_dynamodb, owner_url, store_url

__all__ = ["on_dynamodb", "owner_url", "store_url"]
