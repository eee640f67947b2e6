"""The state before a rollout, as it stands in the snapshot, and what leads back to it. Pure; it holds no secret."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deploy_guard.drivers.compose import makings
from deploy_guard.drivers.compose.state import Container

ROLLOUT = "deploy-guard.key"
"""The label of containers that tasks of a rollout run in; its value is the rollout's key."""


@dataclass(frozen=True)
class Was:
    """One container as it was.

    :param running: it ran, or was about to run when a recreate of somebody else's was cut off.
    :param well: it ran and was healthy, as far as anybody asked; else its health is no condition afterwards.
    :param variables: the names of its variables.
    :param digest: of all its settings, values included, salted; the salt is in the engine.
    """

    id: str
    name: str
    service: str
    image: str
    image_name: str
    hash: str
    running: bool
    well: bool
    exit_code: int
    variables: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, container: Container, making: makings.Making, salt: str, *, interrupted: bool) -> Was:
        """Describe a container."""
        running = container.status in ("running", "paused", "restarting") or interrupted
        return cls(
            container.id,
            container.proper_name,
            container.service,
            container.image,
            container.image_name,
            container.hash,
            running,
            container.status == "running" and container.health in ("", "healthy"),
            container.exit_code,
            tuple(sorted(container.environment)),
            making.digest(salt),
        )

    @property
    def shown(self) -> str:
        """For people: the service, and the container's name."""
        return f"{self.service} ({self.name})"


@dataclass(frozen=True)
class Before:
    """What was there before a rollout.

    :param key: under which its makings are kept in the engine.
    :param networks: the networks that the project had.
    :param volumes: when each volume that was mounted was made.
    """

    project: str
    key: str
    containers: tuple[Was, ...]
    networks: tuple[str, ...]
    volumes: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "containers": [asdict(was) for was in self.containers], "volumes": dict(self.volumes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Before:
        """Read what :meth:`to_json` gave."""
        containers = tuple(Was(**{**entry, "variables": tuple(entry["variables"])}) for entry in data["containers"])
        return cls(data["project"], data["key"], containers, tuple(data["networks"]), data["volumes"])


@dataclass(frozen=True)
class Way:
    """What leads back from what is there now.

    :param there: the container that is, or will be, the one that was, by its name.
    :param make: those that must be made again.
    :param rename: containers that are the right ones under another name.
    :param remove: containers that were not there, and are in the way.
    """

    there: Mapping[str, Container]
    make: tuple[Was, ...]
    rename: tuple[tuple[Container, str], ...]
    remove: tuple[Container, ...]

    @property
    def done(self) -> bool:
        """The right containers are there, and no others."""
        return not (self.make or self.rename or self.remove)


def proper(containers: Iterable[Container]) -> list[tuple[Container, bool]]:
    """Return the containers that count, each with whether a recreate of it was cut off.

    Of an old container and the new one that was to replace it, the old one counts. A new one without the old one
    counts as itself: it is all that is left.
    """
    found = [one for one in containers if not one.one_off]
    names = {one.name for one in found if not one.leftover}
    half = {one.proper_name for one in found if one.leftover}
    return [(one, one.proper_name in half) for one in found if not one.leftover or one.proper_name not in names]


def way(before: Before, containers: Collection[Container], salt: str | None, made: Collection[str] = ()) -> Way:
    """Compare what is there with what was.

    :param salt: of the digests; without it, image and Compose's hash must do.
    :param made: ids of containers that were made to be the old ones, whatever the engine made of their settings.
    """
    names = {one.id: one.proper_name for one in containers}
    there: dict[str, Container] = {}
    make: list[Was] = []
    for was in before.containers:
        candidates = [one for one in containers if one.proper_name == was.name or one.id == was.id]
        fitting = [one for one in candidates if one.id in made or _is(was, one, names, salt)]
        if fitting:
            # The one that never went, else the one that has its name already.
            there[was.name] = min(fitting, key=lambda one, was=was: (one.id != was.id, one.leftover))  # type: ignore[misc]
        else:
            make.append(was)
    chosen = {one.id for one in there.values()}
    remove = tuple(one for one in containers if one.id not in chosen and _made_by(one, before))
    rename = tuple((one, name) for name, one in there.items() if one.name != name)
    return Way(there, tuple(make), rename, remove)


def startable(before: Before, there: Mapping[str, Container]) -> list[Container]:
    """Return the containers that are to run, don't, and whose dependencies are as Compose wants them."""
    return [
        there[was.name]
        for was in before.containers
        if was.running
        and there[was.name].status in ("created", "exited", "dead")
        and all(_met(service, condition, before, there) for service, condition in there[was.name].dependencies.items())
    ]


def differences(
    before: Before,
    containers: Collection[Container],
    volumes: Mapping[str, str],
    salt: str | None,
    kept: Mapping[str, makings.Making],
) -> list[str]:
    """Say what is not as it was; nothing when all is.

    :param kept: the makings of the old containers, by name, where they are still there.
    """
    back = way(before, containers, salt)
    names = {one.id: one.proper_name for one in containers}
    found, other = [], set()
    for was in back.make:
        now = next((one for one in containers if one.name == was.name), None)
        if now is None:
            found.append(f"{was.shown} is not there (image {was.image_name})")
            continue
        other.add(now.id)
        keys = kept[was.name].differing(makings.of(now, names)) if was.name in kept else []
        found.append(f"{was.shown} is another one" + (f": {', '.join(keys)}" if keys else ""))
    found += [f"{one.shown} is there, and was not" for one in back.remove if one.id not in other]
    found += [f"{name} is called {one.name}" for one, name in back.rename]
    for was in before.containers:
        now = back.there.get(was.name)
        if now is None:
            continue
        if now.status == "exited" and now.exit_code == 0 and now.ends:
            continue  # a task, which may have ended meanwhile
        if was.running and now.status not in ("running", "restarting" if not was.well else "running"):
            found.append(f"{was.shown} ran, and is {now.status} with exit code {now.exit_code}")
        elif was.well and now.checked and now.health != "healthy":
            found.append(f"{was.shown} was healthy, and is {now.health or now.status}")
        elif not was.running and now.status not in ("created", "exited", "dead"):
            found.append(f"{was.shown} did not run, and is {now.status}")
    for name, made in before.volumes.items():
        if name not in volumes:
            found.append(f"the volume {name} is gone, and what was in it")
        elif volumes[name] != made:
            found.append(f"the volume {name} is another one, made {volumes[name]}: what was in it is gone")
    return found


def _is(was: Was, container: Container, names: Mapping[str, str], salt: str | None) -> bool:
    making = makings.of(container, names)
    if container.id == was.id:
        # What shared the network of a container that was replaced must be made again too.
        return all(name in names.values() for name in making.needs)
    if salt is not None:
        return making.digest(salt) == was.digest
    return (container.image, container.hash) == (was.image, was.hash) and not container.leftover


def _made_by(container: Container, before: Before) -> bool:
    """True unless it is somebody's ``docker compose run`` that goes on; those of this rollout's tasks don't count."""
    return not container.one_off or container.labels.get(ROLLOUT) == before.key


def _met(service: str, condition: str, before: Before, there: Mapping[str, Container]) -> bool:
    for was in before.containers:
        if was.service != service:
            continue
        now = there[was.name]
        if condition == "service_completed_successfully":
            if was.running and not (now.status == "exited" and now.exit_code == 0):
                return False
            continue
        unwell = condition == "service_healthy" and was.well and now.checked and now.health != "healthy"
        if unwell or (was.running and now.status != "running"):
            return False
    return True
