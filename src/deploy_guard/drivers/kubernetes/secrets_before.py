"""The old Secrets of a release, kept in the cluster beside them: their values are in no snapshot.

The store of a rollout is a Secret, or several where one is too small; it says to which plan it belongs. That of the
rollout before stays too: when this one is taken back, the one before can still be.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from deploy_guard.drivers.kubernetes import records
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Object, Plan

TYPE = "deploy-guard/secrets-before"
_LABEL, _PLAN, _CHUNK, _CHUNKS = (
    "deploy-guard/secrets-before",
    "deploy-guard/plan",
    "deploy-guard/chunk",
    "deploy-guard/chunks",
)
_SIZE = 700_000
_TRIES = 5


def name(service: str, plan: str) -> str:
    """Return the name of the first Secret of a plan's store."""
    # Dots: with "-1" it could be the name of a record of another service.
    return f"deploy-guard-before-{records.prefix(service)}.{plan[:8]}"


def identity(planned: Plan) -> str:
    """Return what tells one planned rollout from all others: what it begins with, as far as no secret shows."""
    lines = [
        [one.ref.path, one.action, ((one.before or {}).get("metadata") or {}).get("resourceVersion")]
        for one in planned.objects
    ]
    return hashlib.sha256(json.dumps([planned.sequence, lines]).encode()).hexdigest()[:32]


def keep(api: Api, planned: Plan, namespace: str, service: str) -> None:
    """Write the old Secrets of a rollout; of older ones only those of the last that had any stay."""
    kept = {
        one.ref.path: {"before": one.before, "after": one.after}
        for one in planned.objects
        if one.ref.key.kind == "Secret" and one.before is not None and one.action in ("change", "remove")
    }
    plan = identity(planned)
    stores = {key: some for key, some in _stores(api, namespace, service).items() if key != plan}
    newest = max(
        stores, key=lambda key: min(str(one["metadata"].get("creationTimestamp")) for one in stores[key]), default=""
    )
    _remove(api, namespace, [one for key, some in stores.items() if key != newest for one in some])
    for attempt in range(_TRIES):
        remove(api, namespace, service, plan)  # of an apply that was cut off
        if not kept:
            return
        try:
            for body in _bodies(service, plan, kept):
                api.request("POST", _collection(namespace), body)
        except ApiError as error:
            if error.reason != "AlreadyExists" or attempt == _TRIES - 1:
                raise
        else:
            return


def find(api: Api, namespace: str, service: str, plan: str) -> dict[str, dict[str, Object | None]] | None:
    """Return the old Secrets of a plan, by path: ``before`` and ``after``; None where they are not (all) there."""
    some = _stores(api, namespace, service).get(plan, [])
    parts = {one["metadata"]["labels"].get(_CHUNK, ""): one for one in some}
    count = parts["0"]["metadata"]["labels"].get(_CHUNKS, "") if "0" in parts else ""
    if not count.isdecimal() or any(str(place) not in parts for place in range(int(count))):
        return None
    try:
        packed = b"".join(base64.b64decode(parts[str(place)]["data"]["secrets"]) for place in range(int(count)))
        found: dict[str, dict[str, Object | None]] = json.loads(gzip.decompress(packed))
    except (OSError, EOFError, ValueError, KeyError, binascii.Error):  # somebody else wrote there
        return None
    return found


def remove(api: Api, namespace: str, service: str, plan: str) -> None:
    """Remove the store of a plan."""
    _remove(api, namespace, _stores(api, namespace, service).get(plan, []))


# The parts


def _remove(api: Api, namespace: str, secrets: Sequence[Object]) -> None:
    def one(secret: Object) -> None:
        try:
            api.request("DELETE", f"{_collection(namespace)}/{secret['metadata']['name']}")
        except ApiError as error:
            if error.status != 404:
                raise

    api.each(one, secrets)


def _collection(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"


def _stores(api: Api, namespace: str, service: str) -> dict[str, list[Object]]:
    """Return the Secrets of all stores, by their plan."""
    wanted = f"app.kubernetes.io/managed-by=deploy-guard,{_LABEL}={records.prefix(service)}"
    found, _ = api.items(_collection(namespace), query={"labelSelector": wanted})
    stores: dict[str, list[Object]] = {}
    for one in found:
        if one.get("type") == TYPE:
            stores.setdefault(one["metadata"]["labels"].get(_PLAN, ""), []).append(one)
    return stores


def _bodies(service: str, plan: str, kept: Mapping[str, Any]) -> Sequence[Object]:
    packed = gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), compresslevel=3, mtime=0)
    chunks = [packed[at : at + _SIZE] for at in range(0, len(packed), _SIZE)]
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": f"{name(service, plan)}.{place}" if place else name(service, plan),
                "labels": {
                    "app.kubernetes.io/managed-by": "deploy-guard",
                    _LABEL: records.prefix(service),
                    _PLAN: plan,
                    _CHUNK: str(place),
                    _CHUNKS: str(len(chunks)),
                },
            },
            "type": TYPE,
            "immutable": True,
            "data": {"secrets": base64.b64encode(chunk).decode()},
        }
        for place, chunk in enumerate(chunks)
    ]
