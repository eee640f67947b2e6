"""One object sent to the API server as a dry run, and what it says to that."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.drivers.kubernetes import adoption, compare, owners
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.discovery import Resource
from deploy_guard.drivers.kubernetes.objects import PHASE, Manifest, Object, Ref

APPLY = "application/apply-patch+yaml"
QUERY: Mapping[str, str] = {"fieldManager": owners.MANAGER, "fieldValidation": "Strict"}
DRY: Mapping[str, str] = {**QUERY, "dryRun": "All"}

_GOT = re.compile(r", got &.*")
_INVALID = re.compile(r"Invalid value: (?=.{120})(?P<value>.*?)(?P<why>: [^:{}\"]{3,200})?$", re.DOTALL)
_TRIES = 5


@dataclass
class Trial:
    """What becomes of one manifest.

    :param desired: what is sent.
    :param answer: the object as it would be.
    :param sets: the fields that deploy-guard will own.
    :param refused: why it can't be applied.
    :param conflicts: fields of managers that may not be taken from.
    :param forced: managers from which fields are taken.
    :param again: a Job of a phase whose template differs: the old one is replaced.
    :param unchecked: why the API server can't be asked yet.
    """

    manifest: Manifest
    resource: Resource
    ref: Ref
    desired: Object = field(repr=False)
    phase: str = ""
    answer: Object | None = field(default=None, repr=False)
    sets: set[owners.Field] = field(default_factory=set, repr=False)
    refused: ApiError | None = None
    conflicts: tuple[adoption.Conflict, ...] = ()
    forced: tuple[str, ...] = ()
    again: bool = False
    unchecked: str = ""


def prepared(manifest: Manifest, resource: Resource, namespace: str) -> Trial:
    """Return a trial that has not begun."""
    meta = dict(manifest.body["metadata"])
    meta.pop("namespace", None)
    if resource.namespaced:
        meta["namespace"] = namespace
    desired = _with_data({**manifest.body, "metadata": meta})
    phase = str((meta.get("annotations") or {}).get(PHASE, ""))
    return Trial(manifest, resource, resource.ref(namespace, manifest.name), desired, phase)


def run(api: Api, trial: Trial, allowed: frozenset[str]) -> None:
    """Ask the API server what an apply would do; nothing in the cluster changes.

    :param allowed: the field managers whose fields may be taken over.
    """
    try:
        trial.answer = _send(api, trial)
    except ApiError as error:
        found = adoption.conflicts(error)
        if found and all(conflict.manager in allowed for conflict in found):
            trial.forced = tuple(dict.fromkeys(conflict.manager for conflict in found))
            try:
                trial.answer = _send(api, trial, force=True)
            except ApiError as other:
                trial.refused = other
        elif found:
            trial.conflicts = tuple(found)
        elif trial.phase and immutable(error):
            _replace(api, trial)
        else:
            trial.refused = error


def foresee(api: Api, trial: Trial, live: Object, entries: Sequence[dict[str, Any]]) -> None:
    """Ask how an object will be once its fields are taken over and what the old managers leave behind is gone."""
    body = adoption.foreseen(live, trial.desired, trial.answer, entries)
    if trial.answer is not None and compare.clean(body) == compare.clean(trial.answer):
        return
    for attempt in range(_TRIES):
        meta = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
        sent = {**body, "metadata": {**meta, "resourceVersion": live["metadata"]["resourceVersion"]}}
        try:
            trial.answer, trial.refused = api.request("PUT", trial.ref.path, sent, query=DRY), None
        except ApiError as error:
            newer = api.get(trial.ref.path) if error.reason == "Conflict" and attempt < _TRIES - 1 else None
            if newer is not None:
                live = newer  # its status was written meanwhile
                continue
            if trial.answer is not None and error.status == 422:
                trial.answer = adoption.held(trial.answer, entries)
            else:
                trial.refused = error
        return


def immutable(error: ApiError) -> bool:
    """Say whether an object is refused because it would change what can't be changed."""
    return error.status == 422 and "field is immutable" in error.what


def words(error: ApiError, body: Object | None = None) -> str:
    """Return the server's words, without Secret values and whole objects in them."""
    causes = [one for one in error.details.get("causes") or () if one.get("message")]
    if error.reason == "Invalid" and causes:
        text = "; ".join(dict.fromkeys(f"{one.get('field', '')}: {_shortened(one['message'])}" for one in causes))
    else:
        text = error.what
    text = "\n".join(_GOT.sub(", got something else", line) for line in text.strip().splitlines())
    return _hidden(text, body) if body is not None and body.get("kind") == "Secret" else text


def _send(api: Api, trial: Trial, *, force: bool = False) -> Object:
    query = {**DRY, "force": "true"} if force else DRY
    return api.request("PATCH", trial.ref.path, trial.desired, query=query, content_type=APPLY)


def _replace(api: Api, trial: Trial) -> None:
    """Ask for the Job as a new one: under a name that is free, since the old one is still there."""
    meta = {name: value for name, value in trial.desired["metadata"].items() if name != "name"}
    body = {**trial.desired, "metadata": {**meta, "generateName": trial.manifest.name[:50] + "-"}}
    try:
        answer = api.request("POST", trial.ref.collection, body, query=DRY)
    except ApiError as error:
        trial.refused = error
        return
    answer["metadata"].pop("generateName", None)
    answer["metadata"]["name"] = trial.manifest.name
    trial.answer, trial.again = answer, True


def _with_data(body: Object) -> Object:
    """Return a Secret's ``stringData`` as ``data``.

    Server-side apply owns what was sent: an entry of ``stringData`` that is no longer sent would stay in ``data``.
    """
    texts = body.get("stringData")
    if body.get("kind") != "Secret" or body.get("apiVersion") != "v1" or not isinstance(texts, dict):
        return body
    data = body.get("data") or {}
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in texts.values()):
        return body  # the API server says what is wrong with it
    coded = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    changed = {name: value for name, value in body.items() if name != "stringData"}
    return {**changed, "data": {**data, **coded}}


def _shortened(text: str) -> str:
    """Return a complaint without the value, where that is a whole pod template in Go's own notation."""
    match = _INVALID.match(text)
    return f"Invalid value{match['why'] or ''}" if match else str(text)


def _hidden(text: str, secret: Object) -> str:
    values: list[str] = []
    for part in ("data", "stringData"):
        if isinstance(secret.get(part), dict):
            values += [str(value) for value in secret[part].values()]
    plain = []
    for value in values:
        try:
            plain.append(base64.b64decode(value, validate=True).decode())
        except ValueError:
            continue
    for value in sorted({*values, *plain}, key=len, reverse=True):
        if len(value) > 2:
            text = text.replace(value, compare.HIDDEN)
    return text
