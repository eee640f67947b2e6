"""What the host gates accept: the table ``[host]``, and the limits in it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from deploy_guard.tables import Check, Reads, Table

__all__ = ["Days", "HostLimits", "Limits", "Ports", "Seconds"]


def _requirement(text: str) -> None:
    from deploy_guard.probes.tools import Requirement

    Requirement.parse(text)


def _address(value: object) -> str:
    from deploy_guard.probes.ports import address_of

    return "{}:{}".format(*address_of(value))


Percent = Annotated[float, Meta(gt=0, le=100)]
Positive = Annotated[float, Meta(gt=0)]
Text = Annotated[str, Meta(pattern=r"\S", description="a string that is not blank")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Address = Annotated[str, Reads(_address), Meta(extra_json_schema={"anyOf": [{"type": "string"}, {"type": "integer"}]})]


class _Rising(Table, frozen=True):
    """Two limits for something that gets worse as it grows."""

    warn: float
    fail: float

    def __post_init__(self) -> None:
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn:g}) lies beyond fail ({self.fail:g}): swap them")


class Limits(_Rising, frozen=True):
    """Two limits in percent."""

    warn: Percent
    fail: Percent


class Seconds(_Rising, frozen=True):
    """Two limits in seconds."""

    warn: Positive
    fail: Positive


class Days(Table, frozen=True):
    """Two limits in days that are left; fewer are worse."""

    warn: Positive
    fail: Positive

    def __post_init__(self) -> None:
        if self.warn < self.fail:
            raise ValueError(
                f"fewer days are worse, and warn ({self.warn:g}) lies below fail ({self.fail:g}): swap them"
            )


class Ports(Table, frozen=True):
    """Ports that somebody must listen at (``"host:port"``, or a port of this machine), and ports that must be free."""

    open: tuple[Address, ...] = ()
    free: tuple[Port, ...] = ()


class HostLimits(Table, frozen=True):
    """What the host gates accept; disk, inodes and memory in percent of use, the clock in seconds."""

    disk: Limits = Limits(warn=75, fail=85)
    inodes: Limits = Limits(warn=75, fail=85)
    memory: Limits = Limits(warn=70, fail=85)
    paths: tuple[Text, ...] = ("/",)
    tools: tuple[Annotated[str, Check(_requirement)], ...] = ()
    processes: tuple[Text, ...] = ()
    ports: Ports = Ports()
    clock_skew: Seconds | None = None
