"""Whether an object is healthy at its generation, as pure rules over what the API server says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import View, condition, is_ending, is_true, uid

RESTARTED = 10.0
"""Seconds that a container must run after a restart: the first pause of the kubelet's before it tries once more."""

Ages = Callable[[str, Object], float]
"""Seconds that a container has been running for, by its pod's uid and its status; 0 when it is not running."""


@dataclass(frozen=True)
class Health:
    """How an object is.

    :param ready: how many of its parts are ready, and ``wanted`` how many there are to be.
    :param why: what is missing; empty when healthy.
    :param kept: how many of them may be of an old revision: those below a partition, or all with ``OnDelete``.
    """

    ready: int
    wanted: int
    why: str = ""
    kept: int = 0

    @property
    def healthy(self) -> bool:
        """True when nothing is missing."""
        return not self.why


def moment(text: object) -> float | None:
    """Return a time stamp of the API server as seconds since 1970; None for what is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def health(view: View, *, to_end: bool = False) -> Health:
    """Say how an object is; one of a kind without conventions is healthy once it is there.

    :param to_end: a Job must have run to its end: a suspended one is not healthy.
    """
    body = view.body
    if body is None:
        return Health(0, 1, "it is not there")
    if is_ending(body):
        return Health(0, 1, "it is being deleted")
    if view.kind == "Job":
        return _job(body, to_end=to_end)
    if view.kind == "Pod":
        done = (body.get("status") or {}).get("phase") == "Succeeded" or is_ready(body)
        return Health(int(done), 1, "" if done else "it is not ready")
    if view.kind:
        found = {"Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set}.get(
            view.kind, _replicas
        )(_Counts(body))
        if _unseen(body):
            return Health(0, found.wanted, "its controller has not taken up the change yet")
        if view.kind == "Deployment" and not view.blind:
            return Health(sum(map(is_ready, view.pods)), found.wanted, found.why)  # its count has the old ones in it
        return found
    return _custom(body)


def is_ready(pod: Object) -> bool:
    """Whether Kubernetes takes a pod for ready."""
    return is_true(pod, "Ready")


class _Counts:
    """The numbers of a workload; those that the API server leaves out are 0."""

    def __init__(self, body: Object) -> None:
        self.spec: Object = body.get("spec") or {}
        self._status: Object = body.get("status") or {}
        wanted = self.spec.get("replicas")
        self.wanted = 1 if wanted is None else int(wanted)

    def __getitem__(self, name: str) -> int:
        return int(self._status.get(name) or 0)

    def has(self, name: str) -> bool:
        return name in self._status


def _unseen(body: Object) -> bool:
    return int((body.get("status") or {}).get("observedGeneration") or 0) < int(body["metadata"].get("generation") or 0)


def _deployment(counts: _Counts) -> Health:
    wanted, updated, available = counts.wanted, counts["updatedReplicas"], counts["availableReplicas"]
    ready = min(updated, counts["readyReplicas"])
    if updated < wanted:
        why = f"{updated} of {wanted} pods are of the new revision"
    elif (old := counts["replicas"] - updated) > 0:
        why = f"{old} old {_pods(old)} still there"
    else:
        why = _available(available, wanted)
    return Health(ready, wanted, why)


def _stateful_set(counts: _Counts) -> Health:
    wanted, ready, updated = counts.wanted, counts["readyReplicas"], counts["updatedReplicas"]
    available = counts["availableReplicas"] if counts.has("availableReplicas") else ready  # servers before 1.22
    strategy = counts.spec.get("updateStrategy") or {}
    new = wanted - int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    if strategy.get("type") == "OnDelete":
        new = 0  # people delete its pods, when they want new ones
    if updated < new:
        why = f"{updated} of {new} pods are of the new revision"
    elif (old := counts["replicas"] - wanted) > 0:
        why = f"{old} {_pods(old)} too many"
    else:
        why = _available(min(ready, available), wanted)
    return Health(min(ready, updated) if new >= wanted else ready, wanted, why, wanted - max(0, min(new, wanted)))


def _daemon_set(counts: _Counts) -> Health:
    wanted, updated = counts["desiredNumberScheduled"], counts["updatedNumberScheduled"]
    new = 0 if (counts.spec.get("updateStrategy") or {}).get("type") == "OnDelete" else wanted
    if updated < new:
        why = f"{updated} of {new} pods are of the new revision"
    else:
        why = _available(counts["numberAvailable"], wanted)
    return Health(min(counts["numberReady"], updated) if new else counts["numberReady"], wanted, why, wanted - new)


def _replicas(counts: _Counts) -> Health:
    wanted = counts.wanted
    if (old := counts["replicas"] - wanted) > 0:
        return Health(counts["readyReplicas"], wanted, f"{old} {_pods(old)} too many")
    return Health(counts["readyReplicas"], wanted, _available(counts["availableReplicas"], wanted))


def _available(available: int, wanted: int) -> str:
    return f"{available} of {wanted} pods are available" if available < wanted else ""


def _pods(number: int) -> str:
    return "pod is" if number == 1 else "pods are"


def _job(body: Object, *, to_end: bool) -> Health:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    wanted = int(spec.get("completions") or 1)
    done = int(status.get("succeeded") or 0)
    if is_true(body, "Complete"):
        return Health(done, wanted)
    if spec.get("suspend"):
        return Health(done, wanted, "it is suspended" if to_end else "")
    if is_true(body, "Failed") or is_true(body, "FailureTarget"):
        return Health(done, wanted, "it has failed")
    return Health(done, wanted, "it has not completed yet")


# Custom resources


def _custom(body: Object) -> Health:
    """Follow the conventions that kstatus (of kpt, Flux and others) describes; conditions of an old generation wait."""
    status = body.get("status") or {}
    generation = body["metadata"].get("generation")
    if not isinstance(status, dict) or generation is None:
        return Health(1, 1)
    seen = status.get("observedGeneration")
    if isinstance(seen, int) and seen < generation:
        return Health(0, 1, "its controller has not taken up the change yet")
    if is_true(body, "Reconciling"):
        return Health(0, 1, _said(condition(body, "Reconciling"), "Reconciling"))
    for kind in ("Stalled", "Failed", "Degraded"):
        if is_true(body, kind):
            return Health(0, 1, _said(condition(body, kind), kind))
    for kind in ("Ready", "Available"):
        one = condition(body, kind)
        if one is None:
            continue
        if isinstance(one.get("observedGeneration"), int) and one["observedGeneration"] < generation:
            return Health(0, 1, "its controller has not taken up the change yet")
        if one.get("status") != "True":
            return Health(
                0, 1, _said(one, f"not {kind}" if one.get("status") == "False" else f"not known to be {kind}")
            )
    return Health(1, 1)


def _said(one: Object | None, name: str) -> str:
    told = [str(part) for part in ((one or {}).get("reason"), (one or {}).get("message")) if part]
    return f"it is {name}: {': '.join(told)}" if told else f"it is {name}"


# Containers that nothing probes


def containers(pod: Object) -> Iterator[tuple[Object, Object]]:
    """Yield ``(spec, status)`` of the containers that run as long as their pod does, sidecars among them."""
    statuses = {
        str(one["name"]): one
        for kind in ("initContainerStatuses", "containerStatuses")
        for one in (pod.get("status") or {}).get(kind) or ()
    }
    spec = pod.get("spec") or {}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for one in (*sidecars, *(spec.get("containers") or ())):
        yield one, statuses.get(str(one["name"]), {})


def unsettled(view: View, found: Health, ages: Ages, settle: float) -> float:
    """Return in how many seconds enough pods may count, as far as time decides; 0: now, infinity: no time will do.

    Each start of a container that nothing probes is available to Kubernetes, one in a crash loop too: it counts after
    ``settle`` seconds, after a restart only when it has run for longer than the kubelet's first pause. The pods are
    told of apart from their workload, which may be ahead of them.
    """
    if view.kind in ("", "Job") or found.wanted == 0:
        return 0.0
    if view.kind == "Pod" and (view.body or {}).get("status", {}).get("phase") == "Succeeded":
        return 0.0
    old = sum(is_ready(pod) and not is_ending(pod) for pod in view.others)
    rests = [_rest(pod, ages, settle) for pod in view.pods if is_ready(pod)] + [0.0] * min(found.kept, old)
    return sorted(rests)[found.wanted - 1] if len(rests) >= found.wanted else float("inf")


def _rest(pod: Object, ages: Ages, settle: float) -> float:
    rest = 0.0
    for spec, status in containers(pod):
        if settle > 0 and "readinessProbe" not in spec:
            needed = max(settle, RESTARTED) if status.get("restartCount") else settle
            rest = max(rest, needed - ages(uid(pod), status))
    return rest


class Starts:
    """How long containers have been running, by this machine's clock.

    What ran before it was first seen is told by the API server's clock, where that is known: the two may differ.

    :param now: this machine's monotonic clock.
    :param server: the API server's time, in seconds since 1970; None when it is not known.
    """

    def __init__(self, now: Callable[[], float], server: float | None) -> None:
        self._now = now
        self._ahead = None if server is None else server - now()
        self._seen: dict[tuple[Any, ...], float] = {}

    def age(self, pod: str, status: Object) -> float:
        """Return the seconds since a container started; 0 when it is not running."""
        running = (status.get("state") or {}).get("running")
        if running is None:
            return 0.0
        now = self._now()
        key = (pod, status.get("name"), running.get("startedAt"), status.get("restartCount"))
        if key not in self._seen:
            self._seen[key] = now - self._before(running.get("startedAt"), now)
        return now - self._seen[key]

    def _before(self, started: object, now: float) -> float:
        at = moment(started)
        if at is None or self._ahead is None:
            return 0.0
        return max(0.0, now + self._ahead - at - 1.0)  # time stamps are whole seconds
