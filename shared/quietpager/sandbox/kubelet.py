"""The scheduler and a kubelet whose containers fail as the recorded ones did.

One asyncio task a pod tells its story: scheduled, image pulled, started, killed, backing off. What
a process does is declared in workloads.yaml. Order and wording of Events and statuses are those of
the recorded streams (kubelet 1.35.4, containerd): an Event comes before the status it speaks of; an
OOM kill sends no Event of its own; CrashLoopBackOff shows only some ten seconds after the death,
`lastState` long before. All waits are divided by the sandbox's speed.
"""

import asyncio
import contextlib
import secrets
from typing import Any, Final

from quietpager.model.time import Clock
from quietpager.sandbox.behaviour import Behaviour, behaviour
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.node import NODE
from quietpager.sandbox.patching import clone
from quietpager.sandbox.recorder import Recorder
from quietpager.sandbox.references import missing_for, unmountable
from quietpager.sandbox.registry import Registry
from quietpager.sandbox.scheduler import Placed, place
from quietpager.sandbox.store import Change
from quietpager.sandbox.validation import containers

Json = dict[str, Any]

_FIRST_BACKOFF: Final = 10.0
_LAST_BACKOFF: Final = 300.0
_STATUS_LAG: Final = 11.0  # so long after a death the status says that it backs off
_RETRY_UNSCHEDULABLE: Final = 5.0
_SYNC: Final = 12.5  # so often the kubelet looks at a pod again (recorded case 02: 11 to 15 s)
_FIRST_MOUNT: Final = 0.5  # doubled at each failure (recorded case 21)
_LAST_MOUNT: Final = 122.0
_CONFIG_ERROR: Final = "CreateContainerConfigError"
_ANIMATED: Final = {"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", "ErrImagePull",
                    "ImagePullBackOff"}  # fmt: skip


class Kubelet:
    """Schedules pods and runs them. One for all nodes."""

    def __init__(self, registry: Registry, recorder: Recorder, clock: Clock, speed: float = 1.0) -> None:
        """Run the pods of a registry; `speed` divides all waits."""
        self._registry, self._recorder, self._clock = registry, recorder, clock
        self._store, self._speed = registry.store, speed
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        self._store.listen(self._noticed)

    def _noticed(self, change: Change) -> None:
        if change.kind == "Pod":
            self._changes.put_nowait(change)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._follow(await self._changes.get())
        finally:
            lives = [*self._lives.values()]
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)

    def _follow(self, change: Change) -> None:
        metadata = change.object["metadata"]
        uid, leaving = metadata["uid"], bool(metadata.get("deletionTimestamp"))
        was_leaving = bool(change.before and change.before["metadata"].get("deletionTimestamp"))
        if change.type == "DELETED":
            self._end(uid)
        elif leaving and (change.type == "ADDED" or not was_leaving):
            self._end(uid)
            self._begin(uid, _Pod(self, change.object).stop())
        elif change.type == "ADDED":
            self._begin(uid, _Pod(self, change.object).live())

    def _begin(self, uid: str, story: Any) -> None:
        task = asyncio.create_task(story)
        self._lives[uid] = task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        if self._lives.get(uid) is task:
            del self._lives[uid]
        if not task.cancelled() and (error := task.exception()):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"the pod {uid} has no story any more", "exception": error}
            )

    def _end(self, uid: str) -> None:
        if life := self._lives.pop(uid, None):
            life.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait, faster by the sandbox's speed."""
        await asyncio.sleep(seconds / self._speed)

    @property
    def registry(self) -> Registry:
        """Where pods are written."""
        return self._registry

    @property
    def recorder(self) -> Recorder:
        """Where Events are sent."""
        return self._recorder


