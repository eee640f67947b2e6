"""Plans and applies objects in a test's namespace, as the Kubernetes driver does it, a step at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kube
import msgspec

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import applying, planning
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.objects import Manifest, Plan
from deploy_guard.drivers.kubernetes.target import Target

SERVICE = "shop"


class Deployer:
    """One service in one namespace; ``config`` are keys of the driver's table."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.api = connection
        self.target = Target(kube.context(), namespace)
        self.config = KubernetesConfig(manifests=("k8s",))
        self.progress: Callable[[str], None] = lambda _line: None

    @classmethod
    @contextmanager
    def of(cls, namespace: str, kubeconfig: Path | None = None) -> Iterator[Deployer]:
        """A deployer with a connection of its own."""
        environ: Mapping[str, str] = os.environ
        if kubeconfig is not None:
            environ = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        connection = Connection.open(Target(kube.context(), namespace), environ)
        try:
            yield cls(connection, namespace)
        finally:
            connection.close()

    def set(self, **config: Any) -> None:
        """Change keys of the driver's table."""
        self.config = msgspec.structs.replace(self.config, **config)

    def plan(self, *bodies: kube.Body) -> Plan:
        """What a release of these objects would do; they stand in a file of that name, in this order."""
        found = [Manifest(body, f"k8s/app.yaml, document {place}") for place, body in enumerate(bodies, 1)]
        return planning.plan(self.api, found, self.config, self.target, SERVICE)

    def apply(self, planned: Plan, version: str = "v1.0.0") -> None:
        """Apply, then run Jobs of the phase after and prune."""
        context = Context(SERVICE, "prod", Path(), {"VERSION": version, "COMMIT": "abc"}, progress=self.progress)
        applying.apply(self.api, planned, self.config, self.target, context)
        applying.finish(self.api, planned, self.config, self.target, context, Deadline.after(60))

    def release(self, *bodies: kube.Body, version: str = "v1.0.0") -> Plan:
        """Plan and apply."""
        planned = self.plan(*bodies)
        self.apply(planned, version)
        return planned


def actions(planned: Plan) -> dict[str, str]:
    """What happens to each object."""
    return {str(one.ref): one.action for one in planned.objects}


def diffs(planned: Plan) -> dict[str, list[str]]:
    """The diff of each object that changes, in lines."""
    return {str(one.ref): one.diff.splitlines() for one in planned.objects if one.action != "none"}
