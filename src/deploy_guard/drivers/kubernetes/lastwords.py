"""What failing pods said last: state, events and the end of the log, read before anything is rolled back."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.faults import STARTING, Part, ending, line, parts, sentence
from deploy_guard.drivers.kubernetes.health import containers, is_ready, moment
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.unblocking import blocking
from deploy_guard.drivers.kubernetes.views import View, condition, last_seen, times_seen, uid
from deploy_guard.errors import DeployGuardError

LINES = 25
"""Lines of each log that are quoted."""
PATIENCE = 5.0
"""Seconds for all of it: the old version comes back no later for it."""
_PODS = 3
"""Pods of one workload that are quoted; the others mostly say the same."""
_EVENTS = 8
_BYTES = "262144"
_LONGEST = 500
"""Characters of a line of a log that are quoted."""
_USUAL = frozenset({"Scheduled", "Pulled", "Created", "Started", "SuccessfulCreate", "SuccessfulDelete"})
"""Events of every pod, which explain nothing."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def last_words(api: Api, view: View, deadline: Deadline, names: Sequence[str] = ()) -> list[str]:
    """Return lines for people about the pods that speak for the failure of a workload.

    What can't be read (no rights, no time) is said in a line of its own, and hides nothing else.

    :param deadline: what is not read by then is left out.
    :param names: the pods to quote; by default those that fared worst.
    """
    pods = chosen(view, names)
    found: list[list[str]] = [_about(pod, view.events.get(uid(pod), ())) for pod in pods]
    threads = []
    for number, pod in enumerate(pods):

        def read(number: int = number, pod: Object = pod) -> None:
            found[number] = _about(pod, _events(api, pod, view), _logs(api, pod))

        thread = threading.Thread(target=read, name="last words", daemon=True)
        thread.start()
        threads.append(thread)
    lines: list[str] = []
    for number, thread in enumerate(threads):
        thread.join(deadline.remaining)
        told = list(found[number])
        if thread.is_alive():
            told.append(f"  (its log could not be read within {deadline.limit:g} s)")
        lines += told
    if not pods and view.body is not None:
        makers = [one for one in (view.maker, view.body) if one is not None]
        events = {str(one["metadata"]["name"]): one for maker in makers for one in view.events.get(uid(maker), ())}
        lines += _listed(events.values(), "  ")
    return lines


def chosen(view: View, names: Sequence[str] = ()) -> list[Object]:
    """Return the pods to quote: at most three, those that fared worst first."""
    those = (*view.pods, *view.others) if view.kind == "Job" else (*view.pods, *blocking(view))
    pods = {str(pod["metadata"]["name"]): pod for pod in those}
    if names:
        return [pods[name] for name in dict.fromkeys(names) if name in pods][:_PODS]
    if view.kind == "Job":  # the last one that failed is what decided
        open_ = [pod for pod in pods.values() if _phase(pod) != "Succeeded"]
        failed = [pod for pod in open_ if _phase(pod) == "Failed"] or open_
        return sorted(failed, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))[-1:]
    bad = [pod for pod in pods.values() if not is_ready(pod) and _phase(pod) != "Succeeded"]
    return sorted(bad, key=lambda pod: -sum(part.restarts for part in parts(pod)))[:_PODS]


def obstacle(pod: Object, events: Sequence[Object]) -> str:
    """Say why a pod is not ready, for people; empty when it is."""
    if is_ready(pod):
        return ""
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return sentence("no node takes it", str(scheduled.get("reason") or ""), scheduled.get("message"))
    for part in parts(pod):
        reason, said = str(part.waiting.get("reason") or ""), part.waiting.get("message")
        if reason and not (reason == "PodInitializing" and part.name in _later(pod)):
            told = [event.get("message") for event in events if event.get("type") == "Warning"]
            if not said and told and reason in STARTING:
                said = told[-1]
            return sentence(f"container {part.name} waits", reason, said)
        if part.ended and not (part.once and part.ended.get("exitCode") == 0):
            return f"container {part.name} ended {ending(part.ended)}"
        if part.is_running and (part.once or not part.status.get("ready")):
            return (
                f"container {part.name} {'still runs' if part.once else 'runs, and is not ready'}{_probe(part, events)}"
            )
    others = (pod.get("status") or {}).get("conditions") or ()
    said = ", ".join(f"{one['type']} is {one['status']}" for one in others if one.get("status") != "True")
    return said or "the kubelet has not told of it yet"


