"""What a plan refuses, before anything is touched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from deploy_guard.drivers.compose.commands import Commands
from deploy_guard.drivers.compose.engine import LOWEST, Engine, EngineAway
from deploy_guard.drivers.compose.model import Project, Service
from deploy_guard.drivers.compose.state import PROJECT, Container
from deploy_guard.drivers.local.ready import taken
from deploy_guard.drivers.local.service import resolved
from deploy_guard.errors import CommandFailed, PlanRejected

_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound


def engine(connection: Engine) -> None:
    """The engine answers, and is not too old."""
    try:
        told = connection.version()
    except EngineAway as error:
        raise PlanRejected(error.what, hint=error.hint) from error
    api = tuple(int(part) for part in str(told["ApiVersion"]).split("."))
    if api < LOWEST:
        raise PlanRejected(
            f"the Docker engine {told['Version']} is too old: before 20.10 it does not tell all of what a container "
            "was made with, so that a rollback could not bring it back",
            hint="update the engine",
        )


def tasks(commands: Commands, known: Iterable[str]) -> list[str]:
    """The services and programs that run before and after are there."""
    config, names, found = commands.config, set(known), []
    for which, entries in (("before", config.before), ("after", config.after)):
        for task in entries:
            if isinstance(task, str) and task not in names:
                there = ", ".join(sorted(names))
                found.append(
                    f"{which} names the service {task}, which the Compose files don't have: there are {there}; "
                    f"a command is a list of words: [{[task]!r}]"
                )
            elif (
                not isinstance(task, str) and resolved(task[0], commands.context.directory, commands.environ()) is None
            ):
                found.append(f"{which}: the program {task[0]!r} is not there, not on the PATH, or not executable")
    return found


def provided(connection: Engine, project: Project) -> list[str]:
    """The networks and volumes that the project takes from others are there."""
    return [
        f"the {kind.removesuffix('s')} {name} is not there, and the project says that others make it"
        for kind, names in project.outside_names.items()
        for name in names
        if connection.found(f"/{kind}/{name}") is None
    ]


def prepare_images(commands: Commands, connection: Engine, services: Iterable[Service]) -> list[str]:
    """Build what is built here and pull what is missing, so that what is planned is what ships; returns what failed."""
    config, found = commands.config, []
    wanted = list(services)
    built = [service.name for service in wanted if service.builds] if config.build else []
    if built:
        done = _try(commands, "build", *built)
        if done:
            found.append(f"{', '.join(built)} can't be built{done}")
    missing = {
        service.image: service
        for service in wanted
        if service.name not in built and connection.found(f"/images/{service.image}/json") is None
    }
    for image, service in sorted(missing.items()):
        if config.pull == "never" or service.body.get("pull_policy") == "never":
            how = "is not built here: build = false" if service.builds else 'is not pulled: pull = "never"'
            found.append(f"the engine does not have the image {image} ({service.name}), and it {how}")
            continue
        said = _try(commands, "pull", service.name)
        if said or connection.found(f"/images/{image}/json") is None:
            found.append(f"the image {image} ({service.name}) is neither in the engine nor can it be pulled{said}")
    return found


def ports(connection: Engine, project: Project, present: Iterable[Container], *, local: bool) -> list[str]:
    """Nobody else has the ports that the project publishes.

    :param local: the ports are published on this machine, whose processes may have them too.
    """
    wanted = {
        (address, outside, inside.partition("/")[2]): service.name
        for service in project.services.values()
        for address, outside, inside in service.ports
        if outside and "-" not in outside
    }
    if not wanted:
        return []
    found = [
        f"port {port}/{protocol} is published more than once: {', '.join(names)}"
        for (address, port, protocol), names in _claims(project).items()
        if len(names) > 1
    ]
    ours = {
        (port, inside.partition("/")[2]) for one in present for _, port, inside in one.ports if one.status == "running"
    }
    others = _published(connection, project.name)
    for (address, port, protocol), service in sorted(wanted.items()):
        holder = next(
            (
                name
                for (other, number, kind), name in others.items()
                if (number, kind) == (port, protocol) and _overlap(address, other)
            ),
            None,
        )
        if holder is not None:
            found.append(f"port {port}/{protocol} ({service}) is taken by {holder}")
        elif local and protocol == "tcp" and (port, protocol) not in ours and _taken(address, int(port)):
            found.append(f"port {port}/{protocol} ({service}) is taken by a process that is no container")
    return found


def _claims(project: Project) -> dict[tuple[str, str, str], list[str]]:
    claims: dict[tuple[str, str, str], list[str]] = {}
    for service in project.services.values():
        if service.replicas == 0:
            continue
        for (address, port, inside), times in Counter(service.ports).items():
            if port and "-" not in port:
                key = (address, port, inside.partition("/")[2])
                claims.setdefault(key, []).extend([service.name] * times * service.replicas)
    return claims


def _published(connection: Engine, project: str) -> dict[tuple[str, str, str], str]:
    """Return what containers of others publish: address, port and protocol, with the container's name and project."""
    found: dict[tuple[str, str, str], str] = {}
    for one in connection.get("/containers/json", query={"filters": json.dumps({"status": ["running"]})}):
        owner = (one.get("Labels") or {}).get(PROJECT)
        if owner == project:
            continue
        whose = f"the container {one['Names'][0].removeprefix('/')}" + (f" of the project {owner}" if owner else "")
        for port in _ports(one):
            found[port] = whose
    return found


def _ports(one: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (str(port.get("IP") or ""), str(port["PublicPort"]), str(port["Type"]))
        for port in one.get("Ports") or []
        if port.get("PublicPort")
    ]


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _ANY or other in _ANY


def _taken(address: str, port: int) -> bool:
    try:
        return taken("0.0.0.0" if address in _ANY else address, port)  # noqa: S104 - bound for a moment
    except OSError:  # a name that can't be resolved: the engine says so
        return False


def _try(commands: Commands, *words: str) -> str:
    """Run a command of Compose; returns nothing when it worked, else what it said."""
    print(commands.shown(*words))
    try:
        done = commands.run(commands.compose(*words), live=True)
    except CommandFailed as error:
        return ": " + commands.redactor.redact(error.what)
    return "" if done.ok else commands.tail(done.stderr or done.stdout) or f" (exit code {done.rc})"
