"""What the host gates accept: the table ``[host]``, and the limits in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from deploy_guard.probes.ports import address_of
from deploy_guard.probes.tools import Requirement

__all__ = ["Days", "HostLimits", "Limits", "Model", "Ports", "Seconds", "kebab"]


def kebab(name: str) -> str:
    """Return the key of the file for a name in Python."""
    return name.replace("_", "-")


class Model(BaseModel):
    """A table of the file: unknown keys are errors, keys have hyphens."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=kebab, populate_by_name=False)


def _requirement(text: str) -> str:
    Requirement.parse(text)
    return text


def _address(value: object) -> object:
    return "{}:{}".format(*address_of(value))


Percent = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]


class _Rising(Model):
    """Two limits for something that gets worse as it grows."""

    warn: float
    fail: float

    @model_validator(mode="after")
    def _in_order(self) -> _Rising:
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn:g}) lies beyond fail ({self.fail:g}): swap them")
        return self


class Limits(_Rising):
    """Two limits in percent."""

    warn: Percent
    fail: Percent


class Seconds(_Rising):
    """Two limits in seconds."""

    warn: Positive
    fail: Positive


class Days(Model):
    """Two limits in days that are left; fewer are worse."""

    warn: Positive
    fail: Positive

    @model_validator(mode="after")
    def _in_order(self) -> Days:
        if self.warn < self.fail:
            raise ValueError(
                f"fewer days are worse, and warn ({self.warn:g}) lies below fail ({self.fail:g}): swap them"
            )
        return self


class Ports(Model):
    """Ports that somebody must listen at (``"host:port"``, or a port of this machine), and ports that must be free."""

    open: tuple[Annotated[str, BeforeValidator(_address)], ...] = ()
    free: tuple[Port, ...] = ()


class HostLimits(Model):
    """What the host gates accept; disk, inodes and memory in percent of use, the clock in seconds."""

    disk: Limits = Limits(warn=75, fail=85)
    inodes: Limits = Limits(warn=75, fail=85)
    memory: Limits = Limits(warn=70, fail=85)
    paths: tuple[Text, ...] = ("/",)
    tools: tuple[Annotated[str, AfterValidator(_requirement)], ...] = ()
    processes: tuple[Text, ...] = ()
    ports: Ports = Ports()
    clock_skew: Seconds | None = None
