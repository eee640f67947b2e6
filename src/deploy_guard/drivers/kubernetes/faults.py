"""What is wrong with a pod: pure rules over what the API server says of it and of its events.

The exclusions are those that mature tools arrived at after false alarms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from deploy_guard.drivers.kubernetes.health import RESTARTED, Ages, moment
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import condition, is_true, last_seen, uid

Kind = Literal["final", "crash_loop", "image", "unschedulable", "other"]
"""How long a fault must stand: the names of the dwell times; ``final``: it can't get better."""

STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})
"""Why a container waits that is on its way."""
_SHORT_RUN = 600.0
"""Seconds of running after which the kubelet forgets earlier crashes, and so do we."""
_GONE = re.compile(
    r"not found|manifest unknown|does not exist|no match for platform|access denied|unauthorized|denied:|forbidden"
    r"|authentication required|no basic auth credentials",
    re.IGNORECASE,
)
"""What registries say of an image that does not exist or may not be pulled, as told by containerd, CRI-O and Docker."""
_NEVER_IMAGES = frozenset({"InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed"})
_PASSING = re.compile(r"failed to sync \S+ cache|deadline exceeded|is reserved for", re.IGNORECASE)
"""Errors of the kubelet's and of containerd's own making, which pass."""
_OF_THE_NODE = frozenset({"Evicted", "Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeLost"})
"""Reasons of failed pods that say nothing of the release."""
_SCALING = frozenset({"TriggeredScaleUp", "NotTriggerScaleUp", "Nominated"})
"""Events of the cluster autoscaler, and of Karpenter (``Nominated``)."""

_ABSENT = re.compile(r'(configmap|secret|serviceaccount|persistentvolumeclaim) "([^"]+)" not found', re.IGNORECASE)
_ABSENT_KEY = re.compile(r"couldn't find key (\S+) in (ConfigMap|Secret) [^/\s]+/(\S+)")
_ABSENT_ITEM = re.compile(r'volume "([^"]+)" .*references non-existent (?:config|secret) key: (\S+)')
_NO_ROOM = re.compile(r"exceeded quota: ([^,\s]+), requested: (\S+), used: ")
_KINDS = {
    "configmap": "ConfigMap",
    "secret": "Secret",
    "serviceaccount": "ServiceAccount",
    "persistentvolumeclaim": "PersistentVolumeClaim",
}


@dataclass(frozen=True)
class Missing:
    """An object, or a key of it, whose absence a fault is about; of a ResourceQuota, the room: ``pods=1``."""

    kind: str
    name: str
    key: str = ""

    def __str__(self) -> str:
        if self.kind == "ResourceQuota":
            return f"room in {self.kind}/{self.name} for {self.key}"
        return f"{self.kind}/{self.name}" + (f", key {self.key}" if self.key else "")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    :param about: the uid of the pod or workload, and more where a change of it means that things go on.
    :param message: what is wrong, for people.
    :param hint: what to do about it.
    """

    kind: Kind
    reason: str
    message: str
    about: str
    pod: str = ""
    container: str = ""
    hint: str = ""
    missing: Missing | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The same for as long as it is the same fault, though its words change."""
        return self.about, self.container, self.kind

    def __str__(self) -> str:
        where = [f"pod {self.pod}"] if self.pod else []
        where += [f"container {self.container}"] if self.container else []
        return f"{', '.join(where)}: {self.message}" if where else self.message


@dataclass(frozen=True)
class Part:
    """A container of a pod: how it is wanted, and how it is.

    :param once: it runs to its end before others start: an init container that is no sidecar.
    """

    pod: Object
    spec: Object
    status: Object
    once: bool

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.status["name"])

    @property
    def waiting(self) -> Object:
        """Why it waits; empty when it does not."""
        return (self.status.get("state") or {}).get("waiting") or {}

    @property
    def ended(self) -> Object:
        """How its last run ended; empty while it runs, and where it never ran."""
        state = self.status.get("state") or {}
        if "running" in state:
            return {}
        return state.get("terminated") or self.before

    @property
    def before(self) -> Object:
        """How the run before ended."""
        return (self.status.get("lastState") or {}).get("terminated") or {}

    @property
    def is_running(self) -> bool:
        """Whether it runs now."""
        return "running" in (self.status.get("state") or {})

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return int(self.status.get("restartCount") or 0)

    def fault(self, kind: Kind, reason: str, message: str, hint: str = "", missing: Missing | None = None) -> Fault:
        """Return a fault of this container."""
        meta = self.pod["metadata"]
        return Fault(kind, reason, message, uid(self.pod), str(meta["name"]), self.name, hint, missing)

    def is_meant(self, event: Object) -> bool:
        """Whether an event of the pod is about this container."""
        path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
        return not path or path.endswith(f"{{{self.name}}}")


