"""Whether everything is as it was before the rollout: the objects, and the images that run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import compare, merging, order, returning, snapshots, undo
from deploy_guard.drivers.kubernetes.api import Api, ApiError, Unreachable
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.snapshots import Saved
from deploy_guard.drivers.kubernetes.views import is_ending


def differences(api: Api, data: Mapping[str, Any], deadline: Deadline) -> list[str]:
    """Return a line for each thing that is not as the snapshot says; none when everything is.

    What others changed, and the rollout did not, is no difference. With ``rollback = "undo"`` only pod templates count.
    """
    saved = snapshots.read(data)
    if data["mode"] == "undo":
        saved = [one for one in saved if undo.undoes(one)]

    def look(one: Saved) -> Object | None:
        try:
            return api.request("GET", one.ref.path, patience=max(deadline.remaining, 1.0))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    try:
        bodies = api.each(look, saved)
        lines = [line for one, now in zip(saved, bodies, strict=True) for line in _of(one, now)]
        there = [(one, now) for one, now in zip(saved, bodies, strict=True) if now is not None]
        return [*lines, *_images(api, data, there)]
    except (ApiError, Unreachable) as error:
        return [f"the cluster can't be compared with the snapshot: {error.what}"]


def _of(saved: Saved, now: Object | None) -> list[str]:
    ref = saved.ref
    if saved.before is None:
        left_behind = now is None or ref.key.kind in order.KEPT or not returning.made_by_us(now)
        return [] if left_behind else [f"{ref} is there; before the rollout it was not"]
    if returning.is_done(saved):
        return []
    if now is None or is_ending(now):
        return [f"{ref} is gone; before the rollout it was there"]
    current = compare.masked(now)
    if saved.is_secret:
        # Values are in no snapshot; the way back compared them as it wrote them.
        current = _without_copies(current)
    after = None if saved.action == "remove" else saved.after
    lines = []
    for path in merging.left(saved.before, after, current):
        was, there = (compare.get(body, path, compare.ABSENT) for body in (saved.before, current))
        lines.append(f"{ref} {compare.shown(path)} is {_shown(there)}; before the rollout it was {_shown(was)}")
    return lines


def _without_copies(body: Object) -> Object:
    annotations = body["metadata"].get("annotations") or {}
    if merging.LAST_APPLIED not in annotations:
        return body
    kept = {name: value for name, value in annotations.items() if name != merging.LAST_APPLIED}
    return {**body, "metadata": {**body["metadata"], "annotations": kept}}


def _shown(value: Any) -> str:
    return "absent" if value is compare.ABSENT else compare.value_shown(value)


def _images(api: Api, data: Mapping[str, Any], there: Sequence[tuple[Saved, Object]]) -> list[str]:
    before: snapshots.Images = data["images"]
    some = [(one.ref, now) for one, now in there if before.get(one.ref.path)]
    running = snapshots.images(api, some)
    lines = []
    for ref, _ in some:
        for name, images in running[ref.path].items():
            was = before[ref.path].get(name, [])
            if was and (other := [image for image in images if image not in was]):
                now, then = ", ".join(other), ", ".join(was)
                lines.append(f"{ref} container {name} runs the image {now}; before the rollout it ran {then}")
    return lines
