"""The Kubernetes driver: server-side apply through the user's own kubectl, and all of it back again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import JSON, Change, Context, Plan, Release, Snapshot
from deploy_guard.drivers.kubernetes import applying, commands, manifests, planning, restoring, verifying, waiting
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.objects import Plan as Planned
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import DeployGuardError, PlanRejected, RollbackFailed, RolloutDoomed, VerifyFailed

SCHEMA = 1


class KubernetesDriver:
    """Deploys objects to one namespace of one cluster, both pinned by the configuration."""

    Config: ClassVar[type[KubernetesConfig]] = KubernetesConfig

    def __init__(self, config: KubernetesConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._where = Target.pinned(config, context)
        self.target = f"kubernetes {self._where.context}/{self._where.namespace}"
        self._connection: Connection | None = None
        self._planned: tuple[str, Planned] | None = None

    # Looking

    def plan(self, release: Release) -> Plan:
        """Send everything as a dry run and compare; nothing in the cluster changes."""
        known = {name: value for name, value in (("VERSION", release.version), ("COMMIT", release.commit)) if value}
        self._context = replace(self._context, environ={**self._context.environ, **known})
        found = manifests.read(self._config, self._context, self._where.namespace)
        planned = planning.plan(self._api(PlanRejected), found, self._config, self._where, self._context.service)
        digest = planning.digest(planned)
        self._planned = digest, planned
        for line in (*commands.for_plan(self._config, self._where, self._context), *planned.notes):
            print(line)
        changes = tuple(Change(one.action, str(one.ref), one.diff) for one in planned.objects)
        data: dict[str, JSON] = {"notes": list(planned.notes), "objects": [str(one.ref) for one in planned.objects]}
        return Plan(changes, digest, data)

    def snapshot(self, plan: Plan) -> Snapshot:
        """Describe every object that the plan touches, Secret values left out; nothing in the cluster changes."""
        planned = self._of(plan)
        data = restoring.snapshot(self._api(PlanRejected), planned, self._config, self._where, self._context.service)
        return Snapshot("kubernetes", SCHEMA, self.target, planned.previous, data)

    # Going forward

    def apply(self, plan: Plan) -> None:
        """Apply in order: Jobs of the phase before, then the rest."""
        planned = self._of(plan)
        for line in commands.for_apply(self._config, self._where, self._context):
            print(line)
        applying.apply(self._live(), planned, self._config, self._where, self._context)

    def wait(self, plan: Plan, deadline: Deadline) -> None:
        """Wait until healthy or doomed; then run the Jobs of the phase after, and prune."""
        planned = self._of(plan)
        api = self._live()
        waiting.wait(
            api,
            [one.ref for one in planned.objects if one.action != "remove" and not one.phase],
            deadline,
            self._config.dwell,
            self._context.progress,
        )
        if not plan.unchanged:
            applying.finish(api, planned, self._config, self._where, self._context, deadline)

    # Going back

    def rollback(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Restore every field that the rollout changed, remove what it made, and wait until what is there is well."""
        data = self._known(snapshot)
        restoring.rollback(self._api(RollbackFailed), data, deadline, self._config, self._where, self._context.progress)

    def verify(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Compare with the snapshot: objects, and the images that run."""
        data = self._known(snapshot)
        differences = verifying.differences(self._api(RollbackFailed), data, deadline)
        if differences:
            raise VerifyFailed(differences, hint=f"look at {self.target}: {self._where.shown('get', 'all')}")

    def notices(self) -> tuple[str, ...]:
        """Say what a reviewer must know besides the changes."""
        return self._planned[1].notes if self._planned is not None else ()

    def close(self) -> None:
        """End the connection; the driver can be used again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # The parts

    def _api(self, kind: type[DeployGuardError]) -> Connection:
        """Return the connection, made when it is first needed; what kubectl says against it is raised as ``kind``."""
        if self._connection is None:
            try:
                self._connection = Connection.open(self._where, self._context.environ)
            except DeployGuardError as error:
                raise kind(error.what, hint=error.hint) from error
        return self._connection

    def _live(self) -> Connection:
        return self._api(RolloutDoomed)

    def _of(self, plan: Plan) -> Planned:
        """Return what was planned in this process under that digest."""
        if self._planned is None or self._planned[0] != plan.digest:
            raise PlanRejected("this plan was not made by this driver", hint="plan again, then apply")
        return self._planned[1]

    def _known(self, snapshot: Snapshot) -> Any:
        """Return the data of a snapshot that this version can read."""
        if snapshot.driver != "kubernetes" or snapshot.schema != SCHEMA:
            raise RollbackFailed(
                f"the snapshot is of the driver {snapshot.driver}, schema {snapshot.schema}; this version reads "
                f"kubernetes, schema {SCHEMA}",
                hint="go back with the version of deploy-guard that made it",
            )
        if snapshot.target != self.target:
            raise RollbackFailed(
                f"the snapshot is of {snapshot.target}, and {self.target} is configured now",
                hint="go back with the configuration, --context and --namespace that it was shipped with",
            )
        return snapshot.data
