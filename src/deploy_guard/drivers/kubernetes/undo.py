"""``rollback = "undo"``: the pod templates of workloads as they were, and nothing else, as ``kubectl rollout undo``.

The template is that of the snapshot, not that of the revision before: undone twice it is still the old one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deploy_guard.drivers.kubernetes import owners
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import is_own

if TYPE_CHECKING:
    from deploy_guard.drivers.kubernetes.snapshots import Saved

_KINDS = frozenset(("Deployment", "StatefulSet", "DaemonSet"))
_TEMPLATE = ("f:spec", "f:template")


def undoes(saved: Saved) -> bool:
    """Say whether an object is one whose rollout can be undone."""
    key = saved.ref.key
    return saved.action == "change" and not saved.phase and is_own(key) and key.kind in _KINDS


def only_template(saved: Saved) -> Saved:
    """Return the object as if the rollout had changed its template only; others as they are."""
    if not undoes(saved) or saved.before is None or saved.after is None:
        return saved
    wanted: Object = {
        **saved.after,
        "metadata": {
            **saved.after["metadata"],
            "generation": saved.before["metadata"].get("generation"),
            "uid": saved.before["metadata"].get("uid"),
            "managedFields": _owners(saved.before, saved.after),
        },
        "spec": {**saved.after["spec"], "template": saved.before["spec"]["template"]},
    }
    return replace(saved, before=wanted)


def _owners(before: Object, after: Object) -> list[Object]:
    """Return who owns what: of the template as before, of the rest as after."""

    def name(entry: Object) -> tuple[str, ...]:
        return tuple(str(entry.get(one) or "") for one in ("manager", "operation", "apiVersion", "subresource"))

    old = {name(one): one for one in owners.entries(before)}
    new = {name(one): one for one in owners.entries(after)}
    found = []
    for one in [*new, *(one for one in old if one not in new)]:
        fields = {path for path in owners.fields(old.get(one)) if path[:2] == _TEMPLATE}
        fields |= {path for path in owners.fields(new.get(one)) if path[:2] != _TEMPLATE}
        if fields:
            found.append({**new.get(one, old.get(one, {})), "fieldsV1": owners.tree(fields)})
    return found
