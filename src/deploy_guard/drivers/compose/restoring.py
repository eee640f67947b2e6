"""The way back: exactly the old containers, from what is kept in the engine."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.compose import files, makings
from deploy_guard.drivers.compose.before import Before, Was, Way, proper, startable, way
from deploy_guard.drivers.compose.doom import Expected, Judge
from deploy_guard.drivers.compose.engine import Engine, EngineAway, EngineError
from deploy_guard.drivers.compose.keeping import Keeper, Kept, new_key
from deploy_guard.drivers.compose.makings import Making
from deploy_guard.drivers.compose.planning import Planned
from deploy_guard.drivers.compose.state import PROJECT, Container
from deploy_guard.drivers.compose.watching import Events, Watcher, containers_of
from deploy_guard.errors import PlanRejected, RollbackFailed
from deploy_guard.redact import Redactor

_AGAIN = 0.5
"""Seconds until something that went wrong is tried again."""
_STUBBORN = 10.0
"""Seconds of one and the same error that end the way back: it is not the engine coming up again."""
_STARTS = 2
"""How often a container is started; one that was stopped just then, by a command that was cut off, needs a second."""
_GRACE = 10
"""Seconds that the engine gives a container to end, where nothing else is said."""


def take(engine: Engine, planned: Planned) -> tuple[Before, Kept]:
    """Describe what is there: for the snapshot without secrets, for the engine with all that makes it again.

    :raises PlanRejected: when a rollback could not bring it back.
    """
    key, salt = new_key(time.time(), secrets.token_hex(4)), secrets.token_hex(16)
    found = proper(planned.present)
    names = {one.id: one.proper_name for one in planned.present}
    if gone := [one for one, _ in found if engine.found(f"/images/{one.image}/json") is None]:
        raise PlanRejected(
            f"the images of {', '.join(one.shown for one in gone)} are gone from the engine: a rollback could not "
            "bring them back",
            hint="deploy what serves now once more by hand (docker compose up --force-recreate), then run again",
        )
    taken = [makings.of(one, names, files.copied(engine, one)) for one, _ in found]
    was = [Was.of(one, making, salt, interrupted=cut_off) for (one, cut_off), making in zip(found, taken, strict=True)]
    used = sorted({name for making in taken for name in making.networks} - {"bridge"})
    networks = [raw for name in used if (raw := engine.found(f"/networks/{name}")) is not None]
    before = Before(
        planned.project.name,
        key,
        tuple(was),
        tuple(sorted({*networks_of(engine, planned.project.name), *used})),
        volumes_of(engine, {name for one, _ in found for name in one.volumes}),
    )
    return before, Kept(key, salt, tuple(taken), tuple(makings.network(raw) for raw in networks))


def networks_of(engine: Engine, project: str) -> list[str]:
    """Return the names of the networks that Compose made for a project."""
    query = {"filters": json.dumps({"label": [f"{PROJECT}={project}"]})}
    return [str(one["Name"]) for one in engine.get("/networks", query=query)]


def volumes_of(engine: Engine, names: set[str]) -> dict[str, str]:
    """Return when each of these volumes was made; those that are not there are left out."""
    found = {name: engine.found(f"/volumes/{name}") for name in sorted(names)}
    return {name: str(raw.get("CreatedAt", "")) for name, raw in found.items() if raw is not None}


@dataclass
class Restorer:
    """Brings one project back to what was there before.

    :param dwell: seconds that a container without a healthcheck must run before it counts as well.
    """

    engine: Engine
    before: Before
    dwell: float
    redactor: Redactor
    progress: Callable[[str], None]
    _kept: Kept | None = None
    _made: set[str] = field(default_factory=set)
    _starts: dict[str, int] = field(default_factory=dict)

    def restore(self, deadline: Deadline) -> None:
        """Go on until it is there and well, whatever the engine does meanwhile.

        :raises RollbackFailed: when it can't be, or is not at the deadline; nothing is touched where copies are gone.
        """
        with Events(self.engine, self.before.project) as events:
            failing: tuple[str, float] | None = None
            while True:
                try:
                    self._arrange()
                    watcher = self._start()
                    if watcher is not None and self._is_well(watcher, events, deadline):
                        break
                    failing = None
                except (EngineAway, EngineError) as error:
                    text, since = failing or ("", 0.0)
                    failing = (error.what, since if text == error.what else time.monotonic())
                    stubborn = isinstance(error, EngineError) and time.monotonic() - failing[1] > _STUBBORN
                    if deadline.expired or stubborn:
                        raise RollbackFailed(
                            f"the way back does not go on: {self.redactor.redact(error.what)}", hint=self._hint
                        ) from None
                    self.progress(f"tried again: {self.redactor.redact(error.what)}")
                    time.sleep(min(_AGAIN, deadline.remaining))
                if deadline.expired:
                    raise RollbackFailed(
                        f"what was there before is not back after {deadline.limit:.3g} s", hint=self._hint
                    )
        self._remove_networks()

    @property
    def salt(self) -> str | None:
        """The salt of the digests; None when it is gone with what was kept."""
        if self._kept is None:
            self._kept = Keeper(self.engine, self.before.project).find(self.before.key)
        return self._kept.salt if self._kept is not None else None

    def way(self) -> Way:
        """Look, and compare with what was there."""
        return way(self.before, containers_of(self.engine, self.before.project), self.salt, self._made)

    # One after the other

    def _arrange(self) -> None:
        """Make what is missing beside what is there, then remove what was not, then give the old names back."""
        back = self.way()
        if back.make:
            made = self._makings(back.make)
            self._make_networks()
            self._make(back, made)
            back = self.way()
        if back.remove:
            self.progress(f"stopping {', '.join(one.name for one in back.remove)}")
            self.engine.each(self._remove, back.remove)
        for one, name in back.rename:
            self.engine.post(f"/containers/{one.id}/rename", query={"name": name})
            print(f"{name}: brought back (image {one.image_name})")

    def _makings(self, missing: tuple[Was, ...]) -> dict[str, Making]:
        known = {making.name: making for making in self._kept.makings} if self._kept is not None else {}
        if lost := [was for was in missing if was.name not in known]:
            told = "\n".join(
                f"  {was.shown}: image {was.image_name}, variables {', '.join(was.variables) or 'none'}" for was in lost
            )
            raise RollbackFailed(
                "what was kept of the old containers is gone from the engine (pruned, or removed by hand), with the "
                f"values of their variables; nothing was touched. To be made again:\n{told}",
                hint="deploy the old version again: check out its commit, set these variables, and ship it",
            )
        return {was.name: known[was.name] for was in missing}

    def _make(self, back: Way, made: Mapping[str, Making]) -> None:
        ids = {name: one.id for name, one in back.there.items()}
        ahead = dict(made)
        while ahead:
            ready = [making for making in ahead.values() if not making.needs & set(ahead)] or list(ahead.values())
            numbers = self.engine.each(lambda making: self._make_one(making, ids), ready)
            ids.update({making.name: number for making, number in zip(ready, numbers, strict=True)})
            for making in ready:
                del ahead[making.name]

    def _make_one(self, making: Making, ids: Mapping[str, str]) -> str:
        """Make a container under a name of its own; complete, it gets the one by which the next look knows it."""
        raw = self.engine.found(f"/images/{making.image_name}/json")
        same = raw is not None and raw["Id"] == making.image
        body = making.body(ids, image=making.image_name if same else making.image)
        token = secrets.token_hex(6)
        made = self.engine.post("/containers/create", body, query={"name": f"unready-{token}"})
        number = str(made["Id"])
        for name, endpoint in making.further_networks.items():
            self.engine.post(f"/networks/{name}/connect", {"Container": number, "EndpointConfig": dict(endpoint)})
        if making.files:
            files.copy_back(self.engine, number, making.files)
        self.engine.post(f"/containers/{number}/rename", query={"name": f"{token}_{making.name}"})
        self._made.add(number)
        return number

    def _remove(self, container: Container) -> None:
        # No volume goes with it: neither named ones nor those without a name.
        if container.status in ("running", "restarting", "paused"):
            grace = container.raw["Config"].get("StopTimeout") or _GRACE
            try:
                self.engine.post(f"/containers/{container.id}/stop", patience=grace + 30.0)
            except EngineError as error:
                if error.status != 404:  # gone meanwhile
                    raise
        self.engine.delete(f"/containers/{container.id}", query={"force": "1"})
        print(f"{container.name}: removed (image {container.image_name})")

    def _start(self) -> Watcher | None:
        """Start what is to run and may; returns who waits for it, or None when more is to be started first."""
        back = self.way()
        if not back.done:
            return None
        ready = self._startable(back)
        for one in ready:
            self._starts[one.id] = self._starts.get(one.id, 0) + 1
        watcher = self._watcher(back)
        if worn := [one for one in ready if self._starts[one.id] > _STARTS]:
            found = watcher.look(complete=True).doomed
            named = ", ".join(one.shown for one in worn)
            raise RollbackFailed(f"{named} does not run any more\n{watcher.told(found)}", hint=self._hint)
        self.engine.each(lambda one: self.engine.post(f"/containers/{one.id}/start"), ready)
        for one in ready:
            print(f"{one.name}: started")
        return watcher

    def _startable(self, back: Way) -> list[Container]:
        """Return what is to be started; a task that ended well when it was started again has done what it is for."""
        return [
            one
            for one in startable(self.before, back.there)
            if not (self._starts.get(one.id) and one.status == "exited" and one.exit_code == 0 and one.ends)
        ]

    def _watcher(self, back: Way) -> Watcher:
        running = [was for was in self.before.containers if was.running]
        services: dict[str, int] = {}
        for was in running:
            services[was.service] = services.get(was.service, 0) + 1
        expected = Expected(
            services,
            completed={was.service for was in running},
            dwell=self.dwell,
            tolerated={back.there[was.name].id for was in running if not was.well},
        )
        idle = {back.there[was.name].id for was in self.before.containers if not was.running}
        restarts = {one.id: one.restarts for one in back.there.values()}
        return Watcher(
            self.engine, self.before.project, Judge(expected, restarts), self.redactor, self.progress, but=idle
        )

    def _is_well(self, watcher: Watcher, events: Events, deadline: Deadline) -> bool:
        """Wait until all is well, or something has ended that is to be started; at the deadline, say what is not."""
        while True:
            look = watcher.look(complete=True)
            if look.healthy:
                return True
            back = self.way()
            if not back.done or self._startable(back):
                return False
            if deadline.expired:
                told = "\n".join(filter(None, [watcher.told(look.doomed), watcher.waited_for(look)]))
                raise RollbackFailed(
                    f"what was there before is not well again after {deadline.limit:.3g} s: {told}", hint=self._hint
                )
            events.wait(min(1.0, deadline.remaining))

    def _make_networks(self) -> None:
        for wanted in self._kept.networks if self._kept is not None else ():
            name = wanted["Name"]
            there = self.engine.found(f"/networks/{name}")
            if there is not None and not makings.same_network(there, wanted):
                try:
                    self.engine.delete(f"/networks/{there['Id']}")
                except EngineError as error:  # containers are in it, and the next look is after they are gone
                    print(f"the network {name} is another one now, and stays: {error.what}")
                    continue
                there = None
            if there is None:
                self._make_network(wanted)

    def _make_network(self, wanted: Mapping[str, Any]) -> None:
        body = {**wanted, "CheckDuplicate": True}
        try:
            self.engine.post("/networks/create", body)
        except EngineError:  # its addresses were taken meanwhile; others will do
            body["IPAM"] = {**(wanted.get("IPAM") or {}), "Config": []}
            self.engine.post("/networks/create", body)
        print(f"the network {wanted['Name']}: brought back")

    def _remove_networks(self) -> None:
        """Remove the networks that the release made; its volumes stay."""
        try:
            for name in networks_of(self.engine, self.before.project):
                if name not in self.before.networks:
                    self.engine.delete(f"/networks/{name}")
                    print(f"the network {name}: removed")
        except (EngineAway, EngineError) as error:  # somebody else's container is in it: nothing is lost
            print(f"a network of the release stays: {error.what}")

    @property
    def _hint(self) -> str:
        return f"look at what is there: docker compose --project-name {self.before.project} ps --all"
