"""The one way to run a command: argv only, with a deadline, captured, and never left behind.

Each command runs under a guardian (``_guardian.py``) in a process session of its own, which ends it, with everything
it started, when the run that started it is gone, even by SIGKILL. What a command leaves in the background is ended
when the command ends. On macOS a process that moves to a process group of its own escapes the guardian.
"""

from __future__ import annotations

import errno
import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy_guard.errors import CommandFailed

_GUARDIAN = Path(__file__).with_name("_guardian.py")
_KEEP = 512 * 1024
"""Bytes that are kept of the beginning and of the end of each stream."""
_LONGEST_LINE = 64 * 1024
"""Bytes without a line break that are handed to ``on_line`` as a line of their own."""
_TAIL = 25
"""Lines of output that an error quotes."""
_ENDING = 6.0
"""Seconds for the guardian to end everything, twice its grace and some more; its last output is still read."""
_REST = 2.0
"""Seconds after the command ended in which its last output is read, though somebody goes on writing."""
_QUIET = 0.2
"""Seconds of silence after the command ended that mean no more output, though somebody holds the stream open."""
_WATCH = 0.1
"""Seconds between two calls of ``watch``."""


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
            raise CommandFailed(f"{_shown(self.argv)} {ending(self.rc)}{_tail(self.stderr, self.stdout)}")
        return self


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = 60.0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002 - subprocess calls it so
    on_line: Callable[[str], None] | None = None,
    watch: Callable[[], None] | None = None,
    detach: bool = False,
    until: int | None = None,
    keep: int = _KEEP,
) -> CommandResult:
    """Run a command to its end and return how it ended.

    Output is UTF-8, with a replacement character for what isn't; of each stream the first and the last ``keep`` bytes
    are kept, 512 KiB unless told. Whatever ends the wait (a deadline, Ctrl-C, an error in ``on_line`` or ``watch``)
    ends the command first.

    :param timeout: seconds; past it the command and everything it started is ended: SIGTERM, 2 s, SIGKILL.
    :param env: the whole environment of the command; by default that of this process.
    :param input: what the command reads from its standard input; by default nothing.
    :param on_line: called with each line of both outputs as it comes.
    :param watch: called about ten times a second while the command runs: what it raises ends a command whose outcome
        is known from elsewhere.
    :param detach: let processes live on that the command leaves behind when it ends by itself (``systemctl``-like
        commands that start a service); by default they are ended.
    :param until: for a command that serves the run: a file descriptor that is read from; whatever comes ends the
        command as a deadline does, and this returns as if SIGTERM alone had ended it.
    :raises CommandFailed: when it can't be started, or ran past the timeout.
    :raises TypeError: when ``argv`` is one string: there is no shell to take it apart.
    """
    if isinstance(argv, (str, bytes)):
        raise TypeError(f"a command is a list of words, there is no shell: write {argv.split()!r}")
    command = tuple(str(word) for word in argv)
    if not command:
        raise TypeError("a command needs at least the name of a program")
    return _Running(command, timeout, on_line, watch, input, detach=detach, until=until, keep=keep).result(cwd, env)


