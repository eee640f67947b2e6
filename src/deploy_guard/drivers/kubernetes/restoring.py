"""The way back: every field that the rollout changed is as it was, and belongs to whom it belonged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import (
    commands,
    order,
    records,
    returning,
    secrets_before,
    snapshots,
    undo,
    waiting,
)
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.health import health
from deploy_guard.drivers.kubernetes.objects import Plan, Ref
from deploy_guard.drivers.kubernetes.returning import Way
from deploy_guard.drivers.kubernetes.snapshots import Saved
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.drivers.kubernetes.views import View, is_waited
from deploy_guard.errors import DeployGuardError, PlanRejected, RollbackFailed

Progress = Callable[[str], None]


def snapshot(api: Api, planned: Plan, config: KubernetesConfig, target: Target, service: str) -> dict[str, Any]:
    """Describe everything that a rollout is about to change; nothing in the cluster changes."""
    try:
        return snapshots.make(api, planned, config.rollback, target, service)
    except (ApiError, Unreachable) as error:
        raise PlanRejected(f"there is no snapshot: {error.what}", hint=error.hint) from error


def keep_secrets(api: Api, planned: Plan, target: Target, service: str) -> None:
    """Keep the old Secrets of a rollout in the cluster, before anything is applied."""
    secrets_before.keep(api, planned, target.namespace, service)


def rollback(
    api: Api, data: Mapping[str, Any], deadline: Deadline, config: KubernetesConfig, target: Target, progress: Progress
) -> None:
    """Bring back what was there before, from the snapshot alone; a second time it changes nothing.

    :raises RollbackFailed: with everything that could not be brought back.
    """
    saved = snapshots.read(data)
    way = Way(api, deadline, target, progress)
    for line in commands.for_rollback(config, target, _workloads(saved)):
        print(line)
    waited = _undo(way, saved) if data["mode"] == "undo" else _restore(way, saved, data)
    namespace, service, sequence = data["namespace"], data["service"], data["sequence"]
    way.tried("the records of the release", lambda: records.back_to(api, namespace, service, sequence))
    _wait(way, waited, config)
    way.until_gone()
    if not way.failures:
        way.tried("the old Secrets' store", lambda: secrets_before.remove(api, namespace, service, data["plan"]))
    if way.failures:
        hints = "; ".join(dict.fromkeys(hint for _, hint in way.failures if hint))
        lines = "\n".join(f"  {what}" for what, _ in way.failures)
        raise RollbackFailed(f"not everything is as it was before:\n{lines}", hint=hints)


def _restore(way: Way, saved: Sequence[Saved], data: Mapping[str, Any]) -> list[Ref]:
    """Bring back all objects; returns what is to be waited for."""
    if any(one.is_secret and one.action in ("change", "remove") for one in saved):
        way.secrets = way.tried(
            "the old Secrets' store",
            lambda: secrets_before.find(way.api, data["namespace"], data["service"], data["plan"]),
        )
    created = [one for one in saved if one.action == "create"]
    back = [one for one in saved if one.action in ("change", "remove")]
    # What watches over other objects goes first: a new webhook that does not answer refuses all that follows.
    way.side_by_side(returning.delete, [one for one in created if one.rank == order.GUARD])
    way.by_rank(returning.bring_back, [one for one in back if one.rank == order.GUARD])
    way.by_rank(returning.bring_back, [one for one in back if one.rank != order.GUARD])
    way.by_rank(returning.delete, [one for one in created if one.rank != order.GUARD], reverse=True)
    return _were_well(one for one in back if one.ref.path in way.restored and one.ref.key.kind != "Job")


def _undo(way: Way, saved: Sequence[Saved]) -> list[Ref]:
    """Bring back pod templates; the rest is listed."""
    undone = [one for one in saved if undo.undoes(one)]
    way.by_rank(returning.bring_back, undone)
    words = {"create": "created", "change": "changed", "remove": "removed"}
    for one in saved:
        if one not in undone:
            print(f'left as it is (rollback = "undo"): {one.ref}, which the rollout {words[one.action]}')
    return _were_well(one for one in undone if one.ref.path in way.restored)


def _were_well(restored: Iterable[Saved]) -> list[Ref]:
    """Return what was healthy before the rollout: what was not need not become so by going back."""
    found = []
    for one in restored:
        why = health(View(one.ref, one.before, blind=True)).why if is_waited(one.ref.key) else ""
        if why:
            print(f"{one.ref} was not healthy before the rollout ({why}): it is as it was, and is not waited for")
        else:
            found.append(one.ref)
    return found


def _wait(way: Way, refs: Sequence[Ref], config: KubernetesConfig) -> None:
    waited = [ref for ref in refs if is_waited(ref.key)]
    try:
        waiting.wait(way.api, waited, way.deadline, config.dwell, way.progress, unblocks=True)
    except DeployGuardError as error:
        way.fail(f"what is restored does not become healthy: {error.what}", error.hint)


def _workloads(saved: Sequence[Saved]) -> list[str]:
    return [f"{one.ref.key.kind.lower()}/{one.ref.key.name}" for one in saved if undo.undoes(one)]
