"""Pods that keep a StatefulSet from going on for ever, as after a failed release.

A StatefulSet that starts its pods in order waits until each is ready before it replaces the next, the broken pod of a
release that was taken back included: that one must be deleted by hand (kubernetes/kubernetes issue 67250).
"""

from __future__ import annotations

from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.health import is_ready
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import View, is_ending, needs, uid
from deploy_guard.errors import DeployGuardError

_PATIENCE = 5.0


def blocking(view: View) -> list[Object]:
    """Return the pods that are neither ready nor of the wanted revision, and that nothing will replace."""
    body = view.body
    if view.kind != "StatefulSet" or body is None:
        return []
    spec, status = body.get("spec") or {}, body.get("status") or {}
    strategy = spec.get("updateStrategy") or {}
    is_behind = int(status.get("observedGeneration") or 0) < int(body["metadata"].get("generation") or 0)
    if is_behind or spec.get("podManagementPolicy") == "Parallel" or strategy.get("type") == "OnDelete":
        return []
    first = int((spec.get("ordinals") or {}).get("start") or 0)
    lowest = first + int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    return [pod for pod in view.others if not is_ready(pod) and not is_ending(pod) and _ordinal(pod) >= lowest]


def unblock(api: Api, view: View, done: set[str]) -> None:
    """Delete those pods, each once; the StatefulSet makes them anew from the wanted revision.

    :param done: the uids of those for which it was tried.
    """
    for pod in blocking(view):
        name = str(pod["metadata"]["name"])
        if uid(pod) in done:
            continue
        done.add(uid(pod))
        options: Object = {"preconditions": {"uid": uid(pod)}}
        try:
            api.request("DELETE", f"{needs(view.ref)[0]}/{name}", options, patience=_PATIENCE)
        except ApiError as error:
            if error.status not in (404, 409):  # gone, or another one by now
                print(f"{view.ref}: its pod {name} blocks it, and can't be deleted: {error.what}")
        except DeployGuardError:
            done.discard(uid(pod))  # tried again when more is told
        else:
            print(f"{view.ref}: deleted its pod {name}, which was not ready and kept it from going on")


def _ordinal(pod: Object) -> int:
    number = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(number) if number.isdigit() else -1
