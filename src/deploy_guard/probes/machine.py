"""The machine that the gates run on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy_guard.process import CommandResult


@dataclass(frozen=True)
class Usage:
    """How much of something is used; bytes and percent."""

    total: int
    used: int
    free: int
    used_percent: float


class Machine:
    """Disk, memory and tools, read when asked for."""

    def disk(self, path: str | Path = "/") -> Usage:
        """Return the use of the file system that holds ``path``; ``OSError`` when there is no such path.

        The percentage is of what unprivileged users can have, as ``df`` shows it.
        """
        import psutil

        usage = psutil.disk_usage(str(path))
        return Usage(usage.total, usage.used, usage.free, usage.percent)

    def memory(self) -> Usage:
        """Return the use of memory; used is what is not available without swapping."""
        import psutil

        memory = psutil.virtual_memory()
        used = memory.total - memory.available
        return Usage(memory.total, used, memory.available, 100.0 * used / memory.total)

    def which(self, name: str) -> str | None:
        """Return the path of a tool, or None."""
        return shutil.which(name)

    def run(self, argv: Sequence[str | Path], *, timeout: float = 60.0) -> CommandResult:
        """Run a command within ``timeout`` seconds; argv only, never left behind. Errors as ``process.run``."""
        from deploy_guard.process import run

        return run(argv, timeout=timeout)
