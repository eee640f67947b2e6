"""Release folders on disk: copied whole, named by content, switched by one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy_guard.ledger.files import write_json


class Releases:
    """``<root>/releases/<version>-<digest>``, its metadata beside it, and the link ``<root>/current``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "releases"
        self.link = root / "current"

    @property
    def current(self) -> str | None:
        """The name of the current release, or None; ``OSError`` when ``current`` is not a link of ours."""
        try:
            target = os.readlink(self.link)  # noqa: PTH115 - the text as it stands
        except FileNotFoundError:
            return None
        return Path(target).name

    def path(self, name: str) -> Path:
        """Return the folder of a release."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """True when the release is there, complete: the metadata is written last."""
        return self.path(name).is_dir() and self._meta(name).is_file()

    def meta(self, name: str) -> dict[str, Any]:
        """Return the metadata of a release; ``OSError`` or ``ValueError`` when it can't be read."""
        data: dict[str, Any] = json.loads(self._meta(name).read_text(encoding="utf-8"))
        return data

    def add(self, name: str, artifact: Path, meta: dict[str, Any]) -> None:
        """Copy an artifact into a release folder; nothing is left of a copy that failed.

        :raises OSError: unreadable files, a full disk.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        work = Path(tempfile.mkdtemp(prefix=".copy-", dir=self.folder))
        try:
            target = work / "content"
            if artifact.is_dir():
                shutil.copytree(artifact, target, symlinks=True)
            else:
                target.mkdir()
                shutil.copy2(artifact, target / artifact.name)
            shutil.rmtree(self.path(name), ignore_errors=True)  # half of an earlier copy
            target.rename(self.path(name))
            write_json(self._meta(name), meta)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def switch(self, name: str) -> None:
        """Make a release the current one, in one step that nobody can see half of."""
        work = self.root / f".current-{os.getpid()}"
        work.unlink(missing_ok=True)
        work.symlink_to(Path("releases") / name)
        work.replace(self.link)

    def remove(self, name: str) -> None:
        """Delete a release that is not the current one."""
        if name != self.current:
            self._meta(name).unlink(missing_ok=True)
            shutil.rmtree(self.path(name), ignore_errors=True)

    def remove_all(self) -> None:
        """Take everything away again: a first release that failed leaves nothing behind."""
        self.link.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.root / "log", ignore_errors=True)
        with suppress(OSError):  # something else of the user's is in there
            self.root.rmdir()

    def prune(self, keep: int, never: set[str]) -> list[str]:
        """Delete the oldest releases beyond ``keep``; returns their names."""
        metas = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        old = [path.stem for path in metas[keep:] if path.stem not in never]
        for name in old:
            self.remove(name)
        return old

    def _meta(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _sweep(self) -> None:
        """Remove copies that a killed run left."""
        for path in self.folder.glob(".copy-*"):
            shutil.rmtree(path, ignore_errors=True)


def digest_of(artifact: Path) -> str:
    """Return the SHA-256 of an artifact: names, kinds, executable bits, contents.

    :raises OSError: when something can't be read.
    :raises ValueError: for a link that leads out of the artifact, or a socket or device in it.
    """
    digest = hashlib.sha256()
    for path, name in _entries(artifact):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            target = os.readlink(path)  # noqa: PTH115
            inside = (path.parent / target).resolve()
            if Path(target).is_absolute() or not inside.is_relative_to(artifact.resolve()):
                raise ValueError(f"{name} is a link that leads out of the artifact, to {target}")
            digest.update(f"l {name} {target}\0".encode())
        elif stat.S_ISDIR(mode):
            digest.update(f"d {name}\0".encode())
        elif stat.S_ISREG(mode):
            digest.update(f"f {name} {bool(mode & stat.S_IXUSR)} {path.lstat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        else:
            raise ValueError(f"{name} is neither a file nor a folder nor a link")
    return digest.hexdigest()


def size_of(artifact: Path) -> int:
    """Return the bytes that a copy of the artifact needs."""
    return sum(path.lstat().st_size for path, _ in _entries(artifact))


def _entries(artifact: Path) -> Iterator[tuple[Path, str]]:
    if not artifact.is_dir():
        yield artifact, artifact.name
        return
    for folder, folders, files in os.walk(artifact, onerror=_raise):
        folders.sort()
        # A running service writes these into its own folder; they are no part of what was released.
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            yield path, path.relative_to(artifact).as_posix()


def _raise(error: OSError) -> None:
    raise error
