"""When a rollout is doomed: pure rules over what the API server says of a workload, its pods and their events.

What is wrong is a fault, and how long it must stand depends on its kind. A charge is a set of faults that together
doom a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deploy_guard.drivers.kubernetes.faults import Fault, line, missing_in, pod_faults, sentence
from deploy_guard.drivers.kubernetes.health import Ages
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import View, condition, is_ending, is_true, uid

_CREATING = frozenset({"FailedCreate", "SuccessfulCreate"})


@dataclass(frozen=True)
class Charge:
    """What dooms a workload when in each group one fault has stood for its dwell time."""

    groups: tuple[tuple[Fault, ...], ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All of its faults."""
        return tuple(fault for group in self.groups for fault in group)


def charges(view: View, ages: Ages) -> list[Charge]:
    """Return all that speaks against a workload; nothing while its controller has not taken up the change.

    Only all pods of a ReplicaSet or a Job doom it, as one of several may do better elsewhere. Of a StatefulSet and a
    DaemonSet any pod does: their pods are not alike.
    """
    body = view.body
    if body is None or is_ending(body):
        return [_alone(_deleted(view))]
    if _is_behind(body):
        return []
    found = [_alone(fault) for fault in _of_object(view, body)]
    if not view.kind:
        return found
    by_pod = [_faults(pod, view, ages) for pod in view.pods if not _is_replaced(pod, view)]
    if view.kind in ("StatefulSet", "DaemonSet"):
        return found + [Charge((faults,)) for faults in by_pod if faults]
    return [*found, Charge(tuple(by_pod))] if by_pod and all(by_pod) else found


def _alone(fault: Fault) -> Charge:
    return Charge(((fault,),))


def _is_behind(body: Object) -> bool:
    status = body.get("status")
    seen = status.get("observedGeneration") if isinstance(status, dict) else None
    if not isinstance(seen, int):
        return False  # Jobs and pods have none; of others it is missing until their controller comes, with all the rest
    return seen < int(body["metadata"].get("generation") or 0)


def _faults(pod: Object, view: View, ages: Ages) -> tuple[Fault, ...]:
    found = pod_faults(pod, view.events.get(uid(pod), ()), ages, counts=view.kind == "Job")
    leaving = any(map(is_ending, view.others))  # the room that those take is needed first
    return tuple(fault for fault in found if not (leaving and fault.kind == "unschedulable"))


def _is_replaced(pod: Object, view: View) -> bool:
    """Whether its controller makes another in place of it, or is done with it."""
    phase = (pod.get("status") or {}).get("phase")
    if phase == "Succeeded" or (phase == "Failed" and view.kind == "Job"):
        return True
    return phase == "Failed" and any((one.get("status") or {}).get("phase") != "Failed" for one in view.pods)


# The workload itself


def _deleted(view: View) -> Fault:
    hint = "find out who deleted it, then release again"
    if view.body is not None:
        return Fault("final", "Deleted", "somebody deletes it", uid(view.body), hint=hint)
    if view.ref.key.kind == "Job":
        hint += "; a ttlSecondsAfterFinished of 0 removes a Job before anybody can see how it ended"
    return Fault("final", "Deleted", "it is gone: somebody deleted it meanwhile", str(view.ref), hint=hint)


def _of_object(view: View, body: Object) -> Iterator[Fault]:
    if not view.kind:
        yield from _of_custom(body)
        return
    if view.kind == "Job":
        for kind in ("Failed", "FailureTarget"):
            if failed := _told(body, kind):
                yield Fault("final", *failed, uid(body), hint="read the log of its pod, and mend what it does")
                return
    elif view.kind == "Deployment":
        yield from _of_deployment(view, body)
    yield from _not_created(view, body)


def _of_custom(body: Object) -> Iterator[Fault]:
    for kind in ("Stalled", "Failed", "Degraded"):
        seen = (condition(body, kind) or {}).get("observedGeneration")
        is_old = isinstance(seen, int) and seen < int(body["metadata"].get("generation") or 0)
        if not is_old and (told := _told(body, kind)):
            hint = "see what its controller says of it"
            yield Fault("other", told[0], f"it is {kind}: {told[1]}", uid(body), hint=hint)


def _of_deployment(view: View, body: Object) -> Iterator[Fault]:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    updated, wanted = int(status.get("updatedReplicas") or 0), int(spec.get("replicas", 1))
    if spec.get("paused") and (updated < wanted or int(status.get("replicas") or 0) > updated):
        hint = f"kubectl rollout resume deployment/{view.ref.key.name}, or take `paused` out of the manifest"
        yield Fault("other", "DeploymentPaused", "it is paused: its pods are not replaced", uid(body), hint=hint)
    told = _told(body, "Progressing", "False")
    if told and told[0] in ("ProgressDeadlineExceeded", "ReplicaSetCreateError"):
        # What an earlier rollout left behind goes as soon as this one makes progress: hence the dwell.
        hint = "see what its pods wait for; raise progressDeadlineSeconds if they only take longer"
        yield Fault("other", *told, uid(body), hint=hint)


def _not_created(view: View, body: Object) -> Iterator[Fault]:
    """Tell that pods can't be created: a quota, a webhook, a missing service account."""
    if any(map(is_ending, view.others)):
        return  # the room that they take is needed first
    maker, said = view.maker or body, ""
    if view.kind in ("Deployment", "ReplicaSet", "ReplicationController"):
        told = _told(maker, "ReplicaFailure")
        said = told[1] if told and told[0] == "FailedCreate" else ""
    elif _lacks_pods(view, body):
        events = [one for one in view.events.get(uid(body), ()) if one.get("reason") in _CREATING]
        said = sentence("FailedCreate", "", events[-1].get("message")) if _is_failure(events) else ""
    if said:
        created = sum(not is_ending(pod) for pod in view.pods)
        missing = missing_in(said)
        hint = "mend what forbids them: an admission webhook, a policy"
        if missing:
            hint = f"make {missing}" if missing.kind == "ResourceQuota" else f"add {missing} to the release"
        message, about = f"its pods can't be created: {said}", f"{uid(maker)} has {created}"
        yield Fault("other", "FailedCreate", message, about, hint=hint, missing=missing)


def _is_failure(events: list[Object]) -> bool:
    return bool(events) and events[-1]["reason"] == "FailedCreate"


def _lacks_pods(view: View, body: Object) -> bool:
    spec, status = body.get("spec") or {}, body.get("status") or {}
    if view.kind == "StatefulSet":
        return int(status.get("replicas") or 0) < int(spec.get("replicas", 1))
    if view.kind == "DaemonSet":
        return int(status.get("currentNumberScheduled") or 0) < int(status.get("desiredNumberScheduled") or 0)
    over = is_true(body, "Complete") or is_true(body, "SuccessCriteriaMet") or spec.get("suspend")
    return view.kind == "Job" and not status.get("active") and not over


def _told(body: Object, kind: str, status: str = "True") -> tuple[str, str] | None:
    """Return the reason of a condition, and reason and message for people; None when it has not that status."""
    one = condition(body, kind) or {}
    if one.get("status") != status:
        return None
    reason = str(one.get("reason") or kind)
    return reason, sentence(reason, "", line(one.get("message")))
