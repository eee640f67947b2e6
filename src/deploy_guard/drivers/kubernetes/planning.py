"""What a release would change: everything is sent as a dry run and compared; nothing in the cluster changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from deploy_guard.drivers.kubernetes import (
    adoption,
    compare,
    drift,
    dryrun,
    order,
    owners,
    permissions,
    phases,
    records,
    refusals,
)
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.discovery import Resource, Resources
from deploy_guard.drivers.kubernetes.dryrun import Trial
from deploy_guard.drivers.kubernetes.live import Live
from deploy_guard.drivers.kubernetes.objects import Action, Key, Manifest, Object, Plan, Planned, Ref
from deploy_guard.drivers.kubernetes.records import Record
from deploy_guard.drivers.kubernetes.refusals import Problems
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import PlanRejected

_OF_A_JOB = ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name")


@dataclass
class _Seen:
    """What the API server said, before anything is decided."""

    trials: list[Trial]
    live: Live
    record: Record | None
    rules: list[Mapping[str, Any]]
    resources: dict[Key, Resource] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)


def plan(api: Api, manifests: Sequence[Manifest], config: KubernetesConfig, target: Target, service: str) -> Plan:
    """Say what applying these manifests would do.

    :raises PlanRejected: with everything that is wrong.
    """
    try:
        return _plan(api, manifests, config, target, service)
    except ApiError as error:
        raise PlanRejected(f"the API server refuses to be asked for the plan: {error.what}", hint=error.hint) from error
    except Unreachable as error:
        raise PlanRejected(f"there is no plan: {error.what}", hint=error.hint) from error


def digest(planned: Plan) -> str:
    """Return what identifies the changes; values of Secrets are no part of it, since they could be guessed from it."""
    lines = [
        json.dumps(
            [
                [one.ref.key.api_version, one.ref.key.kind, one.ref.key.namespace, one.ref.key.name],
                [one.action, one.phase, one.taken, one.diff],
                compare.masked(one.desired) if one.desired is not None else None,
            ],
            sort_keys=True,
        )
        for one in planned.objects
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plan(api: Api, manifests: Sequence[Manifest], config: KubernetesConfig, target: Target, service: str) -> Plan:
    seen = _look(api, manifests, adoption.managers(config.adopt), target.namespace, service)
    _take_over(api, seen, adoption.managers(config.adopt))
    planned = [_planned(trial, seen, config) for trial in seen.trials]
    planned = _jobs_again(planned, seen)
    removed, left, notes = _left(seen, config, target)
    ordered = [*sorted(planned, key=_place), *sorted(removed, key=lambda one: -one.rank)]

    wanted = permissions.needed(ordered, seen.resources, target.namespace)
    lacking = permissions.missing(api, wanted, seen.rules, target.namespace)
    drifted = _drifted(seen, {records.identity(one.ref.key): one for one in ordered})
    lines = drift.few([line for lines in drifted.values() for line in lines])
    refusals.judge(api, seen.trials, seen.live, lacking, config, target, seen.problems)
    if seen.problems.lines:
        raise refusals.rejected(seen.problems, lines)

    ordered = [_with_drift(one, drifted.get(one.ref.key, [])) for one in ordered]
    said = [f"drift: {line}" for line in lines]
    notes = [*_unchecked(seen.trials), *said, *_still_owned(seen, config), *phases.notes(ordered), *notes]
    record = seen.record
    return Plan(
        tuple(ordered),
        record.sequence if record else 0,
        record.version if record else None,
        tuple(left),
        tuple(notes),
    )


# Asking


def _look(api: Api, manifests: Sequence[Manifest], allowed: frozenset[str], namespace: str, service: str) -> _Seen:
    """Ask the API server for everything, as much as possible side by side."""
    resources = Resources(api)
    versions = sorted({str(one.body["apiVersion"]) for one in manifests})
    rules: list[Mapping[str, Any]] = []
    last: list[Record | None] = []

    def remember() -> None:
        try:
            last.append(records.last(api, namespace, service))
        except ApiError as error:
            if error.status != 403:  # that is told with the other rights that are missing
                raise

    _all(
        api,
        remember,
        lambda: rules.extend(permissions.review(api, namespace)),
        *(partial(lambda version: resources.know(version, resources.asked(version)), version) for version in versions),
    )
    for one in manifests:
        if order.rank(one.body) == order.DEFINITION:
            resources.learn(one.body)
    problems = Problems()
    trials = refusals.known(manifests, resources, namespace, problems)
    record = last[0] if last else None
    entries = [*record.objects, *record.left] if record else []
    refs = {records.identity(trial.ref.key): trial.ref for trial in trials if not trial.resource.promised}
    for entry in entries:
        refs.setdefault(records.identity(entry.ref.key), entry.ref)
    live = Live(api, refs.values())
    new = {one.manifest.name for one in trials if one.ref.key.kind == "Namespace"}
    for trial in trials:
        if trial.resource.promised:
            trial.unchecked = "its kind comes with this release"
    work = [partial(dryrun.run, api, trial, allowed) for trial in trials if not trial.unchecked]
    _all(api, *live.thunks(), *work)
    for trial in trials:
        if trial.refused is not None and refusals.no_namespace(trial.refused) and trial.ref.key.namespace in new:
            trial.refused, trial.unchecked = None, "its namespace comes with this release"
    found = {trial.ref.key: trial.resource for trial in trials}
    return _Seen(trials, live, record, rules, found, problems)


def _all(api: Api, *work: Callable[[], object]) -> None:
    api.each(lambda one: one(), work)


def _take_over(api: Api, seen: _Seen, allowed: frozenset[str]) -> None:
    """Ask how objects would be without what the managers that are taken from leave behind."""
    if not allowed:
        return
    work = []
    for trial in seen.trials:
        live = seen.live.get(trial.ref)
        entries = adoption.takeable(live, allowed)
        if live is None or not entries or trial.conflicts or trial.again:
            continue
        if trial.answer is None and (trial.refused is None or trial.refused.status != 422):
            continue
        if trial.answer is not None:
            trial.sets = owners.fields(owners.ours(trial.answer))
        else:
            trial.sets = {owners.field(path) for path in compare.leaves(trial.desired)}
        work.append(partial(dryrun.foresee, api, trial, live, entries))
    _all(api, *work)


# Deciding


def _planned(trial: Trial, seen: _Seen, config: KubernetesConfig) -> Planned:
    """Say what happens to one object of the release."""
    before, after, desired = seen.live.get(trial.ref), trial.answer, trial.desired
    entries = adoption.takeable(before, adoption.managers(config.adopt))
    action: Action
    if before is None:
        action, diff = "create", compare.diff(None, desired)
    elif after is None:
        action, diff = "change", ""  # refused, or it can't be checked yet
    else:
        old, new = (_comparable(body, trial.phase) for body in (before, after))
        lines = [compare.diff(old, new)] if old != new or trial.again else []
        lines += adoption.summary(trial.sets, entries)
        if not lines and not _owned_alike(before, after):
            lines = ["@ nothing but the field manager: deploy-guard owns these fields from now on"]
        if trial.again:
            lines.append("@ a Job's template can't be changed: the old Job is replaced, and runs again")
        action, diff = ("change" if lines else "none"), "\n".join(filter(None, lines))
    taken = adoption.names(entries)
    unnamed = set(trial.forced) - {name for name, _ in taken}  # of an object older than managedFields
    taken += tuple((name, "Update") for name in sorted(unnamed))
    return Planned(trial.ref, action, desired, before, after, trial.phase, order.rank(desired), taken, diff)


def _comparable(body: Object, phase: str) -> Object:
    """Return the desired state; of a Job without the marks that each new one gets."""
    cleaned = compare.clean(body)
    if not phase:
        return cleaned
    spec = {name: value for name, value in cleaned["spec"].items() if name != "selector"}
    template = dict(spec.get("template") or {})
    template["metadata"] = _unmarked(template.get("metadata") or {})
    spec["template"] = template
    return {**cleaned, "metadata": _unmarked(cleaned["metadata"]), "spec": spec}


def _unmarked(meta: Mapping[str, Any]) -> dict[str, Any]:
    labels = {name: value for name, value in (meta.get("labels") or {}).items() if name not in _OF_A_JOB}
    return {**meta, "labels": labels}


def _owned_alike(before: Object, after: Object) -> bool:
    """Say whether deploy-guard owns the same fields as before."""
    old, new = owners.ours(before) or {}, owners.ours(after) or {}
    return old.get("fieldsV1") == new.get("fieldsV1")


def _jobs_again(planned: list[Planned], seen: _Seen) -> list[Planned]:
    """Let the Jobs of phases run once for each release that changes anything."""
    before = {records.identity(entry.ref.key): entry for entry in (seen.record.objects if seen.record else ())}
    stands = {one.ref: _job_stands(one, before.get(records.identity(one.ref.key))) for one in planned if one.phase}
    if all(stands.get(one.ref, one.action == "none") for one in planned):
        return [replace(one, action="none", diff="") if one.phase else one for one in planned]
    return [
        replace(one, action="change", diff="@ runs again: " + _why_again(stands[one.ref]))
        if one.phase and one.action == "none"
        else one
        for one in planned
    ]


def _why_again(stands: bool) -> str:
    return "the release changes something else" if stands else "it did not complete"


def _job_stands(one: Planned, entry: records.Entry | None) -> bool:
    """Say whether a Job of a phase did, with the last release, what it would do now."""
    if one.before is not None:
        return one.action == "none" and _complete(one.before)
    # It was removed after its time, as Jobs are.
    return entry is not None and one.after is not None and one.desired is not None and entry.applied == _set(one)


def _set(one: Planned) -> Object:
    assert one.desired is not None
    assert one.after is not None
    return records.applied(compare.clean(one.desired), one.after)


def _complete(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Complete" and one.get("status") == "True" for one in conditions)


def _place(one: Planned) -> tuple[int, int]:
    if one.rank == order.NAMESPACE and one.action == "create":
        return 0, 0
    return {"before": 1, "": 2, "after": 3}.get(one.phase, 2), one.rank


# What others did, and what is left behind


def _drifted(seen: _Seen, planned: Mapping[tuple[str, ...], Planned]) -> dict[Key, list[str]]:
    """Return lines about what is not as the last release left it, by object."""
    found: dict[Key, list[str]] = {}
    for entry in seen.record.objects if seen.record else ():
        one = planned.get(records.identity(entry.ref.key))
        live = seen.live.get(one.ref if one is not None else entry.ref)
        if live is None and (entry.ref.path in seen.live.refused or _passing(entry.applied)):
            continue
        if one is not None and one.ref.key.api_version != entry.ref.key.api_version:
            continue  # written in another version: its fields may have other names
        after = None if one is None or one.action == "remove" else one.after or one.desired
        lines = [each.said(after) for each in drift.of(entry, live)]
        if lines:
            found[one.ref.key if one is not None else entry.ref.key] = lines
    return found


def _passing(body: Object) -> bool:
    """Say whether it is a Job that goes away by itself, or by the next release."""
    return body.get("kind") == "Job"


def _with_drift(one: Planned, lines: Sequence[str]) -> Planned:
    if not lines or one.action == "none":
        return one
    said = [f"@ drift: {line.removeprefix(f'{one.ref.key} ')}" for line in drift.few(list(lines))]
    return replace(one, diff="\n".join([one.diff, *said] if one.diff else said))


def _left(seen: _Seen, config: KubernetesConfig, target: Target) -> tuple[list[Planned], list[Ref], list[str]]:
    """Return what of earlier releases is to be removed, what stays, and why."""
    present = {records.identity(trial.ref.key) for trial in seen.trials}
    removed: list[Planned] = []
    left: list[Ref] = []
    notes: list[str] = []
    for entry in [*seen.record.objects, *seen.record.left] if seen.record else ():
        ref, live = entry.ref, seen.live.get(entry.ref)
        if records.identity(ref.key) in present:
            continue
        present.add(records.identity(ref.key))
        if error := seen.live.refused.get(ref.path):
            notes.append(f"can't look for {ref}, which is not in this release any more: {error.what}")
            left.append(ref)
        elif live is None or live["metadata"].get("deletionTimestamp"):
            continue
        elif why := _not_ours(entry, live):
            notes.append(f"{ref} is not in this release any more, and stays: {why}")
        elif ref.key.kind in order.KEPT or not config.prune:
            left.append(ref)
            why = "it is never deleted" if ref.key.kind in order.KEPT else "prune = false"
            command = target.shown("delete", f"{ref.key.kind.lower()}/{ref.key.name}")
            notes.append(
                f"left behind: {ref} is not in this release any more, and stays ({why}); to delete it: {command}"
            )
        else:
            seen.resources[ref.key] = _resource_of(ref)
            removed.append(
                Planned(ref, "remove", None, live, None, rank=order.rank(live), diff=compare.diff(live, None))
            )
    return removed, left, notes


def _not_ours(entry: records.Entry, live: Object) -> str:
    """Say why an object is no longer the one that was released; empty where it is."""
    if entry.uid and live["metadata"].get("uid") != entry.uid:
        return "somebody deleted it and made another of that name"
    set_by_us = set(compare.leaves(entry.applied)) - {(n,) for n in ("apiVersion", "kind")}
    set_by_us -= {("metadata", "name"), ("metadata", "namespace")}
    if set_by_us and owners.ours(live) is None:
        return "deploy-guard owns none of its fields any more"
    return ""


def _resource_of(ref: Ref) -> Resource:
    return Resource(ref.key.api_version, ref.key.kind, ref.collection.rpartition("/")[2], bool(ref.key.namespace))


def _unchecked(trials: Iterable[Trial]) -> list[str]:
    why: dict[str, list[str]] = {}
    for trial in trials:
        if trial.unchecked:
            why.setdefault(trial.unchecked, []).append(str(trial.ref))
    return [f"can't be checked yet, {reason}: {', '.join(names)}" for reason, names in why.items()]


def _still_owned(seen: _Seen, config: KubernetesConfig) -> list[str]:
    """Say whose fields stay theirs though nothing conflicts: what a later release drops would stay."""
    found: dict[str, list[str]] = {}
    allowed = frozenset(adoption.USUAL) - adoption.managers(config.adopt)
    for trial in seen.trials:
        for name, _ in adoption.names(adoption.takeable(seen.live.get(trial.ref), allowed)):
            found.setdefault(name, []).append(str(trial.ref))
    return [
        f"{name} owns fields of {', '.join(refs[:5])}{', …' if len(refs) > 5 else ''} too: what a later release leaves "
        "out stays there, until adopt = true takes them over"
        for name, refs in found.items()
    ]
