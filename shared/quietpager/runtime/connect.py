"""How a function finds its store, its cluster and its broker: from the environment.

`QUIETPAGER_STORE` a PostgreSQL URL, or `dynamodb://REGION/PREFIX` · `QUIETPAGER_API_SERVER` a plain URL
(sandbox), else the pod's service account or a kubeconfig · `K_SINK` the broker's ingress, as Knative sets it
· `QUIETPAGER_BROKER_TOKEN` the file of the token for that · `QUIETPAGER_AUDIENCE` see `runtime.sender`.
"""

import os
from collections.abc import Callable
from pathlib import Path

from quietpager.errors import Retry
from quietpager.incident.policy_file import PolicyFile
from quietpager.model.cluster import Cluster
from quietpager.model.message import Message
from quietpager.model.store import Store, StoreUnavailable
from quietpager.model.time import system_clock
from quietpager.outgoing import NoAnswer, ask
from quietpager.runtime.context import Context, Handler, Lazy, make_context
from quietpager.runtime.edge import Check, Function
from quietpager.runtime.metrics import from_environment
from quietpager.runtime.wire import event_from_message, http_from_event
from quietpager.store.opening import open_store as open_by_url

STORE = "QUIETPAGER_STORE"
"""Environment variable: URL of the PostgreSQL database, or `dynamodb://REGION/PREFIX`."""

SINK = "K_SINK"
"""Environment variable: where `post` sends; Knative sets it (SinkBinding, PingSource, our Deployments)."""

BROKER_TOKEN = "QUIETPAGER_BROKER_TOKEN"  # noqa: S105 (where it is, not what it is)
"""Environment variable: path of the token that a Broker with authentication wants; the kubelet renews it."""


def open_named(opening: Callable[[str], Store]) -> Store:
    """Open the store that the environment names; raises Retry where none is named, or the URL is none."""
    url = os.environ.get(STORE)
    if not url:
        raise Retry(f"No store: set {STORE} to a PostgreSQL URL, or to dynamodb://REGION/PREFIX.")
    try:
        return opening(url)
    except StoreUnavailable as wrong:
        raise Retry(f"{STORE} is wrong: {wrong}") from wrong


def open_store() -> Store:
    """Open this function's part of the store; raises as `open_named` does."""
    return open_named(open_by_url)


def open_cluster(name: str) -> Cluster:
    """Open the cluster, as the function of that name."""
    from quietpager.cluster.client import connect  # noqa: PLC0415 (costs import time only if used)

    return connect(manager=f"quietpager-{name}")


def post_to_sink(message: Message) -> None:
    """Post one message to `K_SINK`; raises OSError, which the outbox makes good."""
    sink = os.environ.get(SINK)
    if not sink:
        return
    event = event_from_message(message, source="/quietpager", now=system_clock())
    headers, body = http_from_event(event)
    if named := os.environ.get(BROKER_TOKEN):
        # Good at this Broker only, and for minutes; inside a cluster it is reached by http.
        headers["Authorization"] = f"Bearer {Path(named).read_text(encoding='ascii').strip()}"
    try:
        answer = ask("POST", sink, seconds=5, body=body, head=headers)
    except NoAnswer as no:
        raise OSError(f"The sink gave {no}.") from None
    if not 200 <= answer.status < 300:
        raise OSError(f"The sink answered {answer.status}.")


def check_of_senders() -> Check | None:
    """Give the check of who sends, where the environment asks for one."""
    if not os.environ.get("QUIETPAGER_AUDIENCE"):
        return None
    from quietpager.runtime.sender import from_environment  # noqa: PLC0415 (costs import time only if used)

    return from_environment().check


def function(name: str, handler: Handler, *, posts: bool = False) -> Function:
    """Make the function of a folder; what every folder's `new()` calls.

    `posts`: it says what only the Broker may hear, so it posts all its answers where there is a Broker, and
    replies with none. Its func.yaml says so, too.
    """

    def make() -> Context:
        lazy = Lazy(open_store, lambda: open_cluster(name))
        return make_context(name, lazy, metrics=from_environment())

    replies = not (posts and os.environ.get(SINK))
    return Function(handler, make, post_to_sink, policy=PolicyFile, check=check_of_senders(), replies=replies)
