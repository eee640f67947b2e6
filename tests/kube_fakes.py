"""What a cluster said once, and an API server in memory that says what a test wants."""

from __future__ import annotations

import copy
import itertools
import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.objects import Key, Object, Ref
from deploy_guard.drivers.kubernetes.views import View

T = TypeVar("T")
R = TypeVar("R")

_RECORDED = json.loads((Path(__file__).parent / "unit/kubernetes/recorded.json").read_text())
"""Objects as Kubernetes 1.33 with containerd reported them; what no rule reads was taken out."""
PLURALS = {
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "DaemonSet": ("apps/v1", "daemonsets"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "ControllerRevision": ("apps/v1", "controllerrevisions"),
    "Job": ("batch/v1", "jobs"),
    "CronJob": ("batch/v1", "cronjobs"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Widget": ("example.org/v1", "widgets"),
}


def pod(name: str) -> Object:
    """A recorded pod, by what happened to it."""
    found: Object = copy.deepcopy(_RECORDED["pods"][name])
    return found


def events(name: str) -> list[Object]:
    """Recorded events, oldest first."""
    found: list[Object] = copy.deepcopy(_RECORDED["events"][name])
    return found


def workload(name: str) -> Object:
    """A recorded Deployment, StatefulSet, DaemonSet, ReplicaSet or Job."""
    found: Object = copy.deepcopy(_RECORDED["workloads"][name])
    return found


def ref(kind: str, name: str, namespace: str = "shop") -> Ref:
    """Where an object is."""
    version, plural = PLURALS[kind]
    base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    return Ref(Key(version, kind, namespace, name), f"{base}/namespaces/{namespace}/{plural}/{name}")


def ref_of(body: Mapping[str, Any], namespace: str = "shop") -> Ref:
    """Where an object is that has a kind and a name."""
    return ref(body["kind"], body["metadata"]["name"], namespace)


def view(
    body: Object | None,
    *pods: Object,
    kind: str = "",
    others: Iterable[Object] = (),
    maker: Object | None = None,
    told: Iterable[Object] = (),
    blind: bool = False,
) -> View:
    """A workload with pods of its new revision; events are about whom they name."""
    by_subject: dict[str, list[Object]] = {}
    for event in told:
        by_subject.setdefault(event["involvedObject"]["uid"], []).append(event)
    where = ref(kind or (body or {}).get("kind", "Deployment"), (body or {}).get("metadata", {}).get("name", "web"))
    return View(where, body, tuple(pods), tuple(others), maker or body, by_subject, blind)


def about(event: Object, body: Object) -> Object:
    """The same event, told of another object."""
    event = copy.deepcopy(event)
    event["involvedObject"] |= {"uid": body["metadata"]["uid"], "name": body["metadata"]["name"]}
    return event


class Cluster:
    """An API server in memory; implements ``api.Api``. What a test changes, watches tell at once.

    ``away``: every request fails, and watches are cut. ``frozen``: every request hangs until its patience is over, and
    watches say nothing. ``forbidden``: endings of collections that may not be read.
    """

    def __init__(self, *bodies: Object) -> None:
        self.objects: dict[str, Object] = {}
        self.requests: list[tuple[str, str]] = []
        self.logs: dict[str, str] = {}
        self.forbidden: set[str] = set()
        self.away = threading.Event()
        self.frozen = threading.Event()
        self.sent: list[tuple[str, str, dict[str, str], str, Any]] = []
        self.on_request: Callable[[str, str], None] = lambda _method, _path: None
        self.answer: Callable[[str, str, Any], Object | None] = lambda _method, _path, _body: None
        self._versions = itertools.count(1)
        self._watches: list[tuple[str, queue.SimpleQueue[Object | None]]] = []
        self._lock = threading.RLock()
        self.put(*bodies)

    # What a test does

    def put(self, *bodies: Object) -> None:
        """Create or change objects."""
        for given in bodies:
            path = ref_of(given).path
            with self._lock:
                body = copy.deepcopy(given)
                body["metadata"]["resourceVersion"] = str(next(self._versions))
                body["metadata"].setdefault("uid", f"uid-of-{path}")
                change = "MODIFIED" if path in self.objects else "ADDED"
                self.objects[path] = body
                self._tell(path, {"type": change, "object": body})

    def delete(self, body: Object) -> None:
        """Take an object away."""
        path = ref_of(body).path
        with self._lock:
            gone = self.objects.pop(path)
            self._tell(path, {"type": "DELETED", "object": gone})

    def cut(self) -> None:
        """Cut all watches."""
        with self._lock:
            for _, told in self._watches:
                told.put(None)

    def go_away(self) -> None:
        """Fail from now on, and cut what is open."""
        self.away.set()
        self.cut()

    def counted(self, method: str, ending: str) -> int:
        """How many requests there were to paths that end so."""
        return sum(how == method and path.endswith(ending) for how, path in self.requests)

    # What api.Api promises

    def request(
        self,
        method: str,
        path: str,
        body: Object | list[Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        patience: float | None = None,
    ) -> Object:
        self._asked(method, path, patience)
        self.sent.append((method, path, dict(query or {}), content_type, body))
        if answer := self.answer(method, path, body):
            return answer
        if method == "GET":
            if path in self.objects:
                return copy.deepcopy(self.objects[path])
            if path.rpartition("/")[2] in {plural for _, plural in PLURALS.values()}:
                return {"items": self._selected(path, query)}
        raise ApiError(404, "NotFound", f"{path} not found")

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Object | None:
        try:
            return self.request("GET", path, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, *, query: Mapping[str, str] | None = None) -> tuple[list[Object], str]:
        self._asked("LIST", path, None)
        with self._lock:
            return self._selected(path, query), str(next(self._versions))

    def watch(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> Iterator[Object]:
        self._asked("WATCH", path, None)
        told: queue.SimpleQueue[Object | None] = queue.SimpleQueue()
        with self._lock:
            missed = [
                body for body in self._selected(path, query) if int(body["metadata"]["resourceVersion"]) > int(version)
            ]
            for body in missed:
                told.put({"type": "MODIFIED", "object": body})
            self._watches.append((path, told))
        name = (query or {}).get("fieldSelector", "").removeprefix("metadata.name=")
        while (event := told.get()) is not None:
            if not name or event["object"]["metadata"]["name"] == name:
                yield copy.deepcopy(event)
        raise Unreachable("the watch was cut")

    def text(self, path: str, *, query: Mapping[str, str] | None = None) -> str:
        self._asked("TEXT", path, None)
        previous = " before" if (query or {}).get("previous") else ""
        name = path.split("/")[-2] + previous
        if name not in self.logs:
            raise ApiError(400, "BadRequest", "previous terminated container not found")
        return self.logs[name]

    def each(self, function: Callable[[T], R], over: Iterable[T]) -> list[R]:
        return [function(one) for one in over]

    def _asked(self, method: str, path: str, patience: float | None) -> None:
        self.requests.append((method, path))
        self.on_request(method, path)
        if self.frozen.is_set():
            threading.Event().wait(60.0 if patience is None else patience)
            raise Unreachable("no answer")
        if self.away.is_set():
            raise Unreachable("connection refused")
        if any(path.endswith(one) for one in self.forbidden):
            raise ApiError(403, "Forbidden", f"{path} is forbidden")

    def _selected(self, path: str, query: Mapping[str, str] | None) -> list[Object]:
        field, _, value = (query or {}).get("fieldSelector", "").partition("=")
        found = [copy.deepcopy(body) for where, body in self.objects.items() if where.rpartition("/")[0] == path]
        if field == "metadata.name":
            return [body for body in found if body["metadata"]["name"] == value]
        if field == "involvedObject.uid":
            return [body for body in found if body["involvedObject"]["uid"] == value]
        return found

    def _tell(self, path: str, event: Object) -> None:
        for collection, told in self._watches:
            if path.rpartition("/")[0] == collection and not self.frozen.is_set():
                told.put(event)
