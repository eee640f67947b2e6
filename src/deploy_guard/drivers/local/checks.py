"""What a plan refuses, before anything is touched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy_guard.drivers.local import content
from deploy_guard.drivers.local.ready import address, taken
from deploy_guard.drivers.local.service import resolved
from deploy_guard.errors import PlanRejected

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SPARE = 1024 * 1024
"""Bytes on top of the release: its list of files, the service's first log lines."""


def version(value: str | None) -> str:
    """Return the version; it becomes part of a folder's name."""
    if not value:
        raise PlanRejected("there is no version to release", hint="set VERSION or give --deploy-version=vX.Y.Z")
    if not _VERSION.fullmatch(value):
        raise PlanRejected(
            f"the version {value!r} can't be a folder's name",
            hint="use up to 100 letters, digits, . _ + - and begin with a letter or digit",
        )
    return value


def root(folder: Path, artifact_: Path) -> None:
    """The root can be written to, and is no part of what is to be copied into it."""
    there = _existing(folder)
    if not there.is_dir():
        raise PlanRejected(f"{there} is not a folder", hint="choose another root, or move it away")
    for path in (there, folder / "releases"):
        if path.exists() and not os.access(path, os.W_OK | os.X_OK):
            raise PlanRejected(f"{path} can't be written to", hint="choose another root, or another user")
    if artifact_.is_dir() and folder.resolve().is_relative_to(artifact_.resolve()):
        raise PlanRejected(
            f"the root {folder} lies inside the artifact {artifact_}: each release would hold all earlier ones",
            hint="release a folder that holds the build only, or choose a root outside of it",
        )


def artifact(path: Path, shown: Path) -> content.Content:
    """Return what is in the artifact."""
    hint = "build it before the run"
    try:
        return content.read(path)
    except FileNotFoundError as error:
        raise PlanRejected(f"the artifact {shown} does not exist", hint=hint) from error
    except PermissionError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise PlanRejected(
            f"the artifact {shown} can't be read: {why}", hint="give this user the right to read it"
        ) from error
    except (OSError, ValueError) as error:
        raise PlanRejected(f"the artifact {shown} can't be released: {error}", hint=hint) from error


def disk(folder: Path, size: int) -> None:
    """The release fits."""
    there = _existing(folder)
    need, free = size + _SPARE, shutil.disk_usage(there).free
    if free < need:
        raise PlanRejected(
            f"the disk of {there} is too full: the release needs {need / 1e6:.1f} MB, {free / 1e6:.1f} MB are free",
            hint="make room, or choose another root",
        )


def command(argv: Sequence[str], artifact_: Path, environ: Mapping[str, str]) -> None:
    """The program is in the artifact or on the PATH."""
    folder = artifact_ if artifact_.is_dir() else artifact_.parent
    if resolved(argv[0], folder, environ) is None:
        raise PlanRejected(
            f"the command {argv[0]!r} is neither in the artifact nor on the PATH, or is not executable",
            hint="install it; or write ./name for a file of the artifact, and make that executable",
        )


def port(url: str) -> None:
    """Nobody else listens where the service is to answer."""
    host, number = address(url)
    try:
        used = taken(host, number)
    except OSError as error:
        raise PlanRejected(f"ready-url: {host} can't be resolved: {error}", hint="correct ready-url") from error
    if used:
        raise PlanRejected(
            f"port {number} of {host} is in use by a process that deploy-guard did not start",
            hint="end that process, or choose another port for the service and ready-url",
        )


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())
