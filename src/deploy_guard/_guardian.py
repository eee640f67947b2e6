"""Runs one command so that it cannot outlive the run that started it. Executed as a script; standard library only.

``python -I -S _guardian.py CONTROL STATUS DETACH COMMAND...``: CONTROL is the reading end of a pipe whose other
end only the run holds; when the run ends, however it ends, the kernel closes that end, and the command is ended with
everything it started. STATUS is where the result goes: ``exec ERRNO`` or ``wait STATUS``.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import NoReturn

GRACE = 2.0
"""Seconds between the request to end and the kill."""


def main(arguments: list[str]) -> NoReturn:
    """Run the command to its end, or to the end of the run."""
    control, status, detach, command = int(arguments[0]), int(arguments[1]), arguments[2] == "1", arguments[3:]
    _adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wakeup, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become(command, status)
    for handle in (0, 1, 2):
        os.close(handle)  # the run reads until the last writer is gone, and that must be the command
    for _ in (0, 1, 2):
        os.open(os.devnull, os.O_RDWR)
    while True:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            if not detach:
                _end(child, 0.1)
            os.write(status, b"wait %d\n" % code)
            os._exit(0)
        readable, _, _ = select.select([control, wakeup], [], [])
        if control in readable:
            _end(child, GRACE)
            os._exit(1)
        if wakeup in readable:
            os.read(wakeup, 512)


def _become(command: list[str], status: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        # PIPE and the file size limit are ignored by every Python; a command expects the defaults.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.set_inheritable(status, False)
        os.closerange(3, status)
        os.closerange(status + 1, 256)
        os.execvp(command[0], command)  # noqa: S606 - argv as it was given; there is no shell
    except OSError as error:
        os.write(status, b"exec %d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def _adopt_orphans() -> None:
    """Become the parent of whatever the command leaves behind, processes in a session of their own included."""
    if sys.platform == "linux":
        import ctypes

        pr_set_child_subreaper = 36  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def _end(child: int, grace: float) -> None:
    """End the command's group, then every process that became ours."""
    deadline = time.monotonic() + grace
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal_group(child, number)
        for pid in _children():
            _signal(pid, number)
        while time.monotonic() < deadline or number == signal.SIGKILL:
            _reap()
            left = _children()
            if not left and not _group_lives(child):
                return
            if number == signal.SIGKILL:
                for pid in left:
                    _signal(pid, number)
            time.sleep(0.01)


def _children() -> list[int]:
    me = os.getpid()
    found: list[int] = []
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib costs this script half of its start
    except FileNotFoundError:  # macOS: the group is all that is known
        return found
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended just now
                continue
            if int(fields[1]) == me and fields[0] != b"Z":
                found.append(int(name))
    return found


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    main(sys.argv[1:])
