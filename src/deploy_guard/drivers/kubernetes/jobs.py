"""Jobs of a phase, as migrations: made anew for each release, and waited for to their end."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import waiting
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.config import Dwells
from deploy_guard.drivers.kubernetes.objects import Object, Planned, Ref
from deploy_guard.drivers.kubernetes.views import is_ending, is_true, uid
from deploy_guard.errors import RolloutDoomed

_APPLY = {"fieldManager": "deploy-guard", "force": "true", "fieldValidation": "Strict"}
_APPLY_TYPE = "application/apply-patch+yaml"
_LOOK, _LONGEST = 0.1, 1.0
"""Seconds between two looks whether a Job is gone: at first, and at most."""


def run(api: Api, one: Planned, timeout: float, progress: Callable[[str], None], dwell: Dwells | None = None) -> None:
    """Run a Job and wait until it has completed.

    One that has ended is replaced, because the template of a Job can't be changed. One that is running with the same
    template, as an interrupted run leaves it behind, is waited for; a migration must not run twice side by side.

    :param timeout: seconds for all of it.
    :param dwell: how long what keeps its pods from starting must stand; its own limits say when it has failed.
    :raises RolloutDoomed: when it fails, with the end of its log, when it takes too long, and when another Job of that
        name is running, which is not touched.
    """
    assert one.desired is not None  # a Job that is removed is not run
    deadline = Deadline.after(timeout)
    there = api.get(one.ref.path)
    if there is not None and not _has_ended(there):
        if not _is_same(api, one):
            raise RolloutDoomed(
                f"{one.ref} is running already, with another template: it is not touched, and nothing is run beside it",
                hint=f"wait until it has ended, or end it (kubectl delete job {one.ref.key.name}), and release again",
            )
        print(f"{one.ref} is running already, with the same template: waiting for it")
    else:
        if there is not None:
            _remove(api, one.ref, there, deadline)
        _apply(api, one.ref, one.desired)
        print(f"{one.ref} was {'replaced and ' if there is not None else ''}started")
    waiting.wait_for_end(api, one.ref, deadline, dwell or Dwells(), progress)


def _has_ended(job: Object) -> bool:
    """Whether it has ended, or is about to: nothing of it starts any more."""
    return is_ending(job) or any(is_true(job, kind) for kind in ("Complete", "Failed", "FailureTarget"))


def _is_same(api: Api, one: Planned) -> bool:
    """Whether the Job that is there was made from the same template: the API server knows, and defaults apply."""
    assert one.desired is not None
    try:
        _apply(api, one.ref, one.desired, dryRun="All")
    except ApiError as error:
        if error.status == 422:
            return False
        raise
    return True


def _apply(api: Api, ref: Ref, desired: Object, **query: str) -> None:
    api.request("PATCH", ref.path, desired, query={**_APPLY, **query}, content_type=_APPLY_TYPE)


def _remove(api: Api, ref: Ref, job: Object, deadline: Deadline) -> None:
    """Delete a Job with its pods, and wait until all are gone: so the next one never meets them."""
    if not is_ending(job):
        options: Object = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid(job)}}
        try:
            api.request("DELETE", ref.path, options)
        except ApiError as error:
            if error.status != 404:
                raise
    pause = _LOOK
    while (there := api.get(ref.path)) is not None and uid(there) == uid(job):
        if deadline.expired:
            kept = ", ".join(there["metadata"].get("finalizers") or ()) or "nothing that is known"
            raise RolloutDoomed(
                f"{ref}, which has ended, was not gone {deadline.limit:g} s after it was deleted; it is kept by {kept}",
                hint=f"find out what keeps it: kubectl get job {ref.key.name} -o yaml",
            )
        time.sleep(min(pause, deadline.remaining))
        pause = min(pause * 2, _LONGEST)
    if there is not None and not _has_ended(there):
        raise RolloutDoomed(
            f"somebody else started {ref} at the same moment: it is not touched",
            hint="let one release run at a time, and release again when it has ended",
        )
