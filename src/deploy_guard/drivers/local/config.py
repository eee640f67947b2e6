"""The ``[env.X.local]`` table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, field

from deploy_guard.duration import DURATION_SCHEMA, seconds_of
from deploy_guard.tables import Check, Reads, Table


def _words(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"a command is a list of words, there is no shell: write {value.split()!r}")
    return value


def _commands(value: object) -> object:
    if isinstance(value, str) or (isinstance(value, list) and any(isinstance(word, str) for word in value)):
        words = value.split() if isinstance(value, str) else value
        raise ValueError(f"this is a list of commands, and each of them is a list of words: write [{words!r}]")
    return value


def _http(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write a URL that begins with http:// or https://")
    if parts.username or parts.password:
        raise ValueError("a URL in a file must not hold credentials")
    _ = parts.port  # raises ValueError, whose text says why


Duration = Annotated[float, Reads(seconds_of), Meta(extra_json_schema=DURATION_SCHEMA)]
Argv = Annotated[tuple[str, ...], Meta(min_length=1)]
Command = Annotated[Argv, Reads(_words)]
Commands = Annotated[tuple[Argv, ...], Reads(_commands)]


class LocalConfig(Table, frozen=True):
    """Configuration of the local driver; relative paths start at the configuration file's folder."""

    root: Path
    artifact: Path
    command: Command | None = None
    restart_command: Command | None = None
    before: Commands = ()
    after: Commands = ()
    ready_url: Annotated[str, Check(_http)] | None = None
    ready_timeout: Duration = 30.0
    stop_timeout: Duration = 10.0
    command_timeout: Duration = 300.0
    keep: Annotated[int, Meta(ge=2)] = 5
    environment: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.command and self.restart_command:
            raise ValueError(
                "command and restart-command exclude each other: either deploy-guard starts the service "
                "or another supervisor does; remove one"
            )
