"""Fields of other field managers: who may be taken from, and what taking over does.

As ``kubectl`` does when it moves an object from client-side to server-side apply: the old manager's entries in
``managedFields`` become deploy-guard's, so that an apply removes what only that one had and the manifest has not. What
can't be removed, as the class of a volume claim that the server once filled in, stays and belongs to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from deploy_guard.drivers.kubernetes import compare, owners
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Object, Planned

USUAL = ("kubectl-client-side-apply", "helm")
"""Taken from with ``adopt = true``: client-side ``kubectl apply``, and Helm."""
_WITH = re.compile(r'conflict with "(?P<manager>[^"]*)"(?: with subresource "(?P<part>[^"]*)")?')
_SHOWN = 8
_TRIES = 5


@dataclass(frozen=True)
class Conflict:
    """A field that another manager owns with another value."""

    field: str
    manager: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.field} belongs to {self.manager}" + (f" ({self.part})" if self.part else "")


def conflicts(error: ApiError) -> list[Conflict]:
    """Return the conflicts that an answer names; none where it is another error."""
    found = []
    for cause in error.details.get("causes") or ():
        match = _WITH.search(str(cause.get("message"))) if cause.get("reason") == "FieldManagerConflict" else None
        if match:
            found.append(Conflict(str(cause.get("field")).lstrip("."), match["manager"], match["part"] or ""))
    return found


def managers(adopt: bool | Sequence[str]) -> frozenset[str]:
    """Return whose fields may be taken."""
    return frozenset(USUAL if adopt is True else adopt or ())


def advice(found: Sequence[Conflict], adopt: bool | Sequence[str]) -> str:
    """Return which setting ends these conflicts."""
    others = list(dict.fromkeys(conflict.manager for conflict in found))
    if not adopt and all(name in USUAL for name in others):
        setting = "adopt = true"
    else:
        names = [*(USUAL if adopt is True else adopt or ()), *others]
        setting = f"adopt = [{', '.join(compare.quoted(name) for name in dict.fromkeys(names))}]"
    fields = ", ".join(dict.fromkeys(conflict.field for conflict in found[:3])) + (", …" if len(found) > 3 else "")
    return f"{setting} takes these fields over; or leave them to their managers: remove {fields} from the manifest"


def takeable(live: Object | None, allowed: frozenset[str]) -> list[dict[str, Any]]:
    """Return the entries of an object that are to be taken over."""
    return [
        entry
        for entry in owners.entries(live)
        if entry.get("manager") in allowed and entry.get("subresource") != "status" and entry is not owners.ours(live)
    ]


def names(entries: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return managers and operations of entries."""
    return tuple(dict.fromkeys((str(one["manager"]), str(one["operation"])) for one in entries))


def leftovers(answer: Object, entries: Sequence[dict[str, Any]]) -> tuple[set[owners.Field], set[owners.Field]]:
    """Return the fields that nobody but the old managers owns, and those that somebody else owns."""
    taken = {(one["manager"], one["operation"], one.get("subresource")) for one in entries}
    kept: set[owners.Field] = set()
    for one in owners.entries(answer):
        if (one.get("manager"), one.get("operation"), one.get("subresource")) not in taken:
            kept |= owners.fields(one)
    return set().union(*map(owners.fields, entries)) - kept, kept


def foreseen(live: Object, desired: Object, answer: Object | None, entries: Sequence[dict[str, Any]]) -> Object:
    """Return an object as it would be without what the old managers leave behind.

    :param answer: that of the forced dry run; None where the server refused it because it still holds what the old
        managers own: a Service whose named port gets another number has two of that name then.
    """
    if answer is not None:
        gone, kept = leftovers(answer, entries)
        return owners.without(answer, gone, kept)
    gone, kept = leftovers(live, entries)
    result = deepcopy(owners.without(live, gone, kept))
    for path, value in compare.leaves(desired).items():
        compare.put(result, path, value)
    return result


def held(answer: Object, entries: Sequence[dict[str, Any]]) -> Object:
    """Return an object as it would be where the server lets nothing be removed but annotations and labels."""
    gone, kept = leftovers(answer, entries)
    return owners.without(answer, {path for path in gone if path[0] == "f:metadata"}, kept)


def summary(wanted: set[owners.Field], entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines that say which of the fields that the release sets are taken from whom."""
    lines = []
    for entry in entries:
        had = owners.fields(entry)
        fields = sorted(owners.shown(path) for path in had & wanted)
        more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
        which = ", ".join(fields[:_SHOWN]) + more if fields else "no field of the manifest"
        lines.append(f"@ taken over from {entry['manager']}: {which}")
    return lines


def rewritten(live: Object, one: Planned, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``managedFields`` in which deploy-guard owns what the release sets or removes of these entries.

    The rest of them belongs to nobody then, and the apply leaves it alone.
    Entries of another version are dropped: their paths may mean something else in this one.
    """
    version, ours = one.ref.key.api_version, owners.ours(live)
    before, after = one.before or {}, one.after or {}
    fields = owners.fields(ours) if ours is not None and ours.get("apiVersion") == version else set()
    wanted = {owners.field(path) for path in compare.leaves(one.desired or {})}
    had = set().union(*(owners.fields(entry) for entry in entries if entry.get("apiVersion") == version))
    fields |= {path for path in had if path in wanted or owners.value(before, path) != owners.value(after, path)}
    mine = {
        "manager": owners.MANAGER,
        "operation": "Apply",
        "apiVersion": version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owners.tree(fields),
    }
    others = [entry for entry in owners.entries(live) if entry not in entries and entry is not ours]
    return [mine, *others] if fields else others


def take(api: Api, one: Planned) -> Object | None:
    """Make the old managers' entries deploy-guard's, in the cluster; nothing else of the object changes.

    Returns the object as it is then.
    """
    allowed = frozenset(manager for manager, _ in one.taken)
    for attempt in range(_TRIES):
        live = api.get(one.ref.path)
        entries = takeable(live, allowed)
        if live is None or not entries:
            return live
        patch = [
            {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": rewritten(live, one, entries) or [{}]},
        ]
        query = {"fieldManager": owners.MANAGER}
        try:
            return api.request("PATCH", one.ref.path, patch, query=query, content_type="application/json-patch+json")
        except ApiError as error:
            # 409, or 422 where an answer was lost and the second try met its own first.
            if error.status not in (409, 422) or attempt == _TRIES - 1:
                raise
    return None
