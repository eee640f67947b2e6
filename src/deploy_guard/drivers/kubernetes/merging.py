"""What an object should be after the way back: B as it was before, A as the rollout made it, C as it is now.

What the rollout changed (A differs from B) gets the value of B; what others changed since stays as it is in C. The same
holds for who owns which field.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from deploy_guard.drivers.kubernetes import compare, owners
from deploy_guard.drivers.kubernetes.objects import Object

RESTORER = "deploy-guard-rollback"
"""The field manager of the way back; its entry is there only between its two writes."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_Entry: TypeAlias = "dict[str, Any]"
_Name: TypeAlias = tuple[str, str, str, str]


@dataclass(frozen=True)
class Merged:
    """What to write.

    :param body: C with the values of B where the rollout changed them.
    :param changed: whether that differs from C.
    :param stays: what others changed since, and what stays so.
    :param overruled: what both the rollout and others changed; it is B's again.
    """

    body: Object = field(repr=False)
    changed: bool
    stays: tuple[compare.Path, ...] = ()
    overruled: tuple[compare.Path, ...] = ()


def comparable(body: Object) -> Object:
    """Return the desired state, with the annotation by which kubectl's client-side apply remembers it."""
    cleaned = compare.clean(body)
    last = (body.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if last is None:
        return cleaned
    meta = cleaned["metadata"]
    return {**cleaned, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), LAST_APPLIED: last}}}


def merge(before: Object, after: Object | None, now: Object) -> Merged:
    """Return what to write.

    :param after: None where nobody knows what the rollout would make of it: everything that differs is its doing then.
    """
    old, current = comparable(before), comparable(now)
    made = current if after is None else comparable(after)
    ours = compare.changes(old, made)
    touched = {path for path, _, _ in ours}
    drops: list[compare.Path] = []
    puts: list[tuple[compare.Path, Any]] = []
    overruled: list[compare.Path] = []
    for path, was, new in ours:
        there = compare.get(current, path, compare.ABSENT)
        if same(there, was):
            continue
        if was is compare.ABSENT:
            if not _holds_others(there, path, touched):
                drops.append(path)
        else:
            puts.append((path, was))
        if not same(there, new):
            overruled.append(path)
    body = deepcopy(now)
    for path in drops:
        compare.drop(body, path)
    for path, value in puts:
        compare.put(body, path, value)
    if old != made:
        compare.arrange(body, old)
    stays = tuple(path for path, _, _ in compare.changes(made, current) if path not in touched)
    return Merged(body, body != now, stays, tuple(overruled))


def same(one: Any, other: Any) -> bool:
    """Say whether two values are the same, or both are absent."""
    if one is compare.ABSENT or other is compare.ABSENT:
        return one is other
    return bool(one == other)


def left(before: Object, after: Object | None, now: Object) -> list[compare.Path]:
    """Return what the rollout changed and is not yet as it was."""
    old, current = comparable(before), comparable(now)
    made = current if after is None else comparable(after)
    found = compare.changes(old, made)
    return [path for path, was, _ in found if not _alike(compare.get(current, path, compare.ABSENT), was)]


def entries(before: Object, after: Object | None, now: Object, taken: set[tuple[str, str]]) -> list[_Entry]:
    """Return the ``managedFields`` with which everything belongs to whom it belonged.

    :param taken: managers whose fields the rollout took over, as ``(manager, operation)``.
    """
    old, current = _by_name(before), _by_name(now)
    made = current if after is None else _by_name(after)
    made = {name: entry for name, entry in made.items() if name[:2] not in taken}
    written = owners.fields(next((one for name, one in current.items() if name[0] == RESTORER), None))
    result = []
    for name in [*old, *(name for name in current if name not in old)]:
        then, there = old.get(name), current.get(name)
        if name[0] == RESTORER:
            continue
        if name[3] == "status":
            if there is not None:
                result.append(there)
            continue
        was, new, current_ = (owners.fields(one) for one in (then, made.get(name), there))
        if name[:2] == (owners.MANAGER, "Apply"):
            fields = {path for path in was if path in current_ or path not in new or path in written}
        else:
            changed = (was ^ new) | written
            fields = (was & changed) | (current_ - changed)
        if not fields:
            continue
        if then is not None and fields == was:
            result.append(then)
        elif there is not None and fields == current_:
            result.append(there)
        else:
            result.append({**(there or then or {}), "fieldsV1": owners.tree(fields)})
    return result


def owned_alike(one: list[_Entry], other: list[_Entry]) -> bool:
    """Say whether two lists of entries say the same, in whatever order and at whatever time."""
    return _plain(one) == _plain(other)


def exactly(before: Object, now: Object) -> bool:
    """Say whether nobody wrote an object since, or all of it was taken back: the entries and their times are B's."""

    def told(body: Object) -> list[tuple[_Name, str, list[owners.Field]]]:
        named = _by_name(body)
        return sorted(
            (name, str(entry.get("time", "")), sorted(owners.fields(entry)))
            for name, entry in named.items()
            if name[3] != "status"
        )

    return bool(owners.entries(before)) and told(before) == told(now)


# The parts


def _plain(some: list[_Entry]) -> dict[_Name, set[owners.Field]]:
    return {_name(one): owners.fields(one) for one in some if one.get("subresource") != "status"}


def _by_name(body: Object) -> dict[_Name, _Entry]:
    return {_name(one): one for one in owners.entries(body)}


def _name(one: _Entry) -> _Name:
    names = ("manager", "operation", "apiVersion", "subresource")
    manager, operation, version, subresource = (str(one.get(name) or "") for name in names)
    return manager, operation, version, subresource


def _alike(there: Any, was: Any) -> bool:
    """Say whether a value is as it was; a mapping that only came to hold what others put there is."""
    if was is compare.ABSENT:
        return there is compare.ABSENT or there in ({}, [])
    return same(there, was) or (was == {} and isinstance(there, dict))


def _holds_others(there: Any, path: compare.Path, touched: set[compare.Path]) -> bool:
    """Say whether the rollout's empty mapping or list holds something of others by now."""
    return (
        bool(there)
        and isinstance(there, dict)
        and not any(len(one) > len(path) and one[: len(path)] == path for one in touched)
    )
