"""What belongs to a workload: its pods of the revision that is being rolled out, told from old ones, and events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from deploy_guard.drivers.kubernetes.objects import Key, Object, Ref

WITH_PODS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Pod"})
"""Kinds of Kubernetes itself that are waited for; of its other kinds nothing is known that could fail later."""

_OWN_GROUPS = frozenset(
    {
        "",
        "apps",
        "batch",
        "autoscaling",
        "extensions",
        "policy",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
    }
)
"""API groups of Kubernetes itself; others with ``k8s.io`` in their name are of custom resources, as Gateway is."""

_EVENTS_KEPT = 30
"""Events that are kept of one object: what happens again counts up in an event that is there."""

NO_EVENTS: Mapping[str, Sequence[Object]] = {}


def is_own(key: Key) -> bool:
    """Whether it is of a kind that Kubernetes itself brings."""
    return key.api_version.rpartition("/")[0] in _OWN_GROUPS


def is_waited(key: Key) -> bool:
    """Whether there is something to wait for: workloads, and custom resources, which may have conditions."""
    return key.kind in WITH_PODS if is_own(key) else True


def needs(ref: Ref) -> tuple[str, ...]:
    """Return the collections besides its own that tell how it goes, the pods first; nothing for custom resources."""
    if not is_own(ref.key):
        return ()
    core = f"/api/v1/namespaces/{ref.key.namespace}"
    apps = f"/apis/apps/v1/namespaces/{ref.key.namespace}"
    between = {"Deployment": (f"{apps}/replicasets",), "DaemonSet": (f"{apps}/controllerrevisions",)}
    return f"{core}/pods", f"{core}/events", *between.get(ref.key.kind, ())


def is_events(path: str) -> bool:
    """Whether a collection is that of events."""
    return path.endswith("/events")


def uid(body: Object) -> str:
    """Return the identity that no other object ever has."""
    return str(body["metadata"]["uid"])


def owner(body: Object) -> str:
    """Return the uid of the controller that made it; empty where there is none."""
    references = body["metadata"].get("ownerReferences") or ()
    return next((str(one["uid"]) for one in references if one.get("controller")), "")


def is_ending(body: Object) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in body["metadata"]


def condition(body: Object, kind: str) -> Object | None:
    """Return a condition of its status; None where there is none."""
    status = body.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    if not isinstance(conditions, list):  # a custom resource may have anything there
        return None
    return next((one for one in conditions if isinstance(one, dict) and one.get("type") == kind), None)


def is_true(body: Object, kind: str) -> bool:
    """Whether it has a condition, and that is true."""
    return (condition(body, kind) or {}).get("status") == "True"


@dataclass(frozen=True)
class View:
    """A workload and everything that tells how it goes, at one moment.

    :param body: the object; None where it is gone.
    :param pods: those of the revision that is being rolled out which are not being deleted. For a Job all of them.
    :param others: all other pods of it.
    :param maker: what makes its new pods: the newest ReplicaSet of a Deployment, else itself.
    :param events: by the uid of the object that they are about, oldest first.
    :param blind: its pods may not be read.
    """

    ref: Ref
    body: Object | None = field(repr=False)
    pods: tuple[Object, ...] = field(default=(), repr=False)
    others: tuple[Object, ...] = field(default=(), repr=False)
    maker: Object | None = field(default=None, repr=False)
    events: Mapping[str, Sequence[Object]] = field(default_factory=lambda: NO_EVENTS, repr=False)
    blind: bool = False

    @property
    def kind(self) -> str:
        """Its kind; empty for custom resources, which may have any name."""
        return self.ref.key.kind if is_own(self.ref.key) else ""


class World:
    """What the watches told of the cluster; collections are known by their paths, objects in them by their names."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Object]] = {}
        self._owned: dict[tuple[str, str], dict[str, Object]] = {}
        self._events: dict[str, dict[str, Object]] = {}
        self._denied: set[str] = set()
        self._touched: set[str] = set()

    def listed(self, path: str, items: Iterable[Object]) -> None:
        """Take a whole collection: what is not in it is gone."""
        self._denied.discard(path)
        now = {str(item["metadata"]["name"]): item for item in items}
        for body in [body for name, body in self._objects.setdefault(path, {}).items() if name not in now]:
            self._drop(path, body)
        for body in now.values():
            self._take(path, body)

    def changed(self, path: str, change: str, body: Object) -> None:
        """Take an event of a watch: ``ADDED``, ``MODIFIED``, ``DELETED``."""
        if change == "DELETED":
            self._drop(path, body)
        else:
            self._take(path, body)

    def gone(self, path: str, name: str) -> None:
        """Take that an object is not there."""
        if body := self._objects.get(path, {}).get(name):
            self._drop(path, body)

    def denied(self, path: str) -> None:
        """Take that a collection may not be read; the rest has to do."""
        self._denied.add(path)

    def touched(self) -> set[str]:
        """Return what changed since the last call: names (:func:`name_of`) and uids, owners and subjects among them."""
        touched, self._touched = self._touched, set()
        return touched

    def knows(self, ref: Ref) -> bool:
        """Whether enough was told to judge it."""
        return ref.collection in self._objects and all(
            path in self._objects or path in self._denied for path in needs(ref)
        )

    def view(self, ref: Ref) -> View:
        """Return what is known of a workload."""
        body = self._objects[ref.collection].get(ref.key.name)
        if body is None or not (sources := needs(ref)):
            return View(ref, body, maker=body)
        pods, _events, *between = sources
        kind = ref.key.kind
        blind = bool(self._denied.intersection((pods, *between) if kind == "Deployment" else (pods,)))
        maker: Object | None = body
        makers, revisions = [body], []
        if kind == "Deployment":
            makers = self._owned_by(body, between[0])
            maker = _newest_replica_set(body, makers)
        elif kind == "DaemonSet":
            revisions = self._owned_by(body, between[0])
        mine = [body] if kind == "Pod" else [pod for one in makers for pod in self._owned_by(one, pods)]
        new: list[Object] = []
        others: list[Object] = []
        for pod in mine:
            fresh = not is_ending(pod) and _is_new(kind, body, maker, pod, revisions)
            (new if fresh else others).append(pod)
        events = {uid(one): self._about(one) for one in (body, *makers, *mine)}
        return View(ref, body, tuple(new), tuple(others), maker, events, blind)

    def _owned_by(self, body: Object, path: str) -> list[Object]:
        return list(self._owned.get((path, uid(body)), {}).values())

    def _about(self, body: Object) -> Sequence[Object]:
        return sorted(self._events.get(uid(body), {}).values(), key=last_seen)

    def _take(self, path: str, body: Object) -> None:
        name = self._touch(path, body)
        before = self._objects.setdefault(path, {}).get(name)
        if before is not None and owner(before) != owner(body):
            self._drop(path, before)  # made anew under the same name, or adopted by another
        body["metadata"].pop("managedFields", None)  # the larger half of an object, and nobody asks for it here
        self._objects[path][name] = body
        if is_events(path):
            about = self._events.setdefault(_subject(body), {})
            about.pop(name, None)  # so that it stands last
            about[name] = body
            if len(about) > _EVENTS_KEPT:
                self._drop(path, next(iter(about.values())))
        elif by := owner(body):
            self._owned.setdefault((path, by), {})[name] = body

    def _drop(self, path: str, body: Object) -> None:
        name = self._touch(path, body)
        self._objects.get(path, {}).pop(name, None)
        if is_events(path):
            self._events.get(_subject(body), {}).pop(name, None)
        else:
            self._owned.get((path, owner(body)), {}).pop(name, None)

    def _touch(self, path: str, body: Object) -> str:
        name = str(body["metadata"]["name"])
        self._touched |= {name_of(path, name), uid(body), owner(body), _subject(body)}
        return name


