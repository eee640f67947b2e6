"""Runs one command so that it cannot outlive the run that started it. Executed as a script; standard library only.

``python -I -S _guardian.py CONTROL STATUS RUN DETACH LC_CTYPE COMMAND...``: CONTROL is the reading end of a pipe
whose other end only the run (process RUN) holds; when the run ends, however it ends, the kernel closes that end, and
the command is ended with everything it started. STATUS is where the result goes, in lines: ``exec ERRNO`` when the
command could not be started, ``wait STATUS`` when it ended, ``left PID...`` for processes that would not end. LC_CTYPE
is ``=VALUE``, or empty where the variable is not set: in a C locale Python sets it for itself and its children.

Every command pays for the start of this script, so it imports little: ``signal``, ``ctypes`` and ``typing`` would
double it (21 ms instead of 11 for each of them), and what stands below them in C does the same.
"""

from __future__ import annotations

import os
import select
import sys
import time

try:
    import _signal as signal  # type: ignore[import-not-found]
except ImportError:  # private, so it may go: the public one is slower, not different
    import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

GRACE = 2.0
"""Seconds between the request to end and the kill, and again until a process is given up that the kill did not end."""
BACKGROUND_GRACE = 0.2
"""The same, for what a command left in the background when it ended by itself."""
_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SET_PDEATHSIG = 1
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main(arguments: list[str]) -> NoReturn:
    """Run the command to its end, or to the end of the run."""
    control, status, run, detach, ctype, command = *map(int, arguments[:4]), arguments[4], arguments[5:]
    if ctype:
        os.environ["LC_CTYPE"] = ctype[1:]
    else:
        os.environ.pop("LC_CTYPE", None)
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    # Become the parent of whatever the command leaves behind, processes in sessions of their own included.
    _prctl(_SET_CHILD_SUBREAPER, 1)
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    wakeup, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become(command, status)
    try:  # noqa: SIM105 - contextlib is one more import
        os.setpgid(child, child)  # the child does it too; whoever comes first
    except OSError:  # it is running its program, or has ended already
        pass
    for handle in (0, 1, 2):
        os.close(handle)  # the run reads until the last writer is gone, and that must be the command
    for _ in (0, 1, 2):
        os.open(os.devnull, os.O_RDWR)
    while True:
        code = _reap(child)
        if code is not None:
            left = [] if detach else _end(child, BACKGROUND_GRACE)
            _tell(status, b"wait %d\n" % code, left)
        readable, _, _ = select.select([control, wakeup], [], [], 1.0)
        # The pipe tells at once; the parent's number is for a copy of the pipe in a process that the run forked.
        if control in readable or os.getppid() != run:
            _tell(status, b"", _end(child, GRACE))
        if wakeup in readable:
            os.read(wakeup, 512)


def _become(command: list[str], status: int) -> NoReturn:
    guardian = os.getppid()
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        # PIPE and the file size limit are ignored by every Python; a command expects the defaults.
        for number in (*_INTERRUPTS, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_SET_PDEATHSIG, signal.SIGKILL)  # should somebody kill the guardian
        if os.getppid() == guardian:
            os.execvp(command[0], command)  # noqa: S606 - argv as it was given; there is no shell
    except OSError as error:
        os.write(status, b"exec %d\n" % (error.errno or 0))
    finally:
        os._exit(127)


def _tell(status: int, result: bytes, left: list[int]) -> NoReturn:
    if left:
        result += b"left %s\n" % " ".join(map(str, left)).encode()
    try:
        os.write(status, result)
    except BrokenPipeError:  # the run is gone, nobody asks
        os._exit(1)
    os._exit(0)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    try:
        import _ctypes

        itself = _ctypes.dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # the stub does not know None
        function = _ctypes.dlsym(itself, "prctl")
        _ctypes.call_function(function, (option, value, 0, 0, 0))
    except (ImportError, AttributeError):  # private, as above
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end(group: int, grace: float) -> list[int]:
    """End the command's group and every descendant; returns those that even the kill did not end (another user's)."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, GRACE)):
        deadline = time.monotonic() + patience
        told: set[int] = set()
        while True:
            _reap(group)
            left = _descendants()
            lives = _signal(-group, 0)
            if not left and not lives:
                return []
            if lives and group not in told:
                told.add(group)
                _signal(-group, number)
                told.update(pid for pid in left if _in_group(pid, group))
            for pid in left:
                if pid not in told:
                    told.add(pid)
                    _signal(pid, number)
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
    return _descendants() or [group]


def _descendants() -> list[int]:
    if not _has_children():
        return []
    parents: dict[int, int] = {}
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib costs this script half of its start
    except FileNotFoundError:  # macOS: the group is all that is known
        return []
    for name in names:
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended just now
                continue
            if fields[0] != b"Z":
                parents[int(name)] = int(fields[1])
    found: list[int] = []
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found += generation
    return found


def _has_children() -> bool:
    """True while there is a child, a zombie included; spares the look through ``/proc`` after most commands."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _reap(child: int) -> int | None:
    """Collect what has ended; returns the wait status of the command itself when it was among them."""
    code = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                code = status
            if not pid:
                return code
    except ChildProcessError:
        return code


def _in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # it has ended, or is another user's
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
