"""Jobs of the phase before, and what they need: new objects that they name are made before them, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from deploy_guard.drivers.kubernetes import order
from deploy_guard.drivers.kubernetes.objects import Object, Planned

_REFERENCES = {
    "configMap": ("ConfigMap", "name"),
    "configMapKeyRef": ("ConfigMap", "name"),
    "configMapRef": ("ConfigMap", "name"),
    "secret": ("Secret", "secretName"),
    "secretKeyRef": ("Secret", "name"),
    "secretRef": ("Secret", "name"),
    "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
}


def needed_first(objects: Iterable[Planned]) -> list[Planned]:
    """Return what must be made before the Jobs of the phase before can run.

    A new namespace, and new objects that these Jobs name. What is there already is changed after them: if one fails,
    nothing that runs was touched.
    """
    listed = list(objects)
    if not (jobs := _jobs(listed)):
        return []
    new = {(one.ref.key.kind, one.ref.key.name): one for one in listed if one.action == "create" and not one.phase}
    wanted = {name for job in jobs for name in named(job.desired or {})}
    accounts = {name for kind, name in wanted if kind == "ServiceAccount"}
    for (kind, name), one in new.items():
        if one.rank == order.NAMESPACE:
            wanted.add((kind, name))
        elif kind in ("RoleBinding", "ClusterRoleBinding") and _binds(one.desired or {}, accounts):
            role = (one.desired or {}).get("roleRef") or {}
            wanted |= {(kind, name), (str(role.get("kind")), str(role.get("name")))}
    return [one for place, one in new.items() if place in wanted]


def notes(objects: Iterable[Planned]) -> list[str]:
    """Say which Jobs of the phase before see something as it is now, though the release changes it."""
    listed = list(objects)
    changed = {(one.ref.key.kind, one.ref.key.name) for one in listed if one.action == "change" and not one.phase}
    found = []
    for job in _jobs(listed):
        names = sorted(f"{kind}/{name}" for kind, name in set(named(job.desired or {})) & changed)
        if names:
            found.append(f"{job.ref} runs before {', '.join(names)} is changed, and sees what is there now")
    return found


def named(job: Object) -> Iterator[tuple[str, str]]:
    """Yield kind and name of the objects that a Job's pods need to start."""
    pod = ((job.get("spec") or {}).get("template") or {}).get("spec") or {}
    if pod.get("serviceAccountName"):
        yield "ServiceAccount", str(pod["serviceAccountName"])
    for secret in pod.get("imagePullSecrets") or ():
        yield "Secret", str(secret.get("name"))
    yield from _within(pod)


def _jobs(objects: Iterable[Planned]) -> list[Planned]:
    return [one for one in objects if one.phase == "before" and one.action in ("create", "change")]


def _within(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for below in value:
            yield from _within(below)
    elif isinstance(value, dict):
        for name, below in value.items():
            kind, key = _REFERENCES.get(name, ("", ""))
            if kind and isinstance(below, dict) and (found := below.get(key) or below.get("name")):
                yield kind, str(found)
            yield from _within(below)


def _binds(binding: Object, accounts: set[str]) -> bool:
    subjects = binding.get("subjects") or ()
    return any(one.get("kind") == "ServiceAccount" and one.get("name") in accounts for one in subjects)
