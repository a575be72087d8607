"""moto behind a server that takes one request at a time.

moto's own transactions are not isolated under threads; taken one after another they are, so conditions
and transactions can be tested under concurrent clients. What it cannot show is how AWS itself answers
under contention (TransactionConflict); the store's answer to that is tested with a client that says so.

moto keeps a deep copy of each table that a transaction touches, so that it can take back what came before a
condition that fails; with a table that grows it was most of the time. A transaction replaces items and never
changes one (`Put`, `Delete`, `ConditionCheck`; the store sends no `Update` in one), so a copy of the table's
two levels of names does the same.
"""

import copy
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class _Copies:
    """The module `copy`, as moto's DynamoDB sees it."""

    @staticmethod
    def deepcopy(thing: Any) -> Any:
        if not isinstance(thing, Table):
            return copy.deepcopy(thing)
        twin, ranged = copy.copy(thing), thing.has_range_key
        items = {key: dict(one) if ranged else one for key, one in thing.items.items()}
        twin.items = defaultdict(dict, items)
        return twin


@contextmanager
def serve() -> Iterator[str]:
    """Serve for a while; gives the endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = DomainDispatcherApplication(create_backend_app)
    made = make_server("127.0.0.1", 0, app, threaded=False)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        with patch("moto.dynamodb.models.copy", _Copies):
            yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        thread.join()