def _later(pod: Object) -> set[str]:
    """Return the names of the containers whose turn comes after init containers."""
    once = [part.name for part in parts(pod) if part.once]
    return {str(spec["name"]) for spec, _ in containers(pod)} if once else set()


def _probe(part: Part, events: Sequence[Object]) -> str:
    for event in reversed(events):
        if event.get("reason") == "Unhealthy" and part.is_meant(event):
            return f": {line(event.get('message')).removesuffix(':')} ({_often(times_seen(event))})"
    return ""


def _about(pod: Object, events: Sequence[Object], logs: Sequence[str] = ()) -> list[str]:
    head = f"pod {pod['metadata']['name']}: {obstacle(pod, events) or 'it is running'}"
    return [head, *_listed(events, "  "), *logs]


def _listed(events: Iterable[Object], indent: str) -> list[str]:
    told = sorted((event for event in events if event.get("reason") not in _USUAL), key=last_seen)[-_EVENTS:]
    return [f"{indent}events:", *(f"{indent}  {_event(event)}" for event in told)] if told else []


def _event(event: Object) -> str:
    at = moment(last_seen(event))
    when = f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} " if at is not None else ""
    often = f" ({_often(times_seen(event))})" if times_seen(event) > 1 else ""
    return f"{when}{event.get('type', '')} {event.get('reason', '')}{often}: {line(event.get('message'))}"


def _often(times: int) -> str:
    return "once" if times == 1 else f"{times} times"


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase"))


def _events(api: Api, pod: Object, view: View) -> Sequence[Object]:
    """Return the events of a pod as they are now: the watch tells of them a little later than of the pod."""
    path = f"/api/v1/namespaces/{view.ref.key.namespace}/events"
    try:
        found, _ = api.items(path, query={"fieldSelector": f"involvedObject.uid={uid(pod)}"})
    except DeployGuardError:  # no rights, no server: what the watch told has to do
        return view.events.get(uid(pod), ())
    return sorted(found, key=last_seen)


def _logs(api: Api, pod: Object) -> list[str]:
    """Return the last lines of the containers that are not well, or of all where each seems to be."""
    ran = [part for part in parts(pod) if part.is_running or part.ended]
    bad = [part for part in ran if part.ended.get("exitCode") or part.restarts or not _is_well(part)]
    return [text for part in bad or ran for text in _log(api, part)]


def _is_well(part: Part) -> bool:
    return bool(part.status.get("ready")) or (part.once and part.ended.get("exitCode") == 0)


def _log(api: Api, part: Part) -> list[str]:
    """Return the log of the run that ended; of the one that goes on, where it has no run before."""
    meta = part.pod["metadata"]
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log"
    query = {"container": part.name, "tailLines": str(LINES), "limitBytes": _BYTES}
    runs = [({"previous": "true"}, "the run before"), ({}, "this run")]
    if not (part.is_running and part.restarts):
        runs = [({}, "its last run" if part.ended else "so far")]
    for more, which in runs:
        try:
            text = api.text(path, query={**query, **more})
        except ApiError as error:
            if more:
                continue  # removed already
            return [f"  the log of container {part.name} can't be read: {line(error.what)}"]
        except DeployGuardError as error:
            return [f"  the log of container {part.name} can't be read: {line(error.what)}"]
        quoted = [_CONTROL.sub("", one)[:_LONGEST] for one in text.replace("\r\n", "\n").splitlines()[-LINES:]]
        if not quoted:
            return [f"  container {part.name} logged nothing ({which})"]
        head = f"  the last {len(quoted)} lines of container {part.name} ({which}):"
        return [head.replace("last 1 lines", "last line"), *(f"  | {one}" for one in quoted)]
    return []
