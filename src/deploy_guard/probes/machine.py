"""The machine that the gates run on."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploy_guard.probes import cgroup

if TYPE_CHECKING:
    from deploy_guard.probes.tools import Tool
    from deploy_guard.process import CommandResult


@dataclass(frozen=True)
class Usage:
    """How much of something is used; bytes (of inodes: how many) and percent. ``what`` names what was measured."""

    total: int
    used: int
    free: int
    used_percent: float
    what: str = ""


@dataclass(frozen=True)
class Process:
    """A process that runs."""

    pid: int
    name: str
    command: str


class Machine:
    """Disk, memory, tools, processes and ports, read when asked for.

    :param cgroups: where the control groups are mounted.
    :param membership: the file that says in which of them this process is.
    """

    def __init__(self, *, cgroups: Path = cgroup.ROOT, membership: Path = cgroup.MEMBERSHIP) -> None:
        self._cgroups = cgroups
        self._membership = membership

    @property
    def name(self) -> str:
        """The machine's own name."""
        return platform.node() or "without a name"

    def disk(self, path: str | Path = "/") -> Usage:
        """Return the use of the file system that holds ``path``; ``OSError`` when there is no such path.

        The percentage is of what unprivileged users can have, as ``df`` shows it.
        """
        import psutil

        usage = psutil.disk_usage(str(path))
        return Usage(usage.total, usage.used, usage.free, usage.percent, f"disk {path}")

    def inodes(self, path: str | Path = "/") -> Usage | None:
        """Return the use of inodes of the file system that holds ``path``; ``OSError`` when there is no such path.

        None for a file system that makes them as needed, such as btrfs, and counts none.
        """
        found = os.statvfs(path)
        if not found.f_files:
            return None
        used = found.f_files - found.f_ffree
        reachable = used + found.f_favail
        percent = 100.0 * used / reachable if reachable else 100.0
        return Usage(found.f_files, used, found.f_favail, percent, f"inodes {path}")

    def memory(self) -> Usage:
        """Return the use of memory; used is what is not available without swapping.

        Inside a container that is the memory of its control group, where that has a limit; ``what`` says which.
        """
        import psutil

        host = psutil.virtual_memory()
        group = cgroup.memory(host.total, self._cgroups, self._membership)
        if group is None:
            used, percent = host.total - host.available, 100.0 * (host.total - host.available) / host.total
            return Usage(host.total, used, host.available, percent, "memory of the machine")
        percent = 100.0 * group.used / group.limit if group.limit else 100.0
        return Usage(group.limit, group.used, group.free, percent, f"memory of the cgroup {group.group}")

    def which(self, name: str) -> str | None:
        """Return the path of a tool, or None."""
        return shutil.which(name)

    def tool(self, name: str) -> Tool:
        """Return where a tool is and its version; it is run to find out. ``"docker compose"`` asks a tool's plugin."""
        from deploy_guard.probes.tools import look_up

        return look_up(name)

    def processes(self, wanted: str) -> list[Process]:
        """Return the processes of this name: the process's own, or that of the program that was started.

        With a space or a slash in it, it is looked for in the command line, as whole words. This process and those
        that started it don't count, and neither do zombies.
        """
        import psutil

        ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        found = []
        for process in psutil.process_iter(["pid", "name", "cmdline", "status"]):
            said = process.info
            words = said["cmdline"] or []
            if (
                process.pid not in ours
                and said["status"] != psutil.STATUS_ZOMBIE
                and _runs(wanted, said["name"], words)
            ):
                found.append(Process(process.pid, said["name"] or "", " ".join(words)))
        return found

    def reach(self, address: str | int, *, timeout: float = 3.0) -> str:
        """Connect to ``"host:port"``, or a port of this machine. Returns nothing when that worked, else the reason."""
        from deploy_guard.probes.ports import reach

        return reach(address, timeout)

    def taken(self, port: int) -> str:
        """Say who listens at a port of this machine; nothing when it is free."""
        from deploy_guard.probes.ports import taken

        return taken(port)

    def run(self, argv: Sequence[str | Path], *, timeout: float = 60.0) -> CommandResult:
        """Run a command within ``timeout`` seconds; argv only, never left behind. Errors as ``process.run``."""
        from deploy_guard.process import run

        return run(argv, timeout=timeout)

    def looked_at(self, driver: str | None, environ: Mapping[str, str], context: str = "") -> str:
        """Say which machine disk and memory are of, and that the target is another one where that is so.

        :param context: the Kubernetes context of the configuration.
        """
        here, elsewhere = f"this machine ({self.name})", ""
        if driver == "kubernetes":
            elsewhere = f"the cluster {context}".rstrip()
        elif driver == "compose" and (name := environ.get("DOCKER_CONTEXT", "")) not in ("", "default"):
            elsewhere = f"the Docker context {name}"  # Docker itself prefers it to DOCKER_HOST
        elif driver == "compose" and (host := _remote(environ.get("DOCKER_HOST", ""))):
            elsewhere = f"the DOCKER_HOST host {host}"
        return f"{here}; the target is {elsewhere}: its disks and memory are not looked at" if elsewhere else here


def _runs(wanted: str, name: str | None, words: Sequence[str]) -> bool:
    if " " in wanted or "/" in wanted:
        return f" {wanted} " in f" {' '.join(words)} "
    return wanted in (name, words[0].rpartition("/")[2] if words else "")


def _remote(docker_host: str) -> str:
    """Return the host of a remote engine, without credentials; nothing for one on this machine."""
    if "://" not in docker_host:
        return ""
    try:
        parts = urlsplit(docker_host.strip())
        host = parts.hostname or ""
    except ValueError:
        return "that can't be read"
    if parts.scheme in ("unix", "npipe", "fd") or host == "localhost" or host.startswith("127.") or host == "::1":
        return ""
    return host
