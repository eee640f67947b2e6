"""The one way to run a command: argv only, with a deadline, captured, and never left behind.

Each command runs under a guardian (``_guardian.py``) in a process session of its own, which ends it, with everything
it started, when the run that started it is gone, even by SIGKILL.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from deploy_guard.errors import CommandFailed

_GUARDIAN = Path(__file__).with_name("_guardian.py")
_KEEP = 512 * 1024
"""Bytes that are kept of the beginning and of the end of each stream."""
_TAIL = 25
"""Lines of output that an error quotes."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended. ``rc`` is its exit code, or minus the signal's number; ``seconds`` is wall-clock time."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """True for exit code 0."""
        return self.rc == 0

    def check(self) -> CommandResult:
        """Return itself; raises ``CommandFailed`` with the end of the output when the command failed."""
        if not self.ok:
            raise CommandFailed(f"{_shown(self.argv)} {_ending(self.rc)}{_tail(self.stderr or self.stdout)}")
        return self


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = 60.0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002 - subprocess calls it so
    on_line: Callable[[str], None] | None = None,
    detach: bool = False,
) -> CommandResult:
    """Run a command to its end and return how it ended.

    :param timeout: seconds; past it the command and everything it started is ended.
    :param env: the whole environment of the command; by default that of this process.
    :param on_line: called with each line of output as it comes.
    :param detach: let processes live on that the command leaves behind when it ends by itself (``systemctl``-like
        commands that start a service); by default they are ended.
    :raises CommandFailed: when it can't be started, or ran past the timeout.
    :raises TypeError: when ``argv`` is one string: there is no shell to take it apart.
    """
    if isinstance(argv, (str, bytes)):
        raise TypeError(f"a command is a list of words, there is no shell: write {str(argv).split()!r}")
    words = tuple(str(word) for word in argv)
    if not words:
        raise TypeError("a command needs at least the name of a program")
    return _Running(words, timeout, on_line, detach=detach).result(cwd, env, input)


class _Running:
    def __init__(
        self, argv: tuple[str, ...], timeout: float, on_line: Callable[[str], None] | None, *, detach: bool
    ) -> None:
        self._argv = argv
        self._timeout = timeout
        self._streams = {"stdout": _Stream(on_line), "stderr": _Stream(on_line)}
        self._detach = detach
        self._status = b""
        self._control = -1

    def result(self, cwd: Path | None, env: Mapping[str, str] | None, text: str | None) -> CommandResult:
        if cwd is not None and not Path(cwd).is_dir():
            raise CommandFailed(f"{_shown(self._argv)} can't be started: the folder {cwd} does not exist")
        started = time.monotonic()
        control, self._control = os.pipe()
        status, writing = os.pipe()
        guardian = [sys.executable, "-I", "-S", str(_GUARDIAN), str(control), str(writing), str(int(self._detach))]
        with tempfile.TemporaryFile() as stdin:
            stdin.write((text or "").encode())
            stdin.seek(0)
            try:
                process = subprocess.Popen(
                    [*guardian, *self._argv],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(control, writing),
                    start_new_session=True,
                    cwd=cwd,
                    env=None if env is None else dict(env),
                )
            except BaseException:
                os.close(self._control)
                os.close(status)
                raise
            finally:
                os.close(control)
                os.close(writing)
        try:
            self._read(process, status, started + self._timeout)
        finally:
            # Whatever ended the wait, Ctrl-C included: closing the pipe makes the guardian end what is left.
            os.close(self._control)
            os.close(status)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return self._ended(time.monotonic() - started)

    def _read(self, process: subprocess.Popen[bytes], status: int, deadline: float) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for handle, name in (
                (process.stdout.fileno(), "stdout"),
                (process.stderr.fileno(), "stderr"),
                (status, ""),
            ):
                selector.register(handle, selectors.EVENT_READ, name)
            while selector.get_map():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    self._past_deadline()
                ready = selector.select(0.2 if self._status and self._detach else remaining)
                if not ready and self._status and self._detach:
                    return  # what lives on may keep its output open for ever
                for key, _ in ready:
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                    elif key.data:
                        self._streams[key.data].feed(chunk)
                    else:
                        self._status += chunk

    def _past_deadline(self) -> NoReturn:
        output = self._streams["stderr"].text() or self._streams["stdout"].text()
        raise CommandFailed(
            f"{_shown(self._argv)} ran longer than {self._timeout:g} s and was ended{_tail(output)}",
            hint="give it more time, or find out what it waits for",
        )

    def _ended(self, seconds: float) -> CommandResult:
        word, _, number = self._status.decode().partition("\n")[0].partition(" ")
        if word == "exec":
            code = int(number)
            raise CommandFailed(
                f"{_shown(self._argv)} can't be started: {os.strerror(code)}",
                hint=f"install {self._argv[0]}, or put its folder on the PATH ({os.environ.get('PATH', '')})"
                if code == 2
                else "",
            )
        if word != "wait":
            raise CommandFailed(f"{_shown(self._argv)} was lost: its guardian process was ended by somebody")
        rc = os.waitstatus_to_exitcode(int(number))
        out, err = self._streams["stdout"], self._streams["stderr"]
        return CommandResult(self._argv, rc, out.text(), err.text(), seconds)


class _Stream:
    """Keeps the beginning and the end of a stream, and hands on its lines."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._head = bytearray()
        self._rest = bytearray()
        self._cut = 0
        self._line = bytearray()

    def feed(self, chunk: bytes) -> None:
        room = _KEEP - len(self._head)
        self._head += chunk[:room]
        self._rest += chunk[room:] if room > 0 else chunk
        if len(self._rest) > 2 * _KEEP:
            self._cut += len(self._rest) - _KEEP
            del self._rest[:-_KEEP]
        if self._on_line is not None:
            self._line += chunk
            *lines, rest = self._line.split(b"\n")
            self._line = bytearray(rest)
            for line in lines:
                self._on_line(line.decode("utf-8", "replace"))

    def text(self) -> str:
        cut = f"\n… {self._cut} bytes left out …\n" if self._cut else ""
        return self._head.decode("utf-8", "replace") + cut + self._rest.decode("utf-8", "replace")


def _shown(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 200 else text[:199] + "…"


def _ending(rc: int) -> str:
    if rc >= 0:
        return f"ended with exit code {rc}"
    try:
        return f"was ended by {signal.Signals(-rc).name}"
    except ValueError:
        return f"was ended by signal {-rc}"


def _tail(text: str) -> str:
    lines = text.strip().splitlines()[-_TAIL:]
    return (":\n" + "\n".join(f"  {line}" for line in lines)) if lines else ""
