"""The ``[env.X.kubernetes]`` table."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from deploy_guard.drivers.local.config import Command, Duration
from deploy_guard.duration import NO_TIME_SCHEMA, seconds_or_none
from deploy_guard.tables import Reads, Table

IN_CLUSTER = "in-cluster"
"""The context of a run inside the cluster: the service account of its own pod."""

Dwell = Annotated[float, Reads(seconds_or_none), Meta(ge=0, extra_json_schema=NO_TIME_SCHEMA)]


class Dwells(Table, frozen=True):
    """How long, in seconds, a failure must stand before the rollout is given up.

    :param crash_loop: a container that crashed again and again.
    :param image: an image that does not exist, or may not be pulled.
    :param unschedulable: a pod that no node takes; while an autoscaler says that it adds one, this does not count.
    :param other: everything else that some controllers heal by themselves.
    :param settle: for how long a container that nothing probes must run before it counts as healthy; after a restart
        10 s, or this if it is longer.
    """

    crash_loop: Dwell = 0.0
    image: Dwell = 5.0
    unschedulable: Dwell = 30.0
    other: Dwell = 10.0
    settle: Dwell = 3.0


class KubernetesConfig(Table, frozen=True):
    """Configuration of the Kubernetes driver; relative paths start at the configuration file's folder.

    :param context: the kubeconfig's context, or ``in-cluster``.
    :param manifests: files, folders and globs; a folder with a kustomization is built by kustomize.
    :param render: a command that prints manifests.
    :param adopt: take over fields of kubectl's client-side apply and of Helm, or of the field managers named.
    :param prune: delete the objects of the last release that are not in this one.
    :param rollback: ``restore`` every field that was changed, or just ``undo`` the rollout of the workloads.
    :param timeout: seconds for each Job of a phase, and at most for wait.
    """

    context: str | None = None
    namespace: str | None = None
    manifests: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None
    render: Command | None = None
    render_timeout: Duration = 60.0
    strict_variables: bool = False
    adopt: bool | tuple[str, ...] = False
    prune: bool = False
    rollback: Literal["restore", "undo"] = "restore"
    timeout: Duration = 300.0
    dwell: Dwells = field(default_factory=Dwells)

    def __post_init__(self) -> None:
        if not self.manifests and not self.render:
            raise ValueError(
                'nothing to deploy is named: write manifests = ["k8s/*.yaml"], or render = ["helm", "template", …]'
            )
