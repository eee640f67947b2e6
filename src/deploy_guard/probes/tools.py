"""Programs on the PATH and their versions."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from deploy_guard.errors import CommandFailed

DEADLINE = 10.0
"""Seconds for a tool to say its version."""

OF_DRIVER: dict[str, tuple[str, ...]] = {
    "local": (),
    "compose": ("docker>=20.10", "docker compose>=2.20"),
    "kubernetes": ("kubectl>=1.25",),
}
"""What the drivers run, in the form of ``host.tools``."""

_VERSION_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "kubectl": ("version", "--client"),
    "helm": ("version", "--short"),
    "go": ("version",),
    "java": ("-version",),
    "openssl": ("version",),
}
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][\w.+-]*(?: [a-z][\w-]*)?)\s*(?:>=\s*(?P<minimum>\d+(?:\.\d+)*))?")


@dataclass(frozen=True)
class Requirement:
    """A tool, and the lowest version that will do; None when any will."""

    name: str
    minimum: str | None = None

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read ``"jq"``, ``"kubectl>=1.25"`` or, for a plugin of a tool, ``"docker compose>=2.20"``.

        :raises ValueError: for anything else.
        """
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError('write the name of a program, or "name>=1.2"')
        return cls(match["name"], match["minimum"])


@dataclass(frozen=True)
class Tool:
    """A program: where it is, and its version; None for what can't be found out, and ``problem`` says why."""

    name: str
    path: str | None
    version: str | None
    problem: str = ""

    def at_least(self, minimum: str) -> bool:
        """True when the version is known and not below this one."""
        return self.version is not None and _numbers(self.version, minimum) >= _numbers(minimum, self.version)


def look_up(name: str) -> Tool:
    """Find a program, and ask it for its version within ten seconds."""
    from deploy_guard.process import run

    program, *plugin = name.split()
    path = shutil.which(program)
    if path is None:
        return Tool(name, None, None, f"{program} is not on the PATH")
    try:
        said = run([path, *_question(program, plugin)], timeout=DEADLINE)
    except CommandFailed as error:
        return Tool(name, path, None, error.what)
    if not said.ok:
        missing = f"{name} can't be asked for its version: exit code {said.rc}"
        return Tool(name, None if plugin else path, None, missing)
    version = _version(name, said.stdout) or _version(name, said.stderr)
    return Tool(name, path, version, "" if version else f"{name} says no version")


def _question(program: str, plugin: Sequence[str]) -> tuple[str, ...]:
    return (*plugin, "version") if plugin else _VERSION_ARGUMENTS.get(program, ("--version",))


def _version(name: str, text: str) -> str | None:
    """Return the first thing that looks like a version: numbers with dots, else one number after name or "version"."""
    if match := re.search(r"(?<![\d.])\d+(?:\.\d+)+", text):
        return match[0]
    match = re.search(rf"(?:version|{re.escape(name)})[ :-]+v?(\d+)\b", text, re.IGNORECASE)
    return match[1] if match else None


def _numbers(version: str, other: str) -> tuple[int, ...]:
    """Return the numbers of a version, as many as the longer one of the two has."""
    numbers = [int(part) for part in version.split(".")]
    return (*numbers, *[0] * (len(other.split(".")) - len(numbers)))
