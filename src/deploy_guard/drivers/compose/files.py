"""The files that Compose copied into a container: secrets and configs that no file of the engine's machine backs."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from collections.abc import Iterator

from deploy_guard.drivers.compose.engine import Engine, EngineError
from deploy_guard.drivers.compose.state import Container, seconds_of

_ADDED = 1
_SECRETS = "/run/secrets/"
_MANY = 200
"""Added paths beyond which only those of secrets are looked at: who writes beside a volume has thousands."""
_SOON = 2.0
"""Seconds after a container was made in which Compose copies into it."""
_NOT_REGULAR = 0x8F280000
"""Bits of Go's file mode that folders, links, devices and the like have."""


def copied(engine: Engine, container: Container) -> str:
    """Return an archive of the files that were copied in, in base64; empty when there are none.

    The engine does not remember them. They are new to the image, and their time is a whole second (an archive has no
    others) right after the container was made; what a program writes has a fraction.
    """
    changes = engine.found(f"/containers/{container.id}/changes") or []
    added = sorted(str(change["Path"]) for change in changes if change["Kind"] == _ADDED)
    mounted = {str(mount.get("Destination")) for mount in container.raw.get("Mounts") or []}
    parents = {path.rpartition("/")[0] for path in added}
    leaves = [path for path in added if path not in parents and path not in mounted]
    if len(leaves) > _MANY:
        leaves = [path for path in leaves if path.startswith(_SECRETS)]
    found = [path for path in leaves if _is_copied(engine, container, path)]
    if not found:
        return ""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in found:
            raw = engine.content(f"/containers/{container.id}/archive", query={"path": path})
            for member, inside in _members(raw):
                member.name = path.lstrip("/")
                archive.addfile(member, io.BytesIO(inside))
    return base64.b64encode(packed.getvalue()).decode()


def content(engine: Engine, container: Container, path: str) -> bytes | None:
    """Return the content of a file in a container; None when it has none of that name."""
    try:
        raw = engine.content(f"/containers/{container.id}/archive", query={"path": path})
    except EngineError:
        return None
    return next((inside for _, inside in _members(raw)), None)


def copy_back(engine: Engine, container: str, files: str) -> None:
    """Copy the files into a container that has not been started yet."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member, inside in _members(base64.b64decode(files)):
            member.mtime = int(time.time())  # by which the next rollout knows them
            archive.addfile(member, io.BytesIO(inside))
    engine.put(f"/containers/{container}/archive", packed.getvalue(), "application/x-tar", query={"path": "/"})


def _is_copied(engine: Engine, container: Container, path: str) -> bool:
    told = engine.head(f"/containers/{container.id}/archive", "X-Docker-Container-Path-Stat", query={"path": path})
    if not told:
        return False
    stat = json.loads(base64.b64decode(told))
    if stat["mode"] & _NOT_REGULAR or path == "/sbin/docker-init":
        return False
    if path.startswith(_SECRETS):
        return True
    written, made = str(stat["mtime"]), str(container.raw["Created"])
    return "." not in written and abs(seconds_of(written) - seconds_of(made)) <= _SOON


def _members(raw: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member, file.read()
