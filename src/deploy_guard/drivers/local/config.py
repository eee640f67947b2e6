"""The ``[env.X.local]`` table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from deploy_guard.duration import DURATION_SCHEMA, seconds_of


def _kebab(name: str) -> str:
    return name.replace("_", "-")


Duration = Annotated[float, BeforeValidator(seconds_of), WithJsonSchema(DURATION_SCHEMA)]
Argv = Annotated[tuple[str, ...], Field(min_length=1)]


class LocalConfig(BaseModel):
    """Configuration of the local driver; relative paths start at the configuration file's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=_kebab)

    root: Path
    artifact: Path
    command: Argv | None = None
    restart_command: Argv | None = None
    before: tuple[Argv, ...] = ()
    after: tuple[Argv, ...] = ()
    ready_url: str | None = None
    ready_timeout: Duration = 30.0
    stop_timeout: Duration = 10.0
    command_timeout: Duration = 300.0
    keep: Annotated[int, Field(ge=2)] = 5
    environment: tuple[str, ...] = ()
    variables: dict[str, str] = Field(default_factory=dict)

    @field_validator("command", "restart_command", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f"a command is a list of words, there is no shell: write {value.split()!r}")
        return value

    @field_validator("before", "after", mode="before")
    @classmethod
    def _commands(cls, value: object) -> object:
        if isinstance(value, str) or (isinstance(value, list) and any(isinstance(word, str) for word in value)):
            words = value.split() if isinstance(value, str) else value
            raise ValueError(f"this is a list of commands, and each of them is a list of words: write [{words!r}]")
        return value

    @field_validator("ready_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("write a URL that begins with http:// or https://")
            if parts.username or parts.password:
                raise ValueError("a URL in a file must not hold credentials")
            _ = parts.port  # raises ValueError, whose text says why
        return value

    @model_validator(mode="after")
    def _one_way_to_start(self) -> LocalConfig:
        if self.command and self.restart_command:
            raise ValueError(
                "command and restart-command exclude each other: either deploy-guard starts the service "
                "or another supervisor does; remove one"
            )
        return self
