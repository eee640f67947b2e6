"""The plan: what Compose would do, service by service, beside what is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from deploy_guard.drivers.base import Change
from deploy_guard.drivers.compose import checks, files, masks
from deploy_guard.drivers.compose.changes import Action, Actions, Review
from deploy_guard.drivers.compose.commands import Commands, is_local
from deploy_guard.drivers.compose.engine import Engine
from deploy_guard.drivers.compose.model import Project
from deploy_guard.drivers.compose.state import Container
from deploy_guard.drivers.compose.watching import containers_of
from deploy_guard.errors import CommandFailed, PlanRejected
from deploy_guard.redact import Redactor

_LINE = re.compile(r'(Container|Network|Volume)\s+"?([\w.-]+)"?\s+([A-Z][a-z]+)')
_MADE = ("Creating", "Created")
_REPLACED = ("Recreate", "Recreated")
_COPIES = "Could not find the file"
"""What a dry run says that would have to copy a secret or config into a container that it did not make."""


@dataclass(frozen=True)
class Planned:
    """What the rollout does, and what was there when it was planned.

    :param images: the ids of the services' images.
    :param present: the project's containers.
    :param stale: services into whose containers Compose copied what has another content now; by itself, it would leave
        them as they are.
    """

    project: Project = field(repr=False)
    changes: tuple[Change, ...]
    images: Mapping[str, str]
    present: tuple[Container, ...] = field(repr=False)
    redactor: Redactor = field(repr=False)
    digest: str
    notes: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    version: str | None = None

    @property
    def fingerprint(self) -> bytes:
        """Of the resolved project, values included."""
        return self.project.fingerprint()


def plan(commands: Commands, engine: Engine) -> Planned:
    """Resolve, prepare images, ask Compose, compare. No container changes.

    :raises PlanRejected: with everything that is found to be wrong.
    """
    compose, resolved, warnings = _resolved(commands, engine)
    try:
        project = Project.read(commands.project, resolved)
    except ValueError as error:
        raise PlanRejected(f"what Compose {compose} resolved can't be read: {error}", hint="update Compose") from None
    present = tuple(containers_of(engine, project.name))
    if not project.services:
        raise PlanRejected("the Compose files have no service whose profile is on", hint="correct files or profiles")
    old_images = {one.image: engine.found(f"/images/{one.image}/json") for one in present}
    known = set(project.services)
    aside = _tasks(commands) - known
    if aside or any(one.service not in known for one in present):
        known |= commands.services_of_all_profiles()
    tasks = _tasks_aside(commands, aside & known)
    values = [*project.values(commands.environ()), *(tasks.values(commands.environ()) if tasks else ())]
    redactor = masks.redactor([*values, *masks.of_containers(present, old_images)])
    commands = replace(commands, redactor=redactor)
    wrong = checks.provided(engine, project)
    wrong += checks.tasks(commands, known)
    wrong += checks.ports(engine, project, present, local=is_local(commands.config, commands.environ()))
    services = {**(tasks.services if tasks else {}), **project.services}
    wrong += checks.prepare_images(commands, engine, services.values())
    if wrong:
        raise PlanRejected("\n".join(wrong), hint="mend what is named, then run again")
    new_images = {name: engine.get(f"/images/{one.image}/json") for name, one in project.services.items()}
    images = {name: str(image["Id"]) for name, image in new_images.items()}
    actions, told = _asked(commands, engine, project, resolved, images, present, known, compose)
    stale = _stale(engine, project, present, actions, commands.environ())
    review = Review(project, present, actions, stale, new_images, old_images, redactor)
    notes = (*warnings, *told, *review.notes(known))
    digest = project.digest(images, redactor.redact_json)
    return Planned(project, review.changes(), images, present, redactor, digest, notes, tuple(sorted(stale)))


def _resolved(commands: Commands, engine: Engine) -> tuple[str, str, tuple[str, ...]]:
    """Ask for the version, the project and the engine side by side; the first that is wrong is the one that is told."""
    with ThreadPoolExecutor(2, "plan") as threads:
        version, project = threads.submit(commands.version), threads.submit(commands.resolve)
        try:
            checks.engine(engine)
        except PlanRejected:
            version.result()  # without docker, that is the reason
            raise
        compose = version.result()
        return compose, *project.result()


def _tasks(commands: Commands) -> set[str]:
    return {task for task in (*commands.config.before, *commands.config.after) if isinstance(task, str)}


def _tasks_aside(commands: Commands, names: set[str]) -> Project | None:
    """Return the project with the services that run as tasks and whose profiles are off."""
    resolved = commands.resolve_tasks(names) if names else None
    if resolved is None:
        return None
    try:
        return Project.read(commands.project, resolved)
    except ValueError:  # then their images are looked for when they run
        return None


# What Compose would do


def _asked(
    commands: Commands,
    engine: Engine,
    project: Project,
    resolved: str,
    images: Mapping[str, str],
    present: Iterable[Container],
    known: Iterable[str],
    compose: str,
) -> tuple[dict[tuple[str, str], Action], list[str]]:
    """Return what happens to each container, network and volume, by Compose's own dry run where it can make one."""
    print(commands.shown("--dry-run", "up", "--no-start"))
    before = {one.id: one.name for one in present}
    done = commands.dry_run()
    after = {one.id: one.name for one in containers_of(engine, project.name)}
    if before != after:
        raise PlanRejected(
            f"the dry run of Compose {compose} was none: it changed containers "
            f"({', '.join(sorted({*before.values(), *after.values()}))})",
            hint="look at what is running (docker compose ps), and install another version of Compose",
        )
    if done.ok:
        return _said(done.stdout + done.stderr, {one.name for one in present}), []
    if _COPIES not in done.stderr + done.stdout:
        raise PlanRejected(
            f"Compose refuses the release in a dry run{commands.tail(done.stderr or done.stdout)}",
            hint="mend what it names, then run again",
        )
    try:
        hashes = commands.hashes(resolved)
    except CommandFailed as error:
        raise PlanRejected(error.what, hint=error.hint) from None
    actions = _by_labels(engine, project, hashes, images, present, known)
    note = f"Compose {compose} makes no dry run of secrets and configs that it copies: its labels were compared instead"
    return actions, [note]


