"""Rollouts that stumble and then work: none of them may be called doomed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kube import objects
from kube.cluster import Body, Failed, Row, Run, Space, driver
from kube.registry import Registry

LATER = 3.0
"""Seconds after which what a rollout lacks is there."""


@dataclass(frozen=True)
class Stumble:
    """A rollout that works in the end.

    :param late: objects that somebody else makes while the rollout is under way.
    :param early: objects that are there before.
    """

    name: str
    bodies: Callable[[str], list[Body]]
    early: tuple[Body, ...] = ()
    late: tuple[Body, ...] = ()


def stumbles(registry: Registry) -> list[Stumble]:
    kept: Body = {"volumes": [{"name": "kept", "emptyDir": {}}], "mounts": [{"name": "kept", "mountPath": "/kept"}]}
    once = f"if [ ! -e /kept/x ]; then echo > /kept/x; echo database is starting; exit 1; fi; {objects.SLEEP}"
    later = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "x"}}}]
    mounted: Body = {
        "volumes": [{"name": "later", "secret": {"secretName": "later"}}],
        "mounts": [{"name": "later", "mountPath": "/later"}],
    }
    secret: Body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "later"}, "stringData": {"x": "y"}}

    def quota(pods: int) -> Body:
        spec = {"hard": {"pods": str(pods)}}
        return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": spec}

    def one(spec: Body) -> Callable[[str], list[Body]]:
        return lambda _: [objects.deployment("shop", spec, replicas=1)]

    def pulled(name: str) -> list[Body]:
        return one(objects.pod(objects.SLEEP, image=registry.image("stumbles", name)))(name)

    found = [
        Stumble("a container crashes once", one(objects.pod(once, **kept))),
        Stumble(
            "a ConfigMap comes late",
            one(objects.pod(objects.SLEEP, env=later)),
            late=(objects.config_map("later", x="y"),),
        ),
        Stumble("a volume's Secret comes late", one(objects.pod(objects.SLEEP, **mounted)), late=(secret,)),
        Stumble(
            "a container is ready late",
            one(objects.pod(f"/bin/busybox sleep {LATER}; > /ok; {objects.SLEEP}", ready="test -e /ok")),
        ),
        Stumble("a quota is raised late", one(objects.pod(objects.SLEEP)), early=(quota(0),), late=(quota(5),)),
    ]
    if registry.serves:
        found.append(Stumble("a pull fails once (503)", pulled))
    return found


def false_alarms(top: Path, registry: Registry, number: int) -> tuple[list[Row], list[str]]:
    """Return the row, and what is wrong."""
    kinds = stumbles(registry)
    chosen = [kinds[n % len(kinds)] for n in range(number)]
    with ThreadPoolExecutor(4) as pool:
        alarms = [alarm for alarm in pool.map(lambda kind: _alarm(top, kind), chosen) if alarm]
    names = ", ".join(kind.name for kind in kinds)
    row = f"false alarms in {number} healthy rollouts that stumbled ({names})", str(len(alarms)), "", "0"
    return [row], [f"a false alarm: {alarm}" for alarm in alarms]


def _alarm(top: Path, kind: Stumble) -> str:
    """Return what the driver said against a rollout that works, or nothing."""
    with ExitStack() as stack:
        space = stack.enter_context(Space.new(top, "alarm"))
        for body in kind.early:
            space.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body))
        space.write(*kind.bodies(space.name))
        helper = threading.Thread(target=_help_later, args=(space, kind))
        helper.start()
        try:
            run: Run = driver(space, ("plan", "snapshot", "apply", "wait"))
        except Failed as error:
            return f"{kind.name}: {error}"
        finally:
            helper.join()
        return f"{kind.name}: {run.error}" if run.failed else ""


def _help_later(space: Space, kind: Stumble) -> None:
    """Make what is missing, some time after the first pod, or its refusal, is there."""
    limit = time.monotonic() + 60
    while not space.kubectl("get", "replicasets", "-o", "name") and time.monotonic() < limit:
        time.sleep(0.2)
    time.sleep(LATER)
    for body in kind.late:
        space.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(body))
