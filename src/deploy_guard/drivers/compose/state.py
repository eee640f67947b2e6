"""What is there: the containers of a project, as the engine describes them. Pure; nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

PROJECT = "com.docker.compose.project"
_LABEL = "com.docker.compose."
_LEFTOVER = re.compile(r"[0-9a-f]{12}_(.+)")
"""Compose gives a new container the name ``<hash>_name`` until the old one is gone."""


@dataclass(frozen=True)
class Container:
    """One container; ``raw`` is what ``docker inspect`` shows, the values of variables included."""

    raw: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.raw["Id"])

    @property
    def name(self) -> str:
        """Its name, as it is now."""
        return str(self.raw["Name"]).removeprefix("/")

    @property
    def proper_name(self) -> str:
        """The name that it has, or was about to get when a recreate was interrupted."""
        match = _LEFTOVER.fullmatch(self.name)
        return match[1] if match else self.name

    @property
    def leftover(self) -> bool:
        """True for the new container of a recreate that was interrupted."""
        return self.proper_name != self.name

    @property
    def labels(self) -> Mapping[str, str]:
        """All labels."""
        return self.raw["Config"].get("Labels") or {}

    @property
    def service(self) -> str:
        """The service of the project that it belongs to."""
        return self.labels.get(f"{_LABEL}service", "")

    @property
    def number(self) -> int:
        """Which one of the service's containers it is."""
        number = self.labels.get(f"{_LABEL}container-number", "")
        return int(number) if number.isdigit() else 0

    @property
    def one_off(self) -> bool:
        """True when somebody made it with ``docker compose run``."""
        return self.labels.get(f"{_LABEL}oneoff", "").lower() == "true"

    @property
    def hash(self) -> str:
        """Compose's hash of the service's configuration."""
        return self.labels.get(f"{_LABEL}config-hash", "")

    @property
    def image(self) -> str:
        """The id of its image."""
        return str(self.raw["Image"])

    @property
    def image_name(self) -> str:
        """The image as it was named when the container was made; an id where it had no name."""
        return str(self.raw["Config"]["Image"])

    @property
    def status(self) -> str:
        """``created``, ``running``, ``restarting``, ``exited``, ``paused``, ``removing`` or ``dead``."""
        return str(self.raw["State"]["Status"])

    @property
    def exit_code(self) -> int:
        """How it ended the last time."""
        return int(self.raw["State"]["ExitCode"])

    @property
    def out_of_memory(self) -> bool:
        """True when the kernel killed it for its use of memory."""
        return bool(self.raw["State"].get("OOMKilled"))

    @property
    def health(self) -> str:
        """``healthy``, ``unhealthy`` or ``starting``; empty without a healthcheck."""
        health = (self.raw["State"].get("Health") or {}).get("Status", "none")
        return "" if health == "none" else str(health)

    @property
    def checked(self) -> bool:
        """True when it has a healthcheck, of its own or of its image."""
        test = (self.raw["Config"].get("Healthcheck") or {}).get("Test") or []
        return bool(test) and test != ["NONE"]

    @property
    def last_check(self) -> tuple[int, str] | None:
        """Exit code and output of the last healthcheck."""
        log = (self.raw["State"].get("Health") or {}).get("Log") or []
        return (int(log[-1]["ExitCode"]), str(log[-1]["Output"]).strip()) if log else None

    @property
    def failed_checks(self) -> int:
        """How many healthchecks failed in a row."""
        return int((self.raw["State"].get("Health") or {}).get("FailingStreak", 0))

    @property
    def restarts(self) -> int:
        """How often the engine has restarted it."""
        return int(self.raw.get("RestartCount", 0))

    @property
    def started(self) -> str:
        """When it was started the last time, in the engine's words: another start has another time."""
        return str(self.raw["State"].get("StartedAt", ""))

    @property
    def restarting_policy(self) -> bool:
        """True when the engine starts it again however it ends."""
        return (self.raw["HostConfig"].get("RestartPolicy") or {}).get("Name") in ("always", "unless-stopped")

    @property
    def ends(self) -> bool:
        """True for what may well end with exit code 0: a task, not a server.

        A server is what publishes a port, has a healthcheck, or is started again whenever it ends.
        """
        return not (self.restarting_policy or self.checked or self.ports)

    @property
    def ports(self) -> tuple[tuple[str, str, str], ...]:
        """Published ports: address (empty for all), port of the host (empty for any), port and protocol inside."""
        bindings = self.raw["HostConfig"].get("PortBindings") or {}
        return tuple(
            sorted(
                (binding.get("HostIp") or "", binding.get("HostPort") or "", inside)
                for inside, found in bindings.items()
                for binding in found or []
            )
        )

    @property
    def environment(self) -> dict[str, str]:
        """Its variables with their values, those of the image included."""
        return dict(line.partition("=")[::2] for line in self.raw["Config"].get("Env") or [])

    @property
    def volumes(self) -> tuple[str, ...]:
        """The names of the volumes that it mounts, those without a name of their own included."""
        return tuple(
            sorted(str(mount["Name"]) for mount in self.raw.get("Mounts") or [] if mount.get("Type") == "volume")
        )

    @property
    def dependencies(self) -> dict[str, str]:
        """The services that it depends on, each with the condition."""
        text = self.labels.get(f"{_LABEL}depends_on", "")
        parts = [entry.split(":") for entry in text.split(",") if entry]
        return {part[0]: part[1] if len(part) > 1 else "service_started" for part in parts}

    @property
    def shown(self) -> str:
        """For people: the service, and the container's name."""
        return f"{self.service} ({self.name})" if self.service else self.name

    def age(self, now: float) -> float:
        """Seconds since it was started, by the engine's clock; at least what a clock of whole seconds is sure of."""
        started = seconds_of(self.started)
        return max(0.0, now - started - 1.0) if started > 0 else 0.0


def image_variables(image: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the variables that an image sets."""
    lines = ((image or {}).get("Config") or {}).get("Env") or []
    return dict(line.partition("=")[::2] for line in lines)


def in_order(containers: Iterable[Container]) -> list[Container]:
    """Return containers by service and number, leftovers last."""
    return sorted(containers, key=lambda one: (one.service, one.number, one.leftover, one.name))


def seconds_of(text: str) -> float:
    """Return a time of the engine as seconds since 1970; 0 for one that is none."""
    python = re.sub(r"(\.\d{1,6})\d*", r"\1", text).replace("Z", "+00:00")  # the engine has nanoseconds
    try:
        return datetime.fromisoformat(python).timestamp()
    except ValueError:
        return 0.0
