"""The ``[env.X.compose]`` table."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta

from deploy_guard.drivers.local.config import Duration
from deploy_guard.tables import Check, Reads, Table

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")


def _project(value: str) -> None:
    if not _PROJECT.fullmatch(value):
        raise ValueError("write lower-case letters, digits, - and _ (at most 63), beginning with a letter or digit")


def _files(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"this is a list of files: write {[value]!r}")
    return value


def _tasks(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"this is a list of services and commands: write {[value]!r}")
    if isinstance(value, list):
        for entry in value:
            if isinstance(entry, str) and not _SERVICE.fullmatch(entry):
                words = entry.split()
                raise ValueError(
                    f"{entry!r} is no name of a service; a command is a list of words, there is no shell: "
                    f"write [{words!r}]"
                )
    return value


Files = Annotated[tuple[str, ...], Meta(min_length=1), Reads(_files)]
Names = Annotated[tuple[str, ...], Reads(_files)]
Task = Annotated[
    str | Annotated[tuple[str, ...], Meta(min_length=1)],
    Meta(description="the name of a service, or a command as a list of words"),
]
Tasks = Annotated[tuple[Task, ...], Reads(_tasks)]


class ComposeConfig(Table, frozen=True):
    """Configuration of the Compose driver; relative paths start at the configuration file's folder.

    :param files: the Compose files, later ones over earlier ones.
    :param project: the project's name; by default that of the service.
    :param context: the docker context; by default what ``DOCKER_HOST``, ``DOCKER_CONTEXT`` and docker itself say.
    :param profiles: the profiles that are on.
    :param env_files: files for Compose's own interpolation, in place of ``.env``.
    :param build: build the services that have a ``build`` section, before the plan.
    :param pull: images that the engine does not have are pulled before the plan, or are an error.
    :param timeout: seconds for building and pulling, for ``up``, and for each task.
    :param dwell: seconds that a service without a healthcheck must run without a restart.
    :param before: services that run to their end, and commands, before ``up``.
    :param after: the same, once everything is healthy.
    """

    files: Files = ("compose.yaml",)
    project: Annotated[str, Check(_project)] | None = None
    context: str | None = None
    profiles: Names = ()
    env_files: Names = ()
    build: bool = True
    pull: Literal["missing", "never"] = "missing"
    timeout: Duration = 300.0
    dwell: Duration = 5.0
    before: Tasks = ()
    after: Tasks = ()


def project_of(service: str) -> str:
    """Return the project's name that Compose would make of this name of a service; empty when nothing is left of it."""
    return re.sub(r"[^a-z0-9_-]", "", service.lower()).lstrip("_-")[:63]
