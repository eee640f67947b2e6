"""The record of the last release, kept in its namespace: what was applied, and by which version.

It is a Secret of type ``deploy-guard/release``, or several where one is too small (1 MiB is the API server's limit).
Values of the release's own Secrets are not in it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.drivers.kubernetes import compare
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Key, Object, Ref
from deploy_guard.errors import PlanRejected, RolloutDoomed

TYPE = "deploy-guard/release"
SERVICE = "deploy-guard/service"
_SEQUENCE, _CHUNK, _CHUNKS = "deploy-guard/sequence", "deploy-guard/chunk", "deploy-guard/chunks"
_SCHEMA = 1
_SIZE = 700_000
"""Bytes of one chunk; base64 makes a third more of them."""
_TRIES = 5


@dataclass(frozen=True)
class Entry:
    """One object of a release.

    :param uid: which object of that name it was.
    :param applied: what the release set, as the API server wrote it then; values of Secrets left out.
    """

    ref: Ref
    uid: str = ""
    applied: Object = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Record:
    """One release.

    :param left: objects of earlier releases that this one no longer had, and that stayed.
    :param sequence: its number; for one that is to be written, the number of the one before it.
    """

    version: str | None
    commit: str | None
    objects: tuple[Entry, ...]
    left: tuple[Entry, ...] = ()
    sequence: int = 0


def applied(desired: Object, answer: Object) -> Object:
    """Return what a release set: the fields of the manifest, with the values that the API server gave them."""
    found: Object = {}
    for path in compare.leaves(desired):
        value = compare.get(answer, path, compare.ABSENT)
        if value is not compare.ABSENT:
            compare.put(found, path, value)
    return compare.masked(found)


def last(api: Api, namespace: str, service: str) -> Record | None:
    """Return the newest complete record, if there is one."""
    found = _found(api, namespace, service)
    for sequence in sorted(found, reverse=True):
        text = _joined(found[sequence])
        if text is not None:
            return _read(text, sequence, namespace)
    return None


def write(api: Api, namespace: str, service: str, record: Record) -> int:
    """Write a record and return its number; it and the one before, to which a rollback goes back, stay, others go."""
    text = json.dumps(_to_json(record), separators=(",", ":"), ensure_ascii=False).encode()
    packed = gzip.compress(text, compresslevel=3, mtime=0)
    chunks = [packed[at : at + _SIZE] for at in range(0, len(packed), _SIZE)]
    for _ in range(_TRIES):
        there = _found(api, namespace, service)
        sequence = max([record.sequence, *there]) + 1
        bodies = [_secret(service, sequence, place, len(chunks), chunk) for place, chunk in enumerate(chunks)]
        try:
            for body in bodies:
                api.request("POST", _collection(namespace), body)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        else:
            _remove(api, namespace, [one for number in there if number != record.sequence for one in there[number]])
            return sequence
    raise RolloutDoomed(
        f"the record of the release can't be written: somebody else writes records of {service} at the same time",
        hint="let one release of a service run at a time",
    )


def back_to(api: Api, namespace: str, service: str, sequence: int) -> None:
    """Remove all records that are newer than that one."""
    found = _found(api, namespace, service)
    _remove(api, namespace, [one for number, chunks in found.items() if number > sequence for one in chunks])


def prefix(service: str) -> str:
    """Return a service's name as it can stand in names and labels of objects."""
    plain = re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-")[:40].rstrip("-")
    if plain == service:
        return plain
    digest = hashlib.sha256(service.encode()).hexdigest()[:8]
    return f"{plain}-{digest}" if plain else digest


# The parts


def _collection(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"


def _found(api: Api, namespace: str, service: str) -> dict[int, list[Object]]:
    """Return the Secrets of all records, by their number."""
    wanted = f"app.kubernetes.io/managed-by=deploy-guard,{SERVICE}={prefix(service)},{_SEQUENCE}"
    answer, _ = api.items(_collection(namespace), query={"labelSelector": wanted})
    found: dict[int, list[Object]] = {}
    for one in answer:
        number = one["metadata"]["labels"][_SEQUENCE]
        if one.get("type") == TYPE and number.isdecimal():
            found.setdefault(int(number), []).append(one)
    return found


def _secret(service: str, sequence: int, place: int, chunks: int, chunk: bytes) -> Object:
    name = f"deploy-guard-{prefix(service)}-{sequence}"
    labels = {
        "app.kubernetes.io/managed-by": "deploy-guard",
        SERVICE: prefix(service),
        _SEQUENCE: str(sequence),
        _CHUNK: str(place),
        _CHUNKS: str(chunks),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{name}-{place}" if place else name, "labels": labels},
        "type": TYPE,
        "immutable": True,
        "data": {"release": base64.b64encode(chunk).decode()},
    }


def _joined(secrets: Sequence[Object]) -> bytes | None:
    """Return the text of a record; None where a part of it is missing, as after a write that was cut off."""
    parts: dict[str, str] = {one["metadata"]["labels"].get(_CHUNK, ""): one["data"]["release"] for one in secrets}
    count = secrets[0]["metadata"]["labels"].get(_CHUNKS, "")
    if not count.isdecimal() or any(str(place) not in parts for place in range(int(count))):
        return None
    return b"".join(base64.b64decode(parts[str(place)]) for place in range(int(count)))


def _remove(api: Api, namespace: str, secrets: Iterable[Object]) -> None:
    def one(secret: Object) -> None:
        try:
            api.request("DELETE", f"{_collection(namespace)}/{secret['metadata']['name']}")
        except ApiError as error:
            if error.status != 404:
                raise

    api.each(one, secrets)


def _to_json(record: Record) -> dict[str, Any]:
    def entries(some: Iterable[Entry]) -> list[dict[str, Any]]:
        return [{"ref": one.ref.to_json(), "uid": one.uid, "applied": one.applied} for one in some]

    return {
        "schema": _SCHEMA,
        "version": record.version,
        "commit": record.commit,
        "objects": entries(record.objects),
        "left": entries(record.left),
    }


def _read(packed: bytes, sequence: int, namespace: str) -> Record:
    def entries(some: Iterable[dict[str, Any]]) -> tuple[Entry, ...]:
        return tuple(Entry(Ref.from_json(one["ref"]), one["uid"], one["applied"]) for one in some)

    try:
        data = json.loads(gzip.decompress(packed))
        if data["schema"] != _SCHEMA:
            raise ValueError(f"it is of the schema {data['schema']}")
        return Record(data["version"], data["commit"], entries(data["objects"]), entries(data["left"]), sequence)
    except (OSError, EOFError, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise PlanRejected(
            f"record {sequence} of the last release, in the namespace {namespace}, can't be read: {error}",
            hint=f"was it written by a newer version? Else delete it: kubectl -n {namespace} delete secret -l "
            f"{_SEQUENCE}={sequence}",
        ) from error


def identity(key: Key) -> tuple[str, str, str, str]:
    """Return what stays the same when an object is written in another version of its group."""
    return key.api_version.rpartition("/")[0], key.kind, key.namespace, key.name
