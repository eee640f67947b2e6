"""The Docker Compose driver: plan, up, watch; and exactly the old containers back again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import JSON, Context, Plan, Release, Snapshot
from deploy_guard.drivers.compose import masks, planning, restoring
from deploy_guard.drivers.compose.applying import Applier
from deploy_guard.drivers.compose.before import Before, differences
from deploy_guard.drivers.compose.commands import Commands, where
from deploy_guard.drivers.compose.config import ComposeConfig, project_of
from deploy_guard.drivers.compose.engine import Engine, EngineAway, EngineError
from deploy_guard.drivers.compose.keeping import Keeper, Kept
from deploy_guard.drivers.compose.planning import Planned
from deploy_guard.drivers.compose.restoring import Restorer, volumes_of
from deploy_guard.drivers.compose.watching import containers_of
from deploy_guard.errors import ConfigurationError, PlanRejected, RollbackFailed, VerifyFailed
from deploy_guard.redact import Redactor

SCHEMA = 1
_OLD = "what ran before"
"""The version of containers that nobody knows a version of."""


class ComposeDriver:
    """Deploys one Compose project to the Docker engine that docker is set to."""

    Config: ClassVar[type[ComposeConfig]] = ComposeConfig

    def __init__(self, config: ComposeConfig, context: Context) -> None:
        project = config.project or project_of(context.service)
        if not project:
            raise ConfigurationError(
                f"no name of a Compose project can be made of {context.service!r}",
                hint=f'write project = "…" under [env.{context.env}.compose]',
            )
        self._config, self._context, self._project = config, context, project
        self._commands = Commands(config, context, project)
        on = where(config, context.environ)
        self.target = f"compose {project}" + (f" on {on}" if on else "")
        self._engine = Engine(self._commands.docker, self._commands.environ())
        self._release = Release(None)
        self._planned: Planned | None = None
        self._taken: tuple[Before, Kept] | None = None

    # Looking

    def plan(self, release: Release) -> Plan:
        """Resolve the project, prepare its images, ask Compose for a dry run; no container changes."""
        self._release, self._taken = release, None
        self._commands = replace(self._commands, release=release)
        try:
            planned = planning.plan(self._commands, self._engine)
            proper = [one for one in planned.present if not one.one_off]
            if proper:
                images = {one.service: one.image for one in proper}
                planned = replace(planned, version=Keeper(self._engine, self._project).version_of(images))
        except (EngineAway, EngineError) as error:
            raise PlanRejected(self._commands.hidden().redactor.redact(error.what), hint=error.hint) from None
        self._planned = planned
        self._commands = replace(self._commands, redactor=planned.redactor)
        data: dict[str, JSON] = {"project": self._project, "images": dict(planned.images), "notes": list(planned.notes)}
        return Plan(planned.changes, planned.digest, data)

    def snapshot(self, plan: Plan) -> Snapshot:
        """Describe the containers that are there, without the values of variables; nothing in the engine changes."""
        planned = self._of(plan)
        before, _ = self._take(planned)
        previous = (planned.version or _OLD) if before.containers else None
        return Snapshot("compose", SCHEMA, self.target, previous, before.to_json())

    # Going forward

    def apply(self, plan: Plan) -> None:
        """Keep what leads back, run the tasks before, bring it up."""
        planned = self._of(plan)
        before, kept = self._take(planned)
        self._applier(planned).apply(before, kept, self._release)

    def wait(self, plan: Plan, deadline: Deadline) -> None:
        """Wait until everything is well, then run the tasks after."""
        planned = self._of(plan)
        applier = self._applier(planned)
        applier.wait(deadline)
        if not plan.unchanged:
            before, _ = self._take(planned)
            applier.tasks("after", self._config.after, before.key, deadline)

    # Going back

    def rollback(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Bring the old containers back, by image and setting; remove what the release added, but no volume."""
        before = self._known(snapshot)
        self._reach(deadline)
        redactor = self._planned.redactor if self._planned is not None else self._masks()
        Restorer(self._engine, before, self._config.dwell, redactor, self._context.progress).restore(deadline)

    def verify(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Compare with the snapshot: containers, their images and settings, health, volumes.

        What was kept for this way back is given up then: nobody needs it any more.
        """
        before = self._known(snapshot)
        while True:
            self._reach(deadline)
            try:
                found = self._differences(before)
                break
            except (EngineAway, EngineError) as error:
                if deadline.expired or isinstance(error, EngineError):
                    raise VerifyFailed([error.what], hint=error.hint) from None
        if found:
            raise VerifyFailed(found, hint=f"look at {self.target}: {self._commands.shown('ps', '--all')}")

    def _differences(self, before: Before) -> list[str]:
        keeper = Keeper(self._engine, self._project)
        kept = keeper.find(before.key)
        known = {making.name: making for making in kept.makings} if kept is not None else {}
        volumes = volumes_of(self._engine, set(before.volumes))
        now = containers_of(self._engine, self._project)
        found = differences(before, now, volumes, kept.salt if kept is not None else None, known)
        if not found:
            keeper.forget(before.key)
        return found

    def notices(self) -> tuple[str, ...]:
        """Say what a reviewer must know besides the changes."""
        return self._planned.notes if self._planned is not None else ()

    def close(self) -> None:
        """End the connections; the driver can be used again."""
        self._engine.close()

    # The parts

    def _applier(self, planned: Planned) -> Applier:
        return Applier(self._engine, self._commands, planned)

    def _take(self, planned: Planned) -> tuple[Before, Kept]:
        if self._taken is None:
            try:
                self._taken = restoring.take(self._engine, planned)
            except (EngineAway, EngineError) as error:
                raise PlanRejected(planned.redactor.redact(error.what), hint=error.hint) from None
        return self._taken

    def _of(self, plan: Plan) -> Planned:
        """Return what was planned in this process under that digest."""
        if self._planned is None or self._planned.digest != plan.digest:
            raise PlanRejected("this plan was not made by this driver", hint="plan again, then apply")
        return self._planned

    def _known(self, snapshot: Snapshot) -> Before:
        """Return the data of a snapshot that this version can read, and that is of this target."""
        if snapshot.driver != "compose" or snapshot.schema != SCHEMA:
            raise RollbackFailed(
                f"the snapshot is of the driver {snapshot.driver}, schema {snapshot.schema}; this version reads "
                f"compose, schema {SCHEMA}",
                hint="go back with the version of deploy-guard that made it",
            )
        if snapshot.target != self.target:
            raise RollbackFailed(
                f"the snapshot is of {snapshot.target}, and {self.target} is configured now",
                hint="go back with the configuration, DOCKER_HOST and docker context that it was shipped with",
            )
        data: Any = snapshot.data
        try:
            return Before.from_json(data)
        except (KeyError, TypeError) as error:
            raise RollbackFailed(
                f"the data of the snapshot can't be read: {error!r}", hint="bring the old version back by hand"
            ) from error

    def _reach(self, deadline: Deadline) -> None:
        """Wait for the engine, which may be starting again."""
        while True:
            try:
                self._engine.version()
                return
            except EngineAway as error:
                if deadline.expired:
                    raise RollbackFailed(error.what, hint=error.hint) from error
                self._context.progress(f"waiting for the engine: {error.what}")
                Deadline.after(min(0.5, deadline.remaining)).sleep()

    def _masks(self) -> Redactor:
        """Return what hides the values of the containers that are there, in a process that made no plan."""
        try:
            found = containers_of(self._engine, self._project)
            images = {one.image: self._engine.found(f"/images/{one.image}/json") for one in found}
        except (EngineAway, EngineError):  # then there is no log to quote either
            return masks.redactor(masks.of_environment(self._commands.environ(), ()))
        return masks.redactor(
            [*masks.of_containers(found, images), *masks.of_environment(self._commands.environ(), ())]
        )
