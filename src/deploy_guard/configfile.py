"""Finding and reading the configuration file with the standard library alone: a plain test session pays for no more."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from deploy_guard.errors import ConfigurationError

FILE = "deploy-guard.toml"
PYPROJECT = "pyproject.toml"
TABLE = "deploy-guard"


def find(start: Path) -> Path | None:
    """Return the configuration file nearest to ``start``, searching upward to the top of the repository.

    :raises ConfigurationError: when a folder holds both a ``deploy-guard.toml`` and a ``[tool.deploy-guard]``.
    """
    start = start.absolute()
    for folder in (start, *start.parents):
        if not folder.is_dir():
            continue
        found = in_folder(folder)
        if found is not None:
            return found
        if (folder / ".git").exists():
            return None
    return None


def in_folder(folder: Path) -> Path | None:
    """Return the configuration file of this very folder, or None."""
    own, project = folder / FILE, folder / PYPROJECT
    in_project = project.is_file() and has_section(project)
    if own.is_file():
        if in_project:
            raise ConfigurationError(
                f"{folder} has two configurations: {FILE} and [tool.{TABLE}] in {PYPROJECT}", hint="keep one of them"
            )
        return own
    return project if in_project else None


def has_section(pyproject: Path) -> bool:
    """True when a ``pyproject.toml`` has a ``[tool.deploy-guard]`` table; a broken file has none."""
    try:
        raw = pyproject.read_bytes()
        # Reading a large file as text is quick, parsing it is not; most have nothing for us.
        return b"deploy-guard" in raw and TABLE in tomllib.loads(raw.decode()).get("tool", {})
    except (OSError, ValueError):
        return False


def read(path: Path) -> dict[str, Any]:
    """Return the raw configuration table of a file.

    :raises ConfigurationError: unreadable, not UTF-8, not TOML.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} can't be read: {error.strerror}", hint="check the path and its mode"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    if path.name == PYPROJECT:
        return dict(data.get("tool", {}).get(TABLE, {}))
    return data


def gate_folders(folder: Path) -> frozenset[Path]:
    """Return the gate roots that the configuration of this very folder names; none where it can't be read.

    For plain test sessions, which must not fail because of a configuration that they do not use.
    """
    try:
        path = in_folder(folder)
        raw = read(path).get("gates", ["gates"]) if path is not None else []
    except ConfigurationError:
        return frozenset()
    names = raw if isinstance(raw, list) else []
    return frozenset(folder / name for name in names if isinstance(name, str) and (folder / name).is_dir())
