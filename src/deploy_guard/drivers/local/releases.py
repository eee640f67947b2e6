"""Release folders on disk: copied whole, named by content, switched by one rename."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy_guard.drivers.local import content
from deploy_guard.ledger.files import write_json

_SCHEMA = 1
"""Of the metadata beside a release folder."""


class ArtifactChanged(Exception):
    """The artifact was written to between the plan and the copy."""


class Releases:
    """``<root>/releases/<version>-<digest>``, its metadata beside it, and the link ``<root>/current``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "releases"
        self.link = root / "current"

    @property
    def current(self) -> str | None:
        """The name of the current release, or None; ``OSError`` when ``current`` is not a link."""
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
        """Return the metadata of a release.

        :raises OSError: when there is none.
        :raises ValueError: when it is not what this version writes.
        """
        data = json.loads(self._meta(name).read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
            raise ValueError(f"{self._meta(name).name} was not written by this version of deploy-guard")
        return data

    def files(self, name: str) -> content.Content:
        """Return what was copied when the release was made; errors as :meth:`meta`."""
        try:
            return content.Content.from_json(self.meta(name)["files"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self._meta(name).name} holds no list of files") from error

    def add(self, name: str, artifact: Path, meta: Mapping[str, Any]) -> None:
        """Copy an artifact into a release folder; nothing is left of a copy that failed.

        :raises OSError: unreadable files, a full disk.
        :raises ArtifactChanged: when the copy is not what ``meta["content"]`` says.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sweep()
        work = Path(tempfile.mkdtemp(prefix=".copy-", dir=self.folder))
        try:
            files = content.copy(artifact, work / "content")
            if files.digest != meta["content"]:
                raise ArtifactChanged
            (work / "content").rename(self.path(name))
            try:
                write_json(self._meta(name), {"schema": _SCHEMA, **meta, "files": files.to_json()})
            except BaseException:  # a full disk, Ctrl-C: half a release is none
                remove_tree(self.path(name))
                raise
        finally:
            remove_tree(work)

    def switch(self, name: str) -> None:
        """Make a release the current one, in one step that nobody can see half of."""
        work = self.root / f".current-{os.getpid()}"
        work.unlink(missing_ok=True)
        try:
            work.symlink_to(Path("releases") / name)
            work.replace(self.link)
        finally:
            work.unlink(missing_ok=True)
        with suppress(OSError):  # only the order in which old releases go depends on it
            os.utime(self._meta(name))

    def unlink(self) -> None:
        """Make no release the current one."""
        self.link.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete a release, unless it is the current one."""
        if name != self.current:
            self._meta(name).unlink(missing_ok=True)
            remove_tree(self.path(name))

    def prune(self, keep: int, never: set[str]) -> list[str]:
        """Delete the releases beyond ``keep`` that were current the longest ago; returns their names."""
        metas = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        old = [path.stem for path in metas[keep:] if path.stem not in never]
        for name in old:
            self.remove(name)
        return old

    def sweep(self) -> None:
        """Remove what runs left behind that were killed while they copied."""
        if not self.folder.is_dir():
            return
        current = self.current
        for path in self.folder.iterdir():
            half = path.is_dir() and path.name != current and not self._meta(path.name).is_file()
            if half or path.name.startswith("."):
                remove_tree(path)
        for path in self.root.glob(".current-*"):
            path.unlink(missing_ok=True)

    def remove_empty(self) -> bool:
        """Remove the folders of the layout that hold nothing; True when no release is left."""
        for folder in (self.folder, self.root):
            with suppress(OSError):  # not there, or something is in it
                folder.rmdir()
        return not self.folder.exists()

    def _meta(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def remove_tree(path: Path) -> None:
    """Delete a folder, folders in it that can't be written to included; a file or link just goes.

    What can't be deleted (another user's files) stays: it is in nobody's way, and the next sweep tries again.
    """
    if path.is_symlink() or not path.is_dir():
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            mode = stat.S_IMODE(Path(folder).stat().st_mode)
            Path(folder).chmod(mode | stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)
