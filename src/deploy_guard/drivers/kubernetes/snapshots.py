"""The snapshot of a rollout: what the way back needs to know, without the values of Secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.drivers.kubernetes import compare, merging, secrets_before, undo
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Object, Plan, Planned, Ref
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.drivers.kubernetes.views import World, is_ending, is_own, needs

_RUNS_PODS = frozenset(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController"))

Images = dict[str, dict[str, list[str]]]
"""The images that run: by the path of a workload, then by container."""


@dataclass(frozen=True)
class Saved:
    """One object of a snapshot; see :class:`objects.Planned`."""

    ref: Ref
    action: str
    phase: str
    rank: int
    taken: frozenset[tuple[str, str]]
    before: Object | None = field(repr=False)
    after: Object | None = field(repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Saved:
        """Read it from a snapshot."""
        return cls(
            Ref.from_json(data["ref"]),
            data["action"],
            data["phase"],
            data["rank"],
            frozenset((manager, operation) for manager, operation in data["taken"]),
            data["before"],
            data["after"],
        )

    @property
    def is_secret(self) -> bool:
        """Whether its values are elsewhere."""
        return self.ref.key.kind == "Secret" and self.ref.key.api_version == "v1"


def make(api: Api, planned: Plan, mode: str, target: Target, service: str) -> dict[str, Any]:
    """Describe everything that a rollout is about to change."""
    touched = [one for one in planned.objects if one.action != "none"]
    return {
        "service": service,
        "context": target.context,
        "namespace": target.namespace,
        "sequence": planned.sequence,
        "mode": mode,
        "plan": secrets_before.identity(planned),
        "objects": [_to_json(one) for one in touched],
        "images": images(api, [(one.ref, one.before) for one in touched if one.before is not None]),
    }


def read(data: Mapping[str, Any]) -> list[Saved]:
    """Return the objects of a snapshot; with ``mode`` undo what is wanted of workloads is their old template alone."""
    found = [Saved.from_json(one) for one in data["objects"]]
    return [undo.only_template(one) for one in found] if data["mode"] == "undo" else found


def images(api: Api, workloads: Iterable[tuple[Ref, Object]]) -> Images:
    """Return which images the pods of workloads run; of those of the newest revision."""
    those = [(ref, body) for ref, body in workloads if is_own(ref.key) and ref.key.kind in _RUNS_PODS]
    paths = sorted({path for ref, _ in those for path in needs(ref) if not path.endswith("/events")})
    world = World()
    for path, items in zip(paths, api.each(lambda path: _listed(api, path), paths), strict=True):
        if items is None:
            world.denied(path)
        else:
            world.listed(path, items)
    found: Images = {}
    for ref, body in those:
        world.changed(ref.collection, "ADDED", deepcopy(body))
        found[ref.path] = _running([pod for pod in world.view(ref).pods if not is_ending(pod)])
    return found


# The parts


def _listed(api: Api, path: str) -> list[Object] | None:
    """Return a collection; None where it may not be read: nothing is known of images then."""
    try:
        return api.items(path)[0]
    except ApiError as error:
        if error.status == 403:
            return None
        raise


def _running(pods: Iterable[Object]) -> dict[str, list[str]]:
    running: dict[str, set[str]] = {}
    for pod in pods:
        status = pod.get("status") or {}
        for one in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
            if one.get("imageID"):
                running.setdefault(str(one["name"]), set()).add(str(one["imageID"]))
    return {name: sorted(some) for name, some in sorted(running.items())}


def _to_json(one: Planned) -> dict[str, Any]:
    return {
        "ref": one.ref.to_json(),
        "action": one.action,
        "phase": one.phase,
        "rank": one.rank,
        "taken": [list(pair) for pair in one.taken],
        "before": _safe(one.before),
        "after": _safe(one.after),
        "applied": _safe(one.desired),
    }


def _safe(body: Object | None) -> Object | None:
    """Return an object as it may be kept: no Secret values, not even masked ones in kubectl's annotation."""
    if body is None or body.get("kind") != "Secret":
        return body
    hidden = compare.masked(body)
    annotations = (hidden.get("metadata") or {}).get("annotations")
    if annotations and merging.LAST_APPLIED in annotations:
        kept = {name: value for name, value in annotations.items() if name != merging.LAST_APPLIED}
        hidden = {**hidden, "metadata": {**hidden["metadata"], "annotations": kept}}
    return hidden