class _Pod:
    """One pod's story."""

    def __init__(self, kubelet: Kubelet, pod: Json) -> None:
        self._kubelet, self._registry = kubelet, kubelet.registry
        self._namespace, self._name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._uid = pod["metadata"]["uid"]

    @property
    def pod(self) -> Json:
        """The pod as it is now; a pod that is gone ends its story."""
        found = self._registry.store.get("Pod", self._namespace, self._name)
        if found is None or found["metadata"]["uid"] != self._uid:
            raise asyncio.CancelledError
        return found

    async def live(self) -> None:
        """Tell the story, from wherever the pod is."""
        if self.pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return
        if _is_held(self.pod):
            return
        fresh = not self.pod.get("status", {}).get("containerStatuses")
        if not self.pod["spec"].get("nodeName"):
            await self._schedule()
        if fresh:
            await self._kubelet.sleep(0.02)
            self._set([_created(c) for c in self.pod["spec"]["containers"]], started=False)
        mounted = await self._mount()
        if fresh:
            await self._kubelet.sleep(0.4)
        stories = [
            self._container(container)
            for container in self.pod["spec"]["containers"]
            if fresh or mounted or self._goes_on(container)
        ]
        await asyncio.gather(*stories)

    async def stop(self) -> None:
        """Kill the containers and let the pod go."""
        for _, container in containers(self.pod):
            if "running" in (self._status(container["name"]).get("state") or {}):
                self._send(container, "Normal", "Killing", f"Stopping container {container['name']}")
        grace = float(self.pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        await self._kubelet.sleep(min(grace, 1.0))
        with contextlib.suppress(asyncio.CancelledError):
            self._registry.delete(KINDS["Pod"], self._namespace, self.pod["metadata"]["name"], 0)

    # Scheduling

    async def _schedule(self) -> None:
        await self._kubelet.sleep(0.01)
        while (placed := self._place()).node is None:
            text = placed.message
            status = clone(self.pod.get("status") or {})
            if [c.get("message") for c in status.get("conditions") or ()] != [text]:
                unscheduled = self._condition("PodScheduled", "False", "Unschedulable", text)
                status["conditions"] = [unscheduled]
                recorder = self._kubelet.recorder
                recorder.send_new_style(self.pod, "Warning", "FailedScheduling", text, "Scheduling")
                self._registry.set_status(self.pod, status)
            await self._kubelet.sleep(_RETRY_UNSCHEDULABLE)
        pod = self.pod
        metadata, spec = dict(pod["metadata"]), pod["spec"] | {"nodeName": placed.node}
        status = clone(pod.get("status") or {})
        status["conditions"] = [self._condition("PodScheduled", "True")]
        bound = self._registry.store.put(pod | {"metadata": metadata, "spec": spec, "status": status})
        text = f"Successfully assigned {self._namespace}/{self._name} to {placed.node}"
        self._kubelet.recorder.send_new_style(bound, "Normal", "Scheduled", text, "Binding")

    def _place(self) -> Placed:
        store = self._registry.store

        def claim(name: str) -> Json | None:
            return store.get("PersistentVolumeClaim", self._namespace, name)

        return place(self.pod, store.select("Node"), store.select("Pod"), claim)

    # What it refers to

    def _find(self, kind: str, name: str) -> Json | None:
        return self._registry.store.get(kind, self._namespace, name)

    async def _mount(self) -> bool:
        """Set the volumes up, if need be for ever; tells whether that had to be waited for."""
        wait = _FIRST_MOUNT
        if any("waiting" not in (s.get("state") or {}) for s in self.pod["status"]["containerStatuses"]):
            return False  # a container that has started has its volumes
        while (text := unmountable(self.pod, self._find)) is not None:
            self._kubelet.recorder.send(
                self.pod, "Warning", "FailedMount", text, "kubelet",
                host=self.pod["spec"].get("nodeName", NODE),
            )  # fmt: skip
            await self._kubelet.sleep(wait)
            wait = min(_LAST_MOUNT, wait * 2)
        return wait > _FIRST_MOUNT

    async def _configure(self, container: Json) -> None:
        """Wait until the container's environment is there; each look says so in Event and status."""
        image = container["image"]
        while (text := missing_for(container, self._namespace, self._find)) is not None:
            already = f'Container image "{image}" already present on machine and can be accessed by the pod'
            self._send(container, "Normal", "Pulled", already)
            self._send(container, "Warning", "Failed", f"Error: {text}")
            self._waiting(container, _CONFIG_ERROR, text)
            await self._kubelet.sleep(_SYNC)

    def _goes_on(self, container: Json) -> bool:
        """Say whether a loaded container's story goes on: where the sandbox knows what it waits for."""
        status = self._status(container["name"])
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") == _CONFIG_ERROR:
            return missing_for(container, self._namespace, self._find) is not None
        return _is_animated(status, container)

    # Containers

    async def _container(self, container: Json) -> None:
        does, status = behaviour(container), self._status(container["name"])
        state = status.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason", "")
        restarts = int(status.get("restartCount", 0))
        dead = "terminated" in state or waiting == "CrashLoopBackOff"
        if "running" not in state and not dead:
            await self._pull(container, does, tried=waiting in {"ErrImagePull", "ImagePullBackOff"})
        if dead:
            await self._back_off(container, restarts)
            restarts += 1
        if "running" not in state:
            await self._configure(container)
            await self._start(container, restarts)
        while does.dies(container):
            await self._kubelet.sleep(0.5)
            await self._die(container, restarts)
            restarts += 1
            await self._start(container, restarts)

    async def _pull(self, container: Json, does: Behaviour, *, tried: bool) -> None:
        """Pull the image, if need be for ever."""
        image, tries = container["image"], 1 if tried else 0
        if image.startswith("localhost/"):
            return
        while does.pull == "missing" or (does.pull == "flaky" and not tries):
            if tries:
                await self._pull_back_off(container, tries)
            why = (
                f'failed to pull and unpack image "{image}": failed to resolve reference '
                f'"{image}": {image}: not found'
            )
            why = f"rpc error: code = NotFound desc = {why}"
            self._send(container, "Normal", "Pulling", f'Pulling image "{image}"')
            await self._kubelet.sleep(0.01)
            self._send(container, "Warning", "Failed", f'Failed to pull image "{image}": {why}')
            self._send(container, "Warning", "Failed", "Error: ErrImagePull")
            await self._kubelet.sleep(0.6)
            self._send(container, "Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._waiting(container, "ErrImagePull", why)
            self._send(container, "Warning", "Failed", "Error: ImagePullBackOff")
            tries += 1
        if tries:
            await self._pull_back_off(container, tries)
        self._send(container, "Normal", "Pulling", f'Pulling image "{image}"')
        await self._kubelet.sleep(0.4)
        text = f'Successfully pulled image "{image}" in 400ms (400ms including waiting).'
        self._send(container, "Normal", "Pulled", text + " Image size: 2130657 bytes.")

    async def _pull_back_off(self, container: Json, tries: int) -> None:
        """Wait before the next try; every twelve seconds the kubelet says so again."""
        image, left = container["image"], _backoff(tries)
        message = (self._status(container["name"]).get("state") or {}).get("waiting", {}).get("message", "")
        if not message.startswith("Back-off"):
            message = f'Back-off pulling image "{image}": ErrImagePull: {message}'
        await self._kubelet.sleep(min(left, _STATUS_LAG))
        self._waiting(container, "ImagePullBackOff", message)
        while (left := left - 12.0) > 0:
            self._send(container, "Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._send(container, "Warning", "Failed", "Error: ImagePullBackOff")
            await self._kubelet.sleep(min(left, 12.0))

    async def _start(self, container: Json, restarts: int) -> None:
        image, before = container["image"], self._status(container["name"])
        if restarts or image.startswith("localhost/"):
            text = f'Container image "{image}" already present on machine'
            text += " and can be accessed by the pod"
            self._send(container, "Normal", "Pulled", text)
        self._send(container, "Normal", "Created", "Container created")
        await self._kubelet.sleep(0.06)
        self._send(container, "Normal", "Started", "Container started")
        await self._kubelet.sleep(0.06)
        ended = (before.get("state") or {}).get("terminated")
        last = {"terminated": ended} if ended else before.get("lastState") or {}
        probed = bool(container.get("readinessProbe"))
        running = {
            "state": {"running": {"startedAt": self._registry.now()}},
            "lastState": last,
            "restartCount": restarts,
            "containerID": f"containerd://{secrets.token_hex(32)}",
            "imageID": f"sha256:{'0' * 64}",
            "started": True,
            "ready": not probed,
        }
        self._change(container, running)
        if probed:
            await self._kubelet.sleep(float(container["readinessProbe"].get("periodSeconds", 10)))
            self._change(container, {"ready": True})

    async def _die(self, container: Json, restarts: int) -> None:
        """Be OOM-killed; return when the container is to be started again."""
        status = self._status(container["name"])
        started = (status.get("state") or {}).get("running") or {}
        ended = {
            "exitCode": 137,
            "reason": "OOMKilled",
            "startedAt": started.get("startedAt") or self._registry.now(),
            "finishedAt": self._registry.now(),
            "containerID": status.get("containerID", ""),
        }
        await self._kubelet.sleep(0.9)  # so late the kubelet notices
        if restarts:
            self._send_back_off(container)
        self._change(container, {"state": {"terminated": ended}, "ready": False, "started": False})
        if restarts:
            await self._back_off(container, restarts)

    async def _back_off(self, container: Json, restarts: int) -> None:
        """Wait before the next start: 10 s, doubled at each death, 5 min at most."""
        seconds = _backoff(restarts)
        lag = min(seconds, _STATUS_LAG)
        await self._kubelet.sleep(lag)
        status = self._status(container["name"])
        ended = (status.get("state") or {}).get("terminated")
        message = (
            f"back-off {_duration(seconds)} restarting failed container={container['name']} "
            f"pod={self._name}_{self._namespace}({self._uid})"
        )
        self._send_back_off(container)
        changes: Json = {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}}}
        if ended:
            changes["lastState"] = {"terminated": ended}
        self._change(container, changes)
        await self._kubelet.sleep(max(0.5, seconds - lag))

    def _send_back_off(self, container: Json) -> None:
        text = f"Back-off restarting failed container {container['name']} in pod "
        text += f"{self._name}_{self._namespace}({self._uid})"
        self._send(container, "Warning", "BackOff", text)

    def _waiting(self, container: Json, reason: str, message: str) -> None:
        self._change(container, {"state": {"waiting": {"reason": reason, "message": message}}})

    # Writing

    def _send(self, container: Json, kind: str, reason: str, message: str) -> None:
        pod = self.pod
        self._kubelet.recorder.send(
            pod, kind, reason, message, "kubelet",
            container=container["name"], host=pod["spec"].get("nodeName", NODE),
        )  # fmt: skip

    def _status(self, name: str) -> Json:
        statuses: list[Json] = self.pod.get("status", {}).get("containerStatuses") or []
        return next((status for status in statuses if status["name"] == name), {})

    def _change(self, container: Json, changes: Json) -> None:
        statuses = clone(self.pod["status"].get("containerStatuses") or [])
        mine = next(one for one in statuses if one["name"] == container["name"])
        mine.update(changes)
        self._set(statuses)

    def _set(self, statuses: list[Json], *, started: bool = True) -> None:
        """Write the container statuses and what follows from them."""
        pod = self.pod
        status = clone(pod.get("status") or {})
        unready = [s["name"] for s in statuses if not s["ready"]]
        why = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        reason = why if unready else ("", "")
        ready = "False" if unready else "True"
        wanted = [
            self._condition("PodReadyToStartContainers", "True" if started else "False"),
            self._condition("Initialized", "True"),
            self._condition("Ready", ready, *reason),
            self._condition("ContainersReady", ready, *reason),
            self._condition("PodScheduled", "True"),
        ]
        old = {c["type"]: c for c in status.get("conditions") or ()}
        for condition in wanted:
            before = old.get(condition["type"])
            if before and before["status"] == condition["status"]:
                condition["lastTransitionTime"] = before["lastTransitionTime"]
        ran = any(s["state"].keys() & {"running", "terminated"} or s["restartCount"] for s in statuses)
        status |= {
            "conditions": wanted,
            "containerStatuses": statuses,
            "phase": "Running" if ran else "Pending",
            "observedGeneration": pod["metadata"].get("generation", 1),
        }
        status.setdefault("startTime", self._registry.now())
        status.setdefault("hostIP", "10.244.0.1")
        self._registry.set_status(pod, status)

    def _condition(self, kind: str, value: str, reason: str = "", message: str = "") -> Json:
        condition = {
            "type": kind,
            "status": value,
            "observedGeneration": self.pod["metadata"].get("generation", 1),
            "lastProbeTime": None,
            "lastTransitionTime": self._registry.now(),
        }
        return condition | ({"reason": reason, "message": message} if reason else {})


def _created(container: Json) -> Json:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "state": {"waiting": {"reason": "ContainerCreating"}},
        "lastState": {},
        "ready": False,
        "started": False,
        "restartCount": 0,
    }


def _is_animated(status: Json, container: Json) -> bool:
    """Say whether a loaded container's story goes on: an undeclared fault stays as it is."""
    state = status.get("state") or {}
    if "running" in state:
        return bool(status.get("ready"))
    reason = (state.get("waiting") or {}).get("reason", "")
    return behaviour(container).declared and ("terminated" in state or reason in _ANIMATED)


def _is_held(pod: Json) -> bool:
    """Say whether a loaded pod waits for something that the sandbox's scheduler does not know."""
    unknown = pod["spec"].get("affinity") or pod["spec"].get("topologySpreadConstraints")
    conditions = pod.get("status", {}).get("conditions") or ()
    return bool(unknown) and any(c.get("reason") == "Unschedulable" for c in conditions)


def _backoff(failures: int) -> float:
    return float(min(_LAST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(max(failures, 1) - 1, 10)))


def _duration(seconds: float) -> str:
    """Write a duration as Go does: 10s, 1m20s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