def name_of(path: str, name: str) -> str:
    """Return by what an object of a collection is known to :meth:`World.touched`."""
    return f"{path}/{name}"


def _subject(event: Object) -> str:
    return str((event.get("involvedObject") or {}).get("uid", ""))


def last_seen(event: Object) -> str:
    """Return when an event happened last, as the server writes it; events are ordered by it."""
    series = event.get("series") or {}
    told = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(told or event["metadata"].get("creationTimestamp", ""))


def times_seen(event: Object) -> int:
    """Return how often an event happened."""
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


_REVISION = "deployment.kubernetes.io/revision"


def _newest_replica_set(deployment: Object, sets: Sequence[Object]) -> Object | None:
    """Return the ReplicaSet of the Deployment's revision; None until its controller has said which one that is."""
    revision = (deployment["metadata"].get("annotations") or {}).get(_REVISION)
    same = [one for one in sets if (one["metadata"].get("annotations") or {}).get(_REVISION) == revision]
    return same[0] if revision and same else None


def _is_new(kind: str, body: Object, maker: Object | None, pod: Object, revisions: Iterable[Object]) -> bool:
    """Whether a pod is of the revision that is being rolled out."""
    labels = pod["metadata"].get("labels") or {}
    if kind == "Deployment":
        return maker is not None and owner(pod) == uid(maker)
    if kind == "StatefulSet":
        return labels.get("controller-revision-hash") == (body.get("status") or {}).get("updateRevision")
    if kind == "DaemonSet":
        # The newest revision tells which pods are new, also after a way back to an old template. Where revisions may
        # not be read, the number of the template does: right unless the template was there before.
        if newest := max(revisions, key=lambda one: int(one.get("revision") or 0), default=None):
            hashed = (newest["metadata"].get("labels") or {}).get("controller-revision-hash")
            return bool(labels.get("controller-revision-hash") == hashed)
        number = (body["metadata"].get("annotations") or {}).get("deprecated.daemonset.template.generation")
        return bool(labels.get("pod-template-generation") == number)
    return True
