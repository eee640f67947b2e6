"""The way forward: what is needed to go back is kept, leftovers are healed, tasks run, and Compose brings it up."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Release
from deploy_guard.drivers.compose.before import ROLLOUT, Before
from deploy_guard.drivers.compose.commands import Commands
from deploy_guard.drivers.compose.doom import Expected, Judge, Look
from deploy_guard.drivers.compose.engine import Engine, EngineAway, EngineError
from deploy_guard.drivers.compose.keeping import Keeper, Kept, Shipped
from deploy_guard.drivers.compose.model import Project
from deploy_guard.drivers.compose.planning import Planned
from deploy_guard.drivers.compose.watching import Events, Lookout, Watcher, containers_of
from deploy_guard.errors import CommandFailed, PlanRejected, RolloutDoomed

_SETTLES = 1.0
"""Seconds in which the engine shows why ``up`` failed: Compose may be the quicker one."""
_PROGRESS = re.compile(r"\s*(Container|Network|Volume|Image) ")
_UP = ("up", "--detach", "--no-build", "--pull", "never", "--remove-orphans")


class _Doomed(Exception):
    """``up`` still runs, and what it has started is doomed already."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look


@dataclass(frozen=True)
class Applier:
    """Applies one plan. ``commands`` hide the values of variables in what they print."""

    engine: Engine
    commands: Commands
    planned: Planned

    def apply(self, before: Before, kept: Kept, release: Release) -> None:
        """Make the changes.

        :raises RolloutDoomed: when it can't succeed; until ``up`` begins, nothing that serves was touched.
        """
        services = self.planned.project.services
        images = {name: image for name, image in self.planned.images.items() if services[name].replicas}
        shipped = Shipped(self.planned.version, release.version, images_of(before), images)
        with ThreadPoolExecutor(1, "resolve") as threads:
            same = threads.submit(self._same_files)
            try:
                self._unmoved()
                Keeper(self.engine, before.project).keep(kept, shipped)
                if not same.result():
                    raise RolloutDoomed(
                        "the Compose files changed after they were planned; nothing was changed", hint="run again"
                    )
                self._heal()
            except (EngineAway, EngineError) as error:
                raise RolloutDoomed(
                    f"nothing was changed: {self._redact(error.what)}",
                    hint=error.hint or "look at the engine: docker info",
                ) from None
        self.tasks("before", self.commands.config.before, before.key, None)
        self._up()

    def tasks(self, which: str, tasks: Sequence[str | tuple[str, ...]], key: str, deadline: Deadline | None) -> None:
        """Run services to their end, and commands."""
        for task in tasks:
            if isinstance(task, str):
                words = ("run", "--rm", "--no-TTY", "--label", f"{ROLLOUT}={key}", task)
                argv, shown = self.commands.compose(*words), f"the service {task}"
            else:
                argv, shown = task, shlex.join(task)
            print(f"{which}: {self._redact(shlex.join(argv))}")
            limit = self.commands.config.timeout
            if deadline is not None:
                limit = min(limit, deadline.remaining or 0.1)
            try:
                done = self.commands.run(argv, timeout=limit, live=True)
            except CommandFailed as error:
                raise RolloutDoomed(f"{which}: {self._redact(error.what)}", hint=error.hint) from None
            if not done.ok:
                said = "" if done.stdout or done.stderr else ", and said nothing"
                tail = self.commands.tail(done.stdout + done.stderr)
                raise RolloutDoomed(
                    f"{which}: {self._redact(shown)} ended with exit code {done.rc}{said}{tail}",
                    hint="mend it; what it did before it failed is not undone",
                )

    # The parts

    def _same_files(self) -> bool:
        """True when the Compose files still say what was planned."""
        try:
            resolved, _ = self.commands.resolve()
            return Project.read(self.planned.project.name, resolved).fingerprint() == self.planned.fingerprint
        except (PlanRejected, ValueError):
            return False

    def _unmoved(self) -> None:
        """The images, and what is there, are what was planned."""
        for service, image in self.planned.images.items():
            name = self.planned.project.services[service].image
            if (self.engine.found(f"/images/{name}/json") or {}).get("Id") != image:
                raise RolloutDoomed(
                    f"the image {name} changed after it was planned; nothing was changed", hint="run again"
                )
        now = {one.id for one in containers_of(self.engine, self.planned.project.name) if not one.one_off}
        if now != {one.id for one in self.planned.present if not one.one_off}:
            raise RolloutDoomed(
                "somebody else changed the project's containers after the plan; nothing was changed", hint="run again"
            )

    def _heal(self) -> None:
        """Give the containers of a recreate that was cut off their names: ``up`` would meet names that are taken."""
        names = {one.name for one in self.planned.present}
        for one in self.planned.present:
            if one.leftover and one.proper_name in names:
                self.engine.delete(f"/containers/{one.id}")  # never started; its volumes are those of the old one
                print(f"{one.name}: left by a recreate that was interrupted, removed")
            elif one.leftover:
                self.engine.post(f"/containers/{one.id}/rename", query={"name": one.proper_name})
                names.add(one.proper_name)
                print(f"{one.name}: left by a recreate that was interrupted, renamed to {one.proper_name}")

    def _up(self) -> None:
        watcher = self.watcher(but={one.id for one in self.planned.present})
        commands: list[tuple[str, ...]] = [_UP]
        if self.planned.stale:
            commands.append((*_UP, "--force-recreate", "--no-deps", *self.planned.stale))
        started = time.monotonic()
        with Events(self.engine, self.planned.project.name) as events, Lookout(watcher, events) as lookout:

            def watch() -> None:
                if lookout.doomed is not None:
                    raise _Doomed(lookout.doomed)

            for words in commands:
                print(self.commands.shown(*words))
                try:
                    done = self.commands.run(self.commands.compose(*words), live=True, watch=watch)
                except _Doomed as found:
                    raise RolloutDoomed(watcher.told(found.look.doomed)) from None
                except CommandFailed as error:
                    waiting = watcher.waited_for(watcher.last)
                    what = self._redact(error.what) + (f"\nwaited for: {waiting}" if waiting else "")
                    raise RolloutDoomed(what, hint="give it more time with timeout, or see what it waits for") from None
                if not done.ok:
                    self._failed(events, done.stderr or done.stdout)
        print(f"up after {time.monotonic() - started:.1f} s")

    def _failed(self, events: Events, said: str) -> None:
        """Say why ``up`` failed: what is wrong with a container, or else what Compose said."""
        limit = Deadline.after(_SETTLES)
        watcher = self.watcher(but={one.id for one in self.planned.present}, dwell=0.0)
        found = ""
        while True:
            try:
                look = watcher.look(complete=False)
                if look.doomed:
                    found = "\n" + watcher.told(look.doomed)
                    break
            except (EngineAway, EngineError) as error:
                found = f"\n{self._redact(error.what)}"
            if limit.expired:
                break
            events.wait(min(0.1, limit.remaining))
        lines = [line for line in said.splitlines() if not _PROGRESS.match(line)]
        raise RolloutDoomed(f"docker compose up failed{self.commands.tail(chr(10).join(lines) or said)}{found}")

    def watcher(self, but: set[str] | None = None, dwell: float | None = None) -> Watcher:
        """Return who looks at the release's containers."""
        project = self.planned.project
        expected = Expected(
            {name: service.replicas for name, service in project.services.items()},
            project.completed,
            self.commands.config.dwell if dwell is None else dwell,
        )
        restarts = {one.id: one.restarts for one in self.planned.present}
        progress = self.commands.context.progress
        judge = Judge(expected, restarts)
        return Watcher(self.engine, project.name, judge, self.planned.redactor, progress, but=but or set())

    def wait(self, deadline: Deadline) -> None:
        """Wait until everything is well; raises ``RolloutDoomed`` as soon as it can't be, or at the deadline."""
        watcher = self.watcher()
        with Events(self.engine, self.planned.project.name) as events:
            try:
                look = watcher.follow(events, deadline)
            except (EngineAway, EngineError) as error:
                raise RolloutDoomed(self._redact(error.what), hint=error.hint) from None
            if look.doomed:
                raise RolloutDoomed(watcher.told(look.doomed))
            if not look.healthy:
                raise RolloutDoomed(
                    f"not healthy after {deadline.limit:.3g} s: {watcher.waited_for(look)}",
                    hint="mend it, or give it more time with timeout",
                )

    def _redact(self, text: str) -> str:
        return self.commands.redactor.redact(text)


def images_of(before: Before) -> Mapping[str, str]:
    """Return the image of each service that was there."""
    return {was.service: was.image for was in before.containers}
