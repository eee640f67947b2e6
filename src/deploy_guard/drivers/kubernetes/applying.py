"""Making the changes: in order, side by side where the order allows, and the record of the release at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import adoption, compare, dryrun, jobs, order, owners, phases, records, restoring
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.objects import Object, Plan, Planned
from deploy_guard.drivers.kubernetes.records import Entry, Record
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import RolloutDoomed

_ESTABLISHED = 30.0
"""Seconds within which the API server serves the kinds of a new definition; it takes less than one."""
_EVERY = 0.1
_SHOWN = 20
"""Lines about single objects; of a large release the others are counted."""

Progress = Callable[[str], None]


def apply(api: Api, planned: Plan, config: KubernetesConfig, target: Target, context: Context) -> None:
    """Apply what was planned, all but the Jobs of the phase after and what is removed.

    :raises RolloutDoomed: with everything that was refused; what is of a higher rank was not begun then.
    """
    try:
        _apply(api, planned, config, target, context)
    except Unreachable as error:
        raise RolloutDoomed(f"the apply was cut off: {error.what}", hint=error.hint) from error
    except ApiError as error:
        raise RolloutDoomed(f"the apply was refused: {error.what}", hint=error.hint) from error


def finish(
    api: Api, planned: Plan, config: KubernetesConfig, target: Target, context: Context, deadline: Deadline
) -> None:
    """Run the Jobs of the phase after, then remove what is no longer part of the release.

    :raises RolloutDoomed: when a Job fails, or an object can't be removed.
    """
    _jobs(api, planned, "after", lambda: min(config.timeout, deadline.remaining), config, context.progress)
    gone = [one for one in planned.objects if one.action == "remove"]
    try:
        for _, some in groupby(gone, key=lambda one: one.rank):
            _all(api, lambda one: _remove(api, one, target), list(some), "removed", context.progress)
    except Unreachable as error:
        raise RolloutDoomed(f"removing was cut off: {error.what}", hint=error.hint) from error


def _apply(api: Api, planned: Plan, config: KubernetesConfig, target: Target, context: Context) -> None:
    changed = [one for one in planned.objects if one.action in ("create", "change") and not one.phase]
    removed = [one for one in planned.objects if one.action == "remove"]
    answers: dict[str, Object] = {}
    if changed or removed:
        restoring.keep_secrets(api, planned, target, context.service)

    def send(one: Planned) -> None:
        answers[one.ref.path] = _send(api, one)

    def send_all(some: Sequence[Planned]) -> None:
        for rank, group in groupby(sorted(some, key=lambda one: one.rank), key=lambda one: one.rank):
            listed = list(group)
            _all(api, send, listed, "applied", context.progress)
            if rank == order.DEFINITION:
                _established(api, listed)

    first = phases.needed_first(planned.objects)
    send_all(first)
    _jobs(api, planned, "before", lambda: config.timeout, config, context.progress)
    send_all([one for one in changed if one not in first])
    if same := sum(one.action == "none" for one in planned.objects):
        print(f"{same} unchanged")
    _record(api, planned, answers, target, context)


def _jobs(
    api: Api, planned: Plan, phase: str, timeout: Callable[[], float], config: KubernetesConfig, progress: Progress
) -> None:
    for one in planned.objects:
        if one.phase == phase and one.action != "none":
            jobs.run(api, one, timeout(), progress, config.dwell)
            print(f"{one.ref} of the phase {phase} is complete")


def _all(api: Api, function: Callable[[Planned], None], over: Sequence[Planned], word: str, progress: Progress) -> None:
    """Do it for all, and tell all that was refused; after a refusal nothing more is begun."""
    refused: list[tuple[Planned, ApiError]] = []
    done: set[str] = set()
    lock = threading.Lock()
    said = time.monotonic()

    def one(each: Planned) -> None:
        nonlocal said
        if refused:
            return
        try:
            function(each)
        except ApiError as error:
            refused.append((each, error))
            return
        with lock:
            done.add(each.ref.path)
            if (now := time.monotonic()) - said > _EVERY:
                said = now
                progress(f"{word} {len(done)} of {len(over)}")

    api.each(one, over)
    _tell([each for each in over if each.ref.path in done])
    if refused:
        raise _doomed(refused, len(over) - len(done) - len(refused))


def _tell(done: Sequence[Planned]) -> None:
    words = {"create": "created", "change": "changed", "remove": "removed"}
    for one in done[:_SHOWN]:
        print(f"{words[one.action]} {one.ref}")
    if more := done[_SHOWN:]:
        counts = (f"{sum(one.action == name for one in more)} {word}" for name, word in words.items())
        print(f"and {len(more)} more: {', '.join(text for text in counts if not text.startswith('0'))}")


def _doomed(refused: Sequence[tuple[Planned, ApiError]], rest: int) -> RolloutDoomed:
    lines, hints = [], []
    for one, error in refused:
        found = adoption.conflicts(error)
        if found:
            which = "; ".join(map(str, found))
            lines.append(f"  {one.ref}: somebody changed it since the plan: {which}")
            hints.append("plan again: the new plan shows what they changed")
        else:
            lines.append(f"  {one.ref}: {dryrun.words(error, one.desired)}".replace("\n", "\n    "))
    if rest:
        lines.append(f"  {rest} more of the same rank were not begun")
    return RolloutDoomed(
        "the API server refuses what it took as a dry run:\n" + "\n".join(lines), hint="; ".join(dict.fromkeys(hints))
    )


def _send(api: Api, one: Planned) -> Object:
    """Apply one object and return it as it is now."""
    deadline = Deadline.after(_ESTABLISHED)
    while True:
        body, query = one.desired, dryrun.QUERY
        assert body is not None
        live = adoption.take(api, one) if one.taken else None
        if live is not None and not owners.entries(live):
            # Older than managedFields: nobody's entry can be taken over. What was looked at is what is overwritten.
            version = {"resourceVersion": live["metadata"]["resourceVersion"]}
            body, query = {**body, "metadata": {**body["metadata"], **version}}, {**query, "force": "true"}
        try:
            return api.request("PATCH", one.ref.path, body, query=query, content_type=dryrun.APPLY)
        except ApiError as error:
            # A kind that came with this release is served a moment after it is said to be.
            soon = error.status == 404 and one.after is None
            changed = error.status == 409 and "force" in query
            if not (soon or changed) or deadline.expired:
                raise
            time.sleep(_EVERY)


def _established(api: Api, definitions: Sequence[Planned]) -> None:
    """Wait until the API server serves the kinds of new definitions."""
    deadline = Deadline.after(_ESTABLISHED)
    for one in definitions:
        while not _serves(api.get(one.ref.path)):
            if deadline.expired:
                raise RolloutDoomed(
                    f"the API server does not serve the kind of {one.ref} after {deadline.limit:g} s",
                    hint=f"kubectl describe customresourcedefinition {one.ref.key.name} says why",
                )
            time.sleep(_EVERY)


def _serves(crd: Object | None) -> bool:
    conditions = ((crd or {}).get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Established" and one.get("status") == "True" for one in conditions)


def _remove(api: Api, one: Planned, target: Target) -> None:
    """Delete an object of an earlier release, unless it is another one by now."""
    assert one.before is not None
    options = {"preconditions": {"uid": one.before["metadata"]["uid"]}, "propagationPolicy": "Background"}
    try:
        api.request("DELETE", one.ref.path, {"apiVersion": "v1", "kind": "DeleteOptions", **options})
    except ApiError as error:
        if error.status == 409:
            command = target.shown("delete", f"{one.ref.key.kind.lower()}/{one.ref.key.name}")
            print(f"{one.ref} was made anew by somebody since the plan, and stays; to delete it: {command}")
        elif error.status != 404:
            raise


def _record(api: Api, planned: Plan, answers: Mapping[str, Object], target: Target, context: Context) -> None:
    """Write what was released, unless the last record says just that."""
    version, commit = context.environ.get("VERSION"), context.environ.get("COMMIT")
    kept = [one for one in planned.objects if one.action != "remove"]
    unchanged = all(one.action == "none" for one in planned.objects)
    last = records.last(api, target.namespace, context.service) if unchanged or planned.left else None
    if unchanged and last is not None and last.version == version and _names(kept) == _names(last.objects):
        return
    known = {records.identity(one.ref.key): one for one in [*last.objects, *last.left]} if last else {}
    left = tuple(known.get(records.identity(ref.key), Entry(ref)) for ref in planned.left)
    entries = tuple(_entry(one, answers.get(one.ref.path)) for one in kept)
    sequence = records.write(
        api, target.namespace, context.service, Record(version, commit, entries, left, planned.sequence)
    )
    print(f"record {sequence} of the release is written")


def _names(some: Iterable[Planned] | Iterable[Entry]) -> set[tuple[str, str, str, str]]:
    return {records.identity(one.ref.key) for one in some}


def _entry(one: Planned, answer: Object | None) -> Entry:
    assert one.desired is not None
    there = answer or one.before
    # Jobs of phases come and go: which object it was says nothing.
    uid = "" if there is None or one.phase else str(there["metadata"].get("uid", ""))
    state = answer or one.after or one.desired
    return Entry(one.ref, uid, records.applied(compare.clean(one.desired), state))
