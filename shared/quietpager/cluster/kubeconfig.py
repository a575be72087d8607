"""Connects a person to a cluster by kubeconfig, or says in one sentence what is wrong.

Who calls it: `quietpager scan`, `run`, `stop` and `resume`.
"""

import os
from pathlib import Path
from typing import Final

from quietpager.cluster.client import ApiServer, connect
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.text import clean

IN_A_POD: Final = "KUBERNETES_SERVICE_HOST"
"""Environment variable that a kubelet sets in every container."""


def can_be_found(kubeconfig: str | None) -> bool:
    """Tell whether there is any way to a cluster that `connected` would take."""
    return bool(kubeconfig) or (Path.home() / ".kube" / "config").exists() or IN_A_POD in os.environ


def connected(kubeconfig: str | None, context: str | None, manager: str) -> ApiServer:
    """Connect by the kubeconfig that is given (option or KUBECONFIG), else by `~/.kube/config`.

    Where there is neither, and it runs in a pod, the pod's ServiceAccount counts.

    Raises:
        ClusterUnavailable: there is none, or it cannot be used; the text is the sentence to show.
    """
    default = Path.home() / ".kube" / "config"
    if not kubeconfig and not default.exists():
        if IN_A_POD in os.environ:
            return connect(manager=manager)
        raise ClusterUnavailable(
            f"no kubeconfig is named and there is no {default}; name one with --kubeconfig, or set KUBECONFIG"
        )
    return connect(kubeconfig=kubeconfig or default, context=context, manager=manager)


def sentence(error: ClusterUnavailable | Rejected, cluster: ApiServer | None) -> str:
    """Say why a cluster cannot be read, for the person who named it."""
    if cluster is None:
        return clean(" ".join(f"{str(error)[:1].upper()}{str(error)[1:]}.".split()), 500)
    where = cluster.address
    if isinstance(error, Rejected) and error.code == 401:
        text = (
            f"{where} does not accept these credentials (401): the token or certificate has expired, or is "
            "not known there. Log in again, or name another --context."
        )
    elif isinstance(error, Rejected):
        text = f"{where} does not answer as a Kubernetes API server would: {error.code} {error.message}"
    else:
        text = f"{where} cannot be read: {error}."
    return clean(" ".join(text.split()), 500)