def _said(output: str, present: set[str]) -> dict[tuple[str, str], Action]:
    """Read what a dry run prints, line by line."""
    found: dict[tuple[str, str], Action] = {}
    for kind, name, verb in _LINE.findall(output):
        key = kind, name
        if verb in _REPLACED:
            found[key] = "change"
        elif verb in _MADE and name not in present and key not in found:
            found[key] = "create"
        elif verb in ("Removing", "Removed"):
            found[key] = "remove"
    return found


def _by_labels(
    engine: Engine,
    project: Project,
    hashes: Mapping[str, str],
    images: Mapping[str, str],
    present: Iterable[Container],
    known: Iterable[str],
) -> dict[tuple[str, str], Action]:
    """Compare labels as Compose does: the hash of the configuration, and the image."""
    found: dict[tuple[str, str], Action] = {}
    there: dict[str, int] = {}
    for one in present:
        if one.one_off or one.leftover:
            continue
        key = "Container", one.name
        if one.service not in project.services:
            if one.service not in known:
                found[key] = "remove"
            continue
        there[one.service] = there.get(one.service, 0) + 1
        if there[one.service] > project.services[one.service].replicas:
            found[key] = "remove"
        elif (one.hash, one.image) != (hashes.get(one.service), images[one.service]):
            found[key] = "change"
    for name, service in project.services.items():
        for number in range(there.get(name, 0), service.replicas):
            container = str(service.body.get("container_name") or f"{project.name}-{name}-{number + 1}")
            found["Container", container] = "create"
    for kind, names in project.own_names.items():
        used = [name for name in names if engine.found(f"/{kind}/{name}") is None]
        found.update({(kind.removesuffix("s").title(), name): "create" for name in used})
    return found


def _stale(
    engine: Engine,
    project: Project,
    present: Iterable[Container],
    actions: Actions,
    environ: Mapping[str, str],
) -> dict[str, list[str]]:
    """Return the services that Compose leaves alone though a secret or config that it copied is another one now."""
    found: dict[str, list[str]] = {}
    for one in present:
        service = project.services.get(one.service)
        if service is None or one.one_off or ("Container", one.name) in actions:
            continue
        for path, (what, wanted) in sorted(project.copied(service, environ).items()):
            line = f"~ {what} (another content)"
            if files.content(engine, one, path) != wanted.encode() and line not in found.setdefault(one.service, []):
                found[one.service].append(line)
    return {service: lines for service, lines in found.items() if lines}