def parts(pod: Object) -> Iterator[Part]:
    """Yield the containers of a pod of which the kubelet has told, in the order in which they start."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    for wanted, told in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        specs = {str(one["name"]): one for one in spec.get(wanted) or ()}
        for one in status.get(told) or ():
            own = specs.get(str(one["name"]), {})
            yield Part(pod, own, one, wanted == "initContainers" and own.get("restartPolicy") != "Always")


def pod_faults(pod: Object, events: Sequence[Object], ages: Ages, *, counts: bool = False) -> Iterator[Fault]:
    """Yield what is wrong with a pod, the worst first.

    :param events: those about it, oldest first.
    :param counts: its Job counts its crashes, and decides by itself.
    """
    status = pod.get("status") or {}
    about, name = uid(pod), str(pod["metadata"]["name"])
    if status.get("phase") == "Failed":
        reason = str(status.get("reason") or "Failed")
        if reason not in _OF_THE_NODE and not is_true(pod, "DisruptionTarget"):
            yield Fault("other", reason, sentence("it failed", reason, status.get("message")), about, name)
        return
    for part in parts(pod):
        fault = None if counts else _crash(part, events, ages)
        if fault := fault or _image(part, events) or _start(part):
            yield fault
    if fault := _mount(pod, events) or _unscheduled(pod, events):
        yield fault


def _crash(part: Part, events: Sequence[Object], ages: Ages) -> Fault | None:
    """Tell a crash loop by its second crash: the status has that word only 10 to 15 s later."""
    spec, reason = part.pod.get("spec") or {}, part.waiting.get("reason")
    if reason == "CrashLoopBackOff":
        crashed = True
    elif spec.get("restartPolicy", "Always") != "Always":
        crashed = False  # a pod of nobody's may end for good
    elif part.is_running:
        # The end of a run is not always told of, when the next one follows at once.
        probed = "readinessProbe" in part.spec and part.status.get("ready")
        young = ages(uid(part.pod), part.status) < RESTARTED
        crashed = part.restarts >= 2 and young and not probed and _was_short(part.before)
    else:
        # An init container that did its work runs again when the pod's sandbox is made again.
        failed = "terminated" in (part.status.get("state") or {}) or reason == "RunContainerError"
        done = part.once and part.ended.get("exitCode") == 0
        again = (part.restarts >= 1 and _was_short(part.ended)) or _is_backed_off(part, events)
        crashed = failed and again and not done
    if not crashed:
        return None
    last = part.before if part.is_running else part.ended
    times = max(2, part.restarts + (not part.is_running))
    reason = "OOMKilled" if last.get("reason") == "OOMKilled" else "CrashLoopBackOff"
    message = f"crashed {times} times, the last time {ending(last)}{_liveness(part, events)}"
    return part.fault("crash_loop", reason, message, "read its log, mend what makes it end, and release again")


def _is_backed_off(part: Part, events: Sequence[Object]) -> bool:
    """Whether the kubelet waits before it starts it again, as it does from the second crash on.

    Where a container can't even be started, the status keeps the first crash for some 15 s.
    """
    ended = str(part.ended.get("finishedAt") or "")
    return any(
        event.get("reason") == "BackOff"
        and "restarting failed container" in str(event.get("message"))
        and part.is_meant(event)
        and ended <= last_seen(event)
        for event in events
        if ended
    )


def _was_short(ended: Object) -> bool:
    start, end = moment(ended.get("startedAt")), moment(ended.get("finishedAt"))
    return not start or end is None or end - start < _SHORT_RUN  # what never ran, ran since 1970


def _liveness(part: Part, events: Sequence[Object]) -> str:
    for event in reversed(events):
        said = line(event.get("message"))
        if event.get("reason") == "Unhealthy" and part.is_meant(event) and said.startswith("Liveness"):
            return f"; the kubelet ended it ({said.removesuffix(':')})"
    return ""


def _image(part: Part, events: Sequence[Object]) -> Fault | None:
    reason, said = str(part.waiting.get("reason") or ""), str(part.waiting.get("message") or "")
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        if ": " not in said:  # older kubelets give the cause in an event only
            told = (str(event.get("message")) for event in reversed(events) if part.is_meant(event))
            said = next((text for text in told if text.startswith("Failed to pull image")), said)
        if not _GONE.search(said):
            return None  # a registry that stumbles, a limit of pulls: the kubelet tries again
    elif reason not in _NEVER_IMAGES:
        return None
    message = sentence(f"the image {part.status.get('image')} can't be used", reason, said)
    return part.fault("image", reason, message, "push the image, or mend its name, its tag or the pull secret")


def _start(part: Part) -> Fault | None:
    state = part.status.get("state") or {}
    told = part.waiting or state.get("terminated") or {}
    reason, said = str(told.get("reason") or ""), str(told.get("message") or "")
    missing = None
    if reason == "CreateContainerConfigError":
        missing = missing_in(said)
    elif reason in ("RunContainerError", "ContainerCannotRun"):
        if part.ended.get("exitCode") == 128:
            return None  # the runtime stumbled; where it was more than that, the container crashes again
    elif reason not in ("CreateContainerError", "PostStartHookError"):
        return None
    if _PASSING.search(said):
        return None
    hint = f"add {missing} to the release" if missing else "mend the container's command, mounts or security context"
    return part.fault("other", reason, sentence("it can't be started", reason, said), hint, missing)


def _mount(pod: Object, events: Sequence[Object]) -> Fault | None:
    """Tell of volumes from ConfigMaps and Secrets that are not there: only events say so."""
    if not any(part.waiting and part.waiting.get("reason", "") in STARTING for part in parts(pod)):
        return None
    for event in reversed(events):
        said = event.get("message")
        if event.get("reason") == "FailedMount" and (missing := missing_in(str(said), pod)):
            message = sentence("a volume can't be mounted", "FailedMount", said)
            hint, name = f"add {missing} to the release", str(pod["metadata"]["name"])
            return Fault("other", "FailedMount", message, uid(pod), name, hint=hint, missing=missing)
    return None


def _unscheduled(pod: Object, events: Sequence[Object]) -> Fault | None:
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    scaling = [event["reason"] for event in events if event.get("reason") in _SCALING]
    if scaling and scaling[-1] != "NotTriggerScaleUp":
        return None  # an autoscaler adds a node, and has not taken that back
    said = str(scheduled.get("message") or "")
    hint, name = "ask for less, add nodes, or mend node selectors and tolerations", str(pod["metadata"]["name"])
    message = sentence("no node takes it", "Unschedulable", said)
    return Fault("unschedulable", "Unschedulable", message, uid(pod), name, hint=hint, missing=missing_in(said))


def missing_in(said: str, pod: Object | None = None) -> Missing | None:
    """Return what an error message says is not there; ``pod`` tells what its volumes are made from."""
    if found := _ABSENT.search(said):
        return Missing(_KINDS[found[1].lower()], found[2])
    if found := _NO_ROOM.search(said):
        return Missing("ResourceQuota", found[1], found[2])
    if found := _ABSENT_KEY.search(said):
        return Missing(found[2], found[3], found[1])
    if pod is not None and (found := _ABSENT_ITEM.search(said)):
        for volume in (pod.get("spec") or {}).get("volumes") or ():
            for kind, source, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
                if volume.get("name") == found[1] and source in volume:
                    return Missing(kind, str(volume[source][name]), found[2])
    return None


# Words


def ending(ended: Object) -> str:
    """Say how a container ended."""
    code, reason = ended.get("exitCode"), str(ended.get("reason") or "")
    if code is None:
        return "in a way that nobody recorded"
    words = f"with exit code {code}" + (f" ({reason})" if reason not in ("", "Error", "Completed") else "")
    return sentence(words, "", ended.get("message"))


def sentence(what: str, reason: str, said: object) -> str:
    """Return ``what: reason: what was said``, without what is empty."""
    return ": ".join(filter(None, (what, reason, line(said))))


def line(text: object, most: int = 400) -> str:
    """Return a text as one line of bearable length."""
    whole = " ".join(str(text or "").split())
    return whole if len(whole) <= most else f"{whole[:most]}…"
