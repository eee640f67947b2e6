"""The steps of the way back, an object at a time: look, write, and look again when somebody else wrote meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import compare, dryrun, merging, order, owners
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.objects import Object, Ref
from deploy_guard.drivers.kubernetes.snapshots import Saved
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.drivers.kubernetes.views import is_ending, is_own
from deploy_guard.errors import DeployGuardError

T = TypeVar("T")

_QUERY = {"fieldManager": merging.RESTORER}
_FIRST, _LONGEST = 0.05, 1.0
"""Seconds between two looks at what is on its way, at first and at most."""
_STORE_GONE = "the Secret with its old values is not in the cluster any more"


class Way:
    """One way back: what failed, what was written, what is being deleted.

    :param secrets: the old Secrets, by path; None where their store is missing.
    """

    def __init__(self, api: Api, deadline: Deadline, target: Target, progress: Callable[[str], None]) -> None:
        self.api, self.deadline, self.target, self.progress = api, deadline, target, progress
        self.secrets: Mapping[str, Mapping[str, Object | None]] | None = None
        self.failures: list[tuple[str, str]] = []
        self.restored: set[str] = set()
        self._going: dict[str, tuple[Ref, str]] = {}
        self._lock = threading.Lock()

    def fail(self, what: str, hint: str = "") -> None:
        """Take a failure; the rest goes on."""
        with self._lock:
            self.failures.append((what, hint))

    def shown(self, verb: str, ref: Ref) -> str:
        """Return a kubectl command about an object."""
        return self.target.shown(verb, f"{ref.key.kind.lower()}/{ref.key.name}")

    def tried(self, what: str, function: Callable[[], T]) -> T | None:
        """Do it, again while the API server is away or somebody else was quicker; failures are collected."""
        pause = _FIRST
        while True:
            try:
                return function()
            except Unreachable as error:
                if self.deadline.expired:
                    self.fail(f"{what}: {error.what}", error.hint)
                    return None
            except ApiError as error:
                if error.status != 409 or self.deadline.expired:
                    self.fail(f"{what}: {error.what}", error.hint)
                    return None
            time.sleep(min(pause, self.deadline.remaining))  # somebody writes, or nobody listens
            pause = min(2 * pause, _LONGEST)

    def by_rank(self, step: Callable[[Way, Saved], None], over: Sequence[Saved], *, reverse: bool = False) -> None:
        """Do it for all, rank after rank, side by side inside each."""
        ordered = sorted(over, key=lambda one: one.rank, reverse=reverse)
        for _, some in groupby(ordered, key=lambda one: one.rank):
            self.side_by_side(step, list(some))

    def side_by_side(self, step: Callable[[Way, Saved], None], over: Sequence[Saved]) -> None:
        """Do it for all; what one fails with does not keep the others."""

        def one(saved: Saved) -> None:
            try:
                self._step(step, saved)
            except DeployGuardError as error:
                self.fail(f"{saved.ref}: {error.what}", error.hint)

        self.api.each(one, over)

    def request(self, method: str, path: str, body: Object | None = None) -> Object:
        """Send a request with the patience that is left."""
        query = _QUERY if method in ("PUT", "POST") else None
        return self.api.request(method, path, body, query=query, patience=max(self.deadline.remaining, 1.0))

    def look(self, ref: Ref) -> Object | None:
        """Return an object as it is now."""
        try:
            return self.request("GET", ref.path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def gone_soon(self, ref: Ref, body: Object) -> None:
        """Remember what is being deleted."""
        with self._lock:
            self._going[ref.path] = ref, str(body["metadata"].get("uid"))

    def until_gone(self) -> None:
        """Wait until all that is being deleted is gone."""
        pause = _FIRST
        while self._going:
            if self.tried("looking whether what was created is gone", self._look_whether_gone) is None:
                return
            if self._going and self.deadline.expired:
                for ref, _ in self._going.values():
                    self.fail(f"{ref} is being deleted, and still there", f"see {self.shown('describe', ref)}")
                return
            if self._going:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)

    def _look_whether_gone(self) -> bool:
        pairs = list(self._going.values())
        for (ref, uid), body in zip(pairs, self.api.each(lambda pair: self.look(pair[0]), pairs), strict=True):
            if body is None or body["metadata"].get("uid") != uid:
                del self._going[ref.path]
        return True

    def _step(self, step: Callable[[Way, Saved], None], saved: Saved) -> None:
        pause = _FIRST
        while True:
            try:
                step(self, saved)
            except (ApiError, Unreachable) as error:
                again = isinstance(error, Unreachable) or error.status == 409
                if again and not self.deadline.expired:
                    time.sleep(min(pause, self.deadline.remaining))
                    pause = min(2 * pause, _LONGEST)
                    continue
                what = dryrun.words(error, _secret_of(self, saved)) if isinstance(error, ApiError) else error.what
                verb = "delete" if saved.action == "create" else "edit"
                hint = error.hint or f"by hand: {self.shown(verb, saved.ref)}"
                self.fail(f"{saved.ref} could not be {_WORDS[saved.action]}: {what}", hint)
            return


_WORDS = {"create": "deleted", "change": "restored", "remove": "created again"}


def delete(way: Way, saved: Saved) -> None:
    """Delete what the rollout created."""
    ref, now = saved.ref, way.look(saved.ref)
    if now is None:
        return
    command = way.shown("delete", ref)
    if ref.key.kind in order.KEPT:
        print(
            f"left behind: {ref} is new, and is never deleted, since what is in it would be lost; to do so: {command}"
        )
    elif is_ending(now):
        way.gone_soon(ref, now)
    elif not made_by_us(now):
        print(f"left behind: {ref} was made by somebody else since the plan; to delete it: {command}")
    else:
        policy = "Foreground" if saved.rank == order.WORKLOAD else "Background"
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        options["preconditions"] = {"uid": now["metadata"]["uid"]}
        try:
            way.request("DELETE", ref.path, options)
        except ApiError as error:
            if error.status != 404:
                raise
            return
        way.gone_soon(ref, now)
        print(f"deleted {ref}, which the rollout created" + (": what it did is not undone" if saved.phase else ""))


def bring_back(way: Way, saved: Saved) -> None:
    """Bring back what the rollout changed or removed."""
    ref = saved.ref
    if is_done(saved):
        did = "replaced" if saved.phase else "removed"
        print(f"left as it is: {ref}, which the rollout {did}: what a Job did is not undone, and it is not run again")
        return
    now = way.look(ref)
    if now is not None and is_ending(now):
        now = _until_gone(way, ref, now)
    if now is not None and saved.before is not None and _untouched(saved.before, now):
        return
    known = _with_values(way, saved, now)
    if known is None or known.before is None:
        return
    if now is None:
        now = _create(way, known)
        print(f"created {ref} again" + (", which somebody deleted" if saved.action == "change" else ""))
    elif saved.action == "remove" and all(one.get("manager") != merging.RESTORER for one in owners.entries(now)):
        if merging.left(known.before, None, now):  # an earlier way back was not interrupted, or somebody else made it
            print(f"left as it is: {ref}, which somebody made anew since the rollout removed it")
        return
    _write(way, known, now)


def is_done(saved: Saved) -> bool:
    """Say whether it is a Job that the rollout replaced or removed: made again, it would run again."""
    return is_own(saved.ref.key) and saved.ref.key.kind == "Job" and bool(saved.phase or saved.action == "remove")


def made_by_us(now: Object) -> bool:
    """Say whether deploy-guard made an object: when it came to be, nobody else wrote, or deploy-guard did too."""
    ours, made = owners.ours(now), now["metadata"].get("creationTimestamp")
    if ours is None:
        return not owners.entries(now)
    first = [one for one in owners.entries(now) if one.get("time") == made and not one.get("subresource")]
    return not first or any(one is ours for one in first)


# The parts


def _untouched(before: Object, now: Object) -> bool:
    old, new = before["metadata"], now["metadata"]
    return all(old.get(name) == new.get(name) for name in ("uid", "resourceVersion"))


def _until_gone(way: Way, ref: Ref, now: Object) -> Object | None:
    """Wait until what is being deleted is gone; the rollout, or somebody else, asked for it."""
    pause = _FIRST
    found: Object | None = now
    while found is not None and is_ending(found):
        if way.deadline.expired:
            raise DeployGuardError(
                "it is being deleted, and still there", hint=f"see what holds it: {way.shown('describe', ref)}"
            )
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
        found = way.look(ref)
    return found


def _with_values(way: Way, saved: Saved, now: Object | None) -> Saved | None:
    """Return an object with the values of a Secret; None where it is known to be as it was."""
    if not saved.is_secret or saved.before is None:
        return saved
    kept = way.secrets.get(saved.ref.path) if way.secrets is not None else None
    if kept is not None:
        return replace(saved, before=kept["before"], after=kept["after"])
    if now is not None and merging.exactly(saved.before, now):
        return None  # an earlier way back was complete, and removed the store
    raise DeployGuardError(
        f"its old values are lost: {_STORE_GONE}",
        hint=f"set them by hand: {way.shown('edit', saved.ref)}",
    )


def _secret_of(way: Way, saved: Saved) -> Object | None:
    kept = (way.secrets or {}).get(saved.ref.path) or {}
    return kept.get("before") if saved.is_secret else None


def _create(way: Way, saved: Saved) -> Object:
    assert saved.before is not None
    body = deepcopy(merging.comparable(saved.before))
    if saved.ref.key.kind == "Pod" and is_own(saved.ref.key):
        body["spec"].pop("nodeName", None)
    made = way.request("POST", saved.ref.collection, body)
    way.restored.add(saved.ref.path)
    return made


def _write(way: Way, saved: Saved, now: Object) -> None:
    """Write values, then owners; each only where it differs."""
    assert saved.before is not None
    ref, before, after = saved.ref, saved.before, saved.after
    merged = merging.merge(before, after, now)
    if merged.changed:
        now = way.request("PUT", ref.path, merged.body)
        print(f"restored {ref}")
        _tell(saved, merged, now)
    if _generation(before) != _generation(now):
        way.restored.add(ref.path)
    wanted = merging.entries(before, after, now, set(saved.taken))
    if not merging.owned_alike(wanted, owners.entries(now)):
        way.request("PUT", ref.path, {**now, "metadata": {**now["metadata"], "managedFields": wanted or [{}]}})


def _generation(body: Object) -> tuple[object, object]:
    return body["metadata"].get("uid"), body["metadata"].get("generation")


def _tell(saved: Saved, merged: merging.Merged, now: Object) -> None:
    for paths, words in (
        (merged.stays, "stays as somebody changed it since"),
        (merged.overruled, "is as before, though somebody else changed it too"),
    ):
        for path in paths:
            value = compare.get(now, path, compare.ABSENT)
            hidden = compare.secret(now, path)
            text = compare.HIDDEN if hidden else "(absent)" if value is compare.ABSENT else compare.value_shown(value)
            print(f"  {saved.ref} {compare.shown(path)} {words}: {text}")