class _Running:
    def __init__(
        self,
        argv: tuple[str, ...],
        timeout: float,
        on_line: Callable[[str], None] | None,
        watch: Callable[[], None] | None,
        text: str | None,
        *,
        detach: bool,
        until: int | None,
        keep: int,
    ) -> None:
        self._argv = argv
        self._timeout = timeout
        self._watch = watch
        self._out, self._err = _Stream(on_line, keep), _Stream(on_line, keep)
        self._input = None if text is None else memoryview(text.encode())
        self._detach = detach
        self._until = until
        self._status = b""
        self._expired = self._told_to_end = False

    def result(self, cwd: Path | None, env: Mapping[str, str] | None) -> CommandResult:
        if cwd is not None and not Path(cwd).is_dir():
            raise CommandFailed(f"{_shown(self._argv)} can't be started: the folder {cwd} does not exist")
        started = time.monotonic()
        with ExitStack() as stack:
            control, held = _pipe(stack)
            status, told = _pipe(stack)
            process = self._start(cwd, env, control.fileno(), told.fileno())
            try:
                control.close()
                told.close()
                self._read(process, status, held, started + self._timeout)
            finally:
                held.close()  # whatever ended the wait, Ctrl-C included, the guardian now ends what is left
                with process:
                    process.wait()
        return self._ended(time.monotonic() - started, env)

    def _start(
        self, cwd: Path | None, env: Mapping[str, str] | None, control: int, status: int
    ) -> subprocess.Popen[bytes]:
        numbers = map(str, (control, status, os.getpid(), int(self._detach)))
        given = (os.environ if env is None else env).get("LC_CTYPE")
        ctype = "" if given is None else f"={given}"
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", str(_GUARDIAN), *numbers, ctype, *self._argv],
                bufsize=0,
                stdin=subprocess.DEVNULL if self._input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(control, status),
                start_new_session=True,
                cwd=cwd,
                env=None if env is None else dict(env),
            )
        except (OSError, ValueError) as error:  # too many words, no right to enter cwd; a null byte in a word
            raise CommandFailed(f"{_shown(self._argv)} can't be started: {error}") from error

    def _read(self, process: subprocess.Popen[bytes], status: IO[bytes], held: IO[bytes], limit: float) -> None:
        over = False
        with selectors.DefaultSelector() as selector:
            for pipe, sink in (
                (process.stdout, self._out.feed),
                (process.stderr, self._err.feed),
                (status, self._tell),
            ):
                assert pipe is not None
                selector.register(pipe, selectors.EVENT_READ, sink)
            if process.stdin is not None:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE)
            if self._until is not None:
                selector.register(self._until, selectors.EVENT_READ, self._end)
            while selector.get_map():
                remaining = limit - time.monotonic()
                if remaining <= 0 or (self._told_to_end and not held.closed):
                    if over or held.closed:
                        return  # somebody that could not be ended holds the streams
                    self._expired = not self._told_to_end
                    held.close()
                    limit = time.monotonic() + _ENDING
                    continue
                watched = self._watch if not over and not held.closed else None
                ready = selector.select(min(remaining, _QUIET if over else _WATCH if watched else remaining))
                if over and not ready:
                    return  # what lives on may keep the streams open for ever
                if watched:
                    watched()
                for key, _ in ready:
                    if not self._move(key) and self._close(selector, key) and not over:
                        # The guardian is done. What is in the streams now was written by the command.
                        over, limit = True, time.monotonic() + _REST
                        if self._until is not None and self._until in selector.get_map():
                            selector.unregister(self._until)

    def _move(self, key: selectors.SelectorKey) -> bool:
        """Read or write once; False when this stream is done."""
        if key.data is None:
            assert self._input is not None
            try:
                self._input = self._input[os.write(key.fd, self._input[:65536]) :]
            except BrokenPipeError:  # the command does not want the rest
                return False
            return bool(self._input)
        chunk = os.read(key.fd, 65536)
        key.data(chunk)
        return bool(chunk)

    def _close(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
        """Take no more from this stream; True when it was the guardian's."""
        selector.unregister(key.fileobj)
        if key.data is None:
            key.fileobj.close()  # type: ignore[union-attr]
        return bool(key.data == self._tell)

    def _tell(self, chunk: bytes) -> None:
        self._status += chunk

    def _end(self, _chunk: bytes) -> None:
        self._told_to_end = True

    def _ended(self, seconds: float, env: Mapping[str, str] | None) -> CommandResult:
        shown, tail = _shown(self._argv), _tail(self._err.text(), self._out.text())
        said = dict(line.split(" ", 1) for line in reversed(self._status.decode().splitlines()))
        if "exec" in said:
            raise self._not_started(int(said["exec"]), os.environ if env is None else env)
        if "wait" in said:
            rc = os.waitstatus_to_exitcode(int(said["wait"]))
            return CommandResult(self._argv, rc, self._out.text(), self._err.text(), seconds)
        left = f", but for process {said['left']}, which could not be" if "left" in said else ""
        if self._told_to_end:
            if left:
                raise CommandFailed(f"{shown} was ended{left}{tail}")
            return CommandResult(self._argv, -signal.SIGTERM, self._out.text(), self._err.text(), seconds)
        if self._expired:
            raise CommandFailed(
                f"{shown} ran longer than {self._timeout:g} s and was ended{left}{tail}",
                hint="give it more time, or find out what it waits for",
            )
        raise CommandFailed(f"{shown} was lost: its guardian process was ended by somebody{tail}")

    def _not_started(self, code: int, env: Mapping[str, str]) -> CommandFailed:
        program = self._argv[0]
        hint = ""
        if code == errno.ENOENT and "/" in program:
            hint = "build or install it; if the file is there, the interpreter that its first line names is not"
        elif code == errno.ENOENT:
            hint = f"install {program}, or put its folder on the PATH ({env.get('PATH', 'not set')})"
        elif code == errno.EACCES:
            hint = f"make it executable: chmod +x {program}"
        elif code == errno.ENOEXEC:
            hint = "its first line must name an interpreter, such as #!/bin/sh"
        return CommandFailed(f"{_shown(self._argv)} can't be started: {os.strerror(code)}", hint=hint)


class _Stream:
    """Keeps the beginning and the end of a stream, and hands on its lines."""

    def __init__(self, on_line: Callable[[str], None] | None, keep: int) -> None:
        self._keep = keep
        self._on_line = on_line
        self._head = bytearray()
        self._rest = bytearray()
        self._cut = 0
        self._line = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Take what was read; an empty chunk is the end."""
        room = self._keep - len(self._head)
        self._head += chunk[:room]
        self._rest += chunk[room:]
        if len(self._rest) > 2 * self._keep:
            self._cut += len(self._rest) - self._keep
            del self._rest[: -self._keep]
        if self._on_line is None:
            return
        self._line += chunk
        *lines, rest = self._line.split(b"\n")
        if rest and (not chunk or len(rest) > _LONGEST_LINE):
            lines.append(rest)
            rest = bytearray()
        self._line = rest
        for line in lines:
            self._on_line(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def text(self) -> str:
        cut = self._cut + max(0, len(self._rest) - self._keep)
        if not cut:
            return (self._head + self._rest).decode("utf-8", "replace")
        head, rest = self._head.decode("utf-8", "replace"), self._rest[-self._keep :].decode("utf-8", "replace")
        return f"{head}\n… {cut} bytes left out …\n{rest}"


def _pipe(stack: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return stack.enter_context(os.fdopen(read, "rb", 0)), stack.enter_context(os.fdopen(write, "wb", 0))


def _shown(argv: Sequence[str]) -> str:
    text = shlex.join(argv)
    return text if len(text) <= 200 else text[:199] + "…"


def ending(rc: int) -> str:
    """Return how a command ended, for people: ``ended with exit code 3``, ``was ended by SIGKILL``."""
    if rc >= 0:
        return f"ended with exit code {rc}"
    try:
        return f"was ended by {signal.Signals(-rc).name}"
    except ValueError:  # a real-time signal has a number only
        return f"was ended by signal {-rc}"


def _tail(*streams: str) -> str:
    """Return the last lines of the first stream that holds any."""
    for text in streams:
        if lines := text.strip().splitlines()[-_TAIL:]:
            return ":\n" + "\n".join(f"  {line}" for line in lines)
    return ""
