"""The sandbox's own node, as the recorded one was."""

from typing import Any, Final

Json = dict[str, Any]

NODE: Final = "tb-node"


def first_node(now: str) -> Json:
    """Make the node that is there from the start; a loaded one of its name replaces it."""

    def condition(kind: str, value: str, reason: str, message: str) -> Json:
        return {
            "type": kind,
            "status": value,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
            "reason": reason,
            "message": message,
        }

    room = {"cpu": "2", "memory": "24580016Ki", "pods": "110"}
    conditions = [
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory",
                  "kubelet has sufficient memory available"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure",
                  "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID",
                  "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "spec": {},
        "status": {"capacity": dict(room), "allocatable": dict(room), "conditions": conditions},
    }
