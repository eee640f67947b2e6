"""What is to be there: the project as Compose resolves it. Pure; it holds secrets, and never leaves the process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

NOT_CHECKED = ("", "NONE")


@dataclass(frozen=True)
class Service:
    """One service of the project; ``body`` is Compose's own, with long forms and absolute paths."""

    project: str
    name: str
    body: Mapping[str, Any] = field(repr=False)

    @property
    def image(self) -> str:
        """The image's name; Compose names what it builds after project and service."""
        return str(self.body.get("image") or f"{self.project}-{self.name}")

    @property
    def builds(self) -> bool:
        """True when its image can be built from here."""
        return bool(self.body.get("build"))

    @property
    def replicas(self) -> int:
        """How many containers it has."""
        for place in (self.body.get("scale"), (self.body.get("deploy") or {}).get("replicas")):
            if place is not None:
                return int(place)
        return 1

    @property
    def environment(self) -> dict[str, str]:
        """Its own variables; one that is set to nothing by the environment is left out, as Compose does."""
        variables = self.body.get("environment") or {}
        return {name: literal(str(value)) for name, value in variables.items() if value is not None}

    @property
    def ports(self) -> tuple[tuple[str, str, str], ...]:
        """Published ports: address (empty for all), port of the host (empty for any), port and protocol inside."""
        return tuple(
            sorted(
                (port.get("host_ip", ""), str(port.get("published", "")), f"{port['target']}/{port['protocol']}")
                for port in self.body.get("ports") or []
            )
        )

    @property
    def checked(self) -> bool:
        """True when the file gives it a healthcheck."""
        check = self.body.get("healthcheck") or {}
        return not check.get("disable") and (check.get("test") or [""])[0] not in NOT_CHECKED

    @property
    def unchecked(self) -> bool:
        """True when the file switches off the healthcheck that its image may have."""
        check = self.body.get("healthcheck") or {}
        return bool(check.get("disable")) or (check.get("test") or [""])[0] == "NONE"

    @property
    def ends(self) -> bool:
        """True for what may well end with exit code 0; the same rule as that for containers."""
        policy = str(self.body.get("restart") or "no")
        condition = ((self.body.get("deploy") or {}).get("restart_policy") or {}).get("condition")
        again = policy in ("always", "unless-stopped") or condition == "any"
        return not (again or self.checked or self.ports)


@dataclass(frozen=True)
class Project:
    """The resolved project."""

    name: str
    body: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, name: str, text: str) -> Project:
        """Read what ``docker compose config --format json`` prints; ``ValueError`` for anything else."""
        body = json.loads(text)
        if not isinstance(body, dict):
            raise ValueError("it is no table")
        return cls(name, body)

    @property
    def services(self) -> dict[str, Service]:
        """The services whose profile is on."""
        return {name: Service(self.name, name, body) for name, body in (self.body.get("services") or {}).items()}

    def real_name(self, kind: str, key: str) -> str:
        """Return the name that a network, volume, secret or config of the file has in the engine."""
        return str(((self.body.get(kind) or {}).get(key) or {}).get("name", key))

    @property
    def own_names(self) -> dict[str, list[str]]:
        """The networks and volumes that the file describes, and that Compose makes; those of others are left out."""
        return {
            kind: sorted(
                self.real_name(kind, key) for key, body in (self.body.get(kind) or {}).items() if not _outside(body)
            )
            for kind in ("networks", "volumes")
        }

    @property
    def outside_names(self) -> dict[str, list[str]]:
        """The networks and volumes that must be there already."""
        return {
            kind: sorted(
                self.real_name(kind, key) for key, body in (self.body.get(kind) or {}).items() if _outside(body)
            )
            for kind in ("networks", "volumes")
        }

    @property
    def completed(self) -> set[str]:
        """The services that others wait for until they have ended well."""
        return {
            name
            for service in self.services.values()
            for name, how in (service.body.get("depends_on") or {}).items()
            if how.get("condition") == "service_completed_successfully"
        }

    def copied(self, service: Service, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return what Compose copies into a service's containers: by path, what it is and its content.

        Left out is what a file backs, which is mounted, and what stands in none of the run's variables.
        """
        found: dict[str, tuple[str, str]] = {}
        for kind, folder in (("secrets", "/run/secrets/"), ("configs", "/")):
            for entry in service.body.get(kind) or []:
                source = (self.body.get(kind) or {}).get(entry["source"]) or {}
                variable = source.get("environment") or ""
                content = environ.get(variable) if variable else source.get("content") and literal(source["content"])
                target = str(entry.get("target") or entry["source"])
                if content:
                    path = target if target.startswith("/") else folder + target
                    found[path] = (f"{kind.removesuffix('s')} {entry['source']}", content)
        return found

    def digest(self, images: Mapping[str, str], redact: Callable[[Any], Any]) -> str:
        """Identify what would be shipped, without the values of variables: a digest of those could be guessed."""
        text = json.dumps([redact(_without_values(self.body)), dict(images)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint(self) -> bytes:
        """Identify all of it, values included; for this process only."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).digest()

    def values(self, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Give every variable that the project hands on, with its value: names are not unique."""
        for service in self.services.values():
            yield from service.environment.items()
            arguments = (service.body.get("build") or {}).get("args") or {}
            yield from ((name, literal(str(value))) for name, value in arguments.items() if value is not None)
        for kind in ("secrets", "configs"):
            for body in (self.body.get(kind) or {}).values():
                name = body.get("environment")
                if name and name in environ:
                    yield name, environ[name]


def literal(text: str) -> str:
    """Return a text of the resolved project as containers get it: Compose writes ``$`` as ``$$``."""
    return text.replace("$$", "$")


def _outside(body: Mapping[str, Any] | None) -> bool:
    return bool((body or {}).get("external"))


def _without_values(node: Any) -> Any:
    """Return the project with the names of variables only."""
    if isinstance(node, list):
        return [_without_values(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        key: sorted(value) if key in ("environment", "args") and isinstance(value, dict) else _without_values(value)
        for key, value in node.items()
    }
