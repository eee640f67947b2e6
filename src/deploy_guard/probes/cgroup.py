"""How much memory the control group leaves us: inside a container that is what counts, not the host's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Memory:
    """The limit of a control group and what is used of it, in bytes; what the kernel can drop at once is not used."""

    group: str
    limit: int
    used: int

    @property
    def free(self) -> int:
        """Bytes that are left, never negative."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class _Files:
    """The names of one version's files."""

    limit: str
    used: str
    droppable: str


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def memory(host: int, root: Path = ROOT, membership: Path = MEMBERSHIP) -> Memory | None:
    """Return the tightest limit on the way from our group up to the root: the one that leaves the least.

    :param host: the host's memory in bytes: a limit of as much or more is none (version 1 has no word for "no limit").
    :returns: None where there is no limit, or no control group at all.
    :raises OSError: when there is a limit, and what is used of it can't be read.
    """
    limits = [found for files, folder, group in _levels(root, membership) if (found := _read(files, folder, group))]
    return min((found for found in limits if found.limit < host), key=lambda found: found.free, default=None)


def _levels(root: Path, membership: Path) -> Iterator[tuple[_Files, Path, str]]:
    try:
        lines = membership.read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            files, top = _V2, root
        elif "memory" in controllers.split(","):
            files, top = _V1, root / "memory"
        else:
            continue
        # In a container the path may be the host's, of which nothing is mounted but our own group, as the root.
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for depth in range(len(parts), -1, -1):
            group = "/".join(parts[:depth])
            if (top / group / files.limit).is_file():
                yield files, top / group, f"/{group}"


def _read(files: _Files, folder: Path, group: str) -> Memory | None:
    limit = (folder / files.limit).read_text().strip()
    if limit == "max":
        return None
    used = int((folder / files.used).read_text())
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return Memory(group, int(limit), max(0, used - int(stat.get(files.droppable, 0))))
