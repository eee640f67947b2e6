"""What a release is made of: its files, links and folders, with their modes and contents."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEFT_OUT = "__pycache__"
"""Python writes these while a service or a test runs; they are no part of a release."""
_SHOWN = 30
"""Files that a diff or a list of differences names before it says how many more there are."""


@dataclass(frozen=True)
class Entry:
    """One path of a release. ``mark`` is a file's SHA-256, a link's target, or empty for a folder."""

    name: str
    kind: str
    mode: int
    size: int
    mark: str


@dataclass(frozen=True)
class Content:
    """All paths of a release, sorted."""

    entries: tuple[Entry, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over names, kinds, permission bits and contents."""
        lines = (json.dumps([e.name, e.kind, e.mode, e.mark]) for e in self.entries)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes that a copy needs on disk, in blocks of 4096."""
        return sum(-(-max(entry.size, 1) // 4096) * 4096 for entry in self.entries)

    def to_json(self) -> list[list[Any]]:
        """Return plain data."""
        return [[e.name, e.kind, e.mode, e.size, e.mark] for e in self.entries]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> Content:
        """Read what :meth:`to_json` gave; ``TypeError`` or ``ValueError`` for anything else."""
        return cls(tuple(Entry(*row) for row in data))

    def diff(self, old: Content | None) -> str:
        """Return the names that are new, changed or gone since ``old``, for a reviewer."""
        before = {e.name: e for e in old.entries if e.kind != "folder"} if old else {}
        after = {e.name: e for e in self.entries if e.kind != "folder"}
        lines = []
        for name in sorted({*before, *after}):
            if name not in before:
                lines.append(f"+ {name}")
            elif name not in after:
                lines.append(f"- {name}")
            elif before[name] != after[name]:
                lines.append(f"~ {name}")
        return "\n".join(_few(lines))

    def differences(self, folder: Path) -> list[str]:
        """Say which of these paths are not in ``folder`` as they were; what was added there is the service's own."""
        found = []
        there: dict[str, Entry | None] = {}
        for entry in self.entries:
            try:
                there[entry.name] = _entry(folder / entry.name, entry.name, folder)
            except FileNotFoundError:
                found.append(f"{entry.name} is missing")
            except (OSError, ValueError) as error:
                found.append(f"{entry.name} can't be read: {error}")
            else:
                if there[entry.name] != entry:
                    found.append(f"{entry.name} is not what was released")
        return _few(found)


def read(artifact: Path) -> Content:
    """Look at an artifact: one file, or a folder.

    :raises OSError: when something can't be read.
    :raises ValueError: for a link that leads out of it, a socket or device in it, or an empty folder.
    """
    top = artifact if artifact.is_dir() else artifact.parent
    content = Content(tuple(_entry(path, name, top) for path, name in _paths(artifact)))
    if not content.entries:
        raise ValueError("it is an empty folder")
    return content


def copy(artifact: Path, target: Path) -> Content:
    """Copy an artifact into the new folder ``target``, flushed to disk; returns what was really copied.

    :raises OSError: for unreadable files, a full disk; the caller removes what there is of the target then.
    """
    top = artifact if artifact.is_dir() else artifact.parent
    target.mkdir()
    entries = [_entry(path, name, top, into=target / name) for path, name in _paths(artifact)]
    for entry in reversed(entries):  # a folder that can't be written to comes after what is in it
        path = target / entry.name
        if entry.kind != "link":
            _flush(path)
            path.chmod(entry.mode)
    target.chmod(stat.S_IMODE(artifact.stat().st_mode) & 0o777 | 0o700 if artifact.is_dir() else 0o755)
    _flush(target)
    return Content(tuple(entries))


def _entry(path: Path, name: str, top: Path, *, into: Path | None = None) -> Entry:
    status = path.lstat()
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode) & 0o777
    if kind == stat.S_IFLNK:
        target = os.readlink(path)  # noqa: PTH115 - the text as it stands
        if Path(target).is_absolute() or not (path.parent / target).resolve().is_relative_to(top.resolve()):
            raise ValueError(f"{name} is a link that leads out of the artifact, to {target}")
        if into is not None:
            into.symlink_to(target)
        return Entry(name, "link", 0o777, 0, target)
    if kind == stat.S_IFDIR:
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(f"{name}: a folder that this user can't read")
        if into is not None:
            into.mkdir()
        return Entry(name, "folder", mode, 0, "")
    if kind != stat.S_IFREG:
        raise ValueError(f"{name} is neither a file nor a folder nor a link")
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as source:
        if into is None:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        else:
            with into.open("xb") as file:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    size += file.write(chunk)
            os.utime(into, ns=(status.st_atime_ns, status.st_mtime_ns))
    return Entry(name, "file", mode, size, digest.hexdigest())


def _paths(artifact: Path) -> Iterator[tuple[Path, str]]:
    if not artifact.is_dir():
        yield artifact.resolve(), artifact.name
        return
    for folder, folders, files in os.walk(artifact, onerror=_raise):
        folders[:] = sorted(name for name in folders if name != _LEFT_OUT)
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            yield path, path.relative_to(artifact).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _few(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], f"and {more} more"] if more > 0 else lines


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
