"""HTTP/1.1 over a unix socket, for several threads: kept connections, chunked answers, streams, deadlines.

Why not ``http.client``: a wait that ends must be told apart from an answer that is cut, a wait must be looked at now
and then (is the other side frozen? is the run being ended?), and it must be known whether a request can have been
acted upon.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy_guard.deadline import Deadline

LONGEST_PATH = 103
"""Bytes of a socket's path: Linux takes 107, macOS 103."""
_TICK = 0.5
"""Seconds between two looks while nothing comes."""
_READ = 256 * 1024
_LONGEST_LINE = 64 * 1024


class NotSent(Exception):
    """The request did not go out, or not all of it: it cannot have been acted upon."""


class Lost(Exception):
    """The request went out, and no whole answer came back: nobody knows whether it was acted upon."""


@dataclass(frozen=True)
class Response:
    """An answer; names of headers are in lower case. ``body`` is empty for a stream."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Pool:
    """Connections to one socket. Any number of threads may ask at once; each has a connection for itself meanwhile.

    :param path: the socket.
    :param look: called twice a second by every thread that waits; what it raises ends the wait, and the connection.
    """

    def __init__(self, path: Path, look: Callable[[], None] = lambda: None) -> None:
        self._path = str(path)
        self._look = look
        self._idle: list[_Channel] = []
        self._all: set[_Channel] = set()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline
    ) -> Response:
        """Send a request and read the whole answer.

        :raises NotSent, Lost: when there is none.
        """
        with self._channel() as channel:
            channel.send(method, target, headers, body, deadline)
            status, answered = channel.head(deadline)
            whole = b"".join(channel.body(answered, deadline))
            channel.clean = answered.get("connection", "").lower() != "close"
            return Response(status, answered, whole)

    @contextmanager
    def stream(
        self, target: str, headers: Mapping[str, str], deadline: Deadline
    ) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """Send a GET; gives the head of the answer, and the lines of the body as they come, however long it takes.

        :param deadline: for the head.
        :raises NotSent, Lost: when there is none; ``Lost`` too while reading lines.
        """
        with self._channel() as channel:
            channel.send("GET", target, headers, None, deadline)
            status, answered = channel.head(deadline)
            yield Response(status, answered, b""), _lines(channel.body(answered, None))

    def close(self) -> None:
        """Close all connections; threads that wait for an answer get ``Lost``."""
        with self._lock:
            used, idle = self._all.difference(self._idle), self._idle
            self._all, self._idle = set(), []
        for channel in used:
            channel.shut()
        for channel in idle:
            channel.close()

    @contextmanager
    def _channel(self) -> Iterator[_Channel]:
        channel = self._kept() or self._new()
        try:
            yield channel
        finally:
            clean, channel.clean = channel.clean, False
            with self._lock:
                keep = clean and channel in self._all  # not closed meanwhile
                if keep:
                    self._idle.append(channel)
                else:
                    self._all.discard(channel)
            if not keep:
                channel.close()

    def _kept(self) -> _Channel | None:
        with self._lock:
            if self._process != os.getpid():  # a fork: these connections are its parent's
                self._process, self._all, self._idle = os.getpid(), set(), []
            return self._idle.pop() if self._idle else None

    def _new(self) -> _Channel:
        channel = _Channel(self._path, self._look)
        with self._lock:
            self._all.add(channel)
        return channel


class _Channel:
    """One connection, and what was read from it and not used."""

    def __init__(self, path: str, look: Callable[[], None]) -> None:
        self.clean = False
        self._look = look
        self._buffer = b""
        self._heard = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_TICK)
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NotSent(_said(error)) from error

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline
    ) -> None:
        self._heard = False
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        rest = memoryview("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))
        while rest:
            self._set_timeout(deadline)
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                self._wait(deadline, NotSent)
            except OSError as error:
                if body and self._answered_early():
                    return
                raise NotSent(_said(error)) from error

    def head(self, deadline: Deadline) -> tuple[int, dict[str, str]]:
        while True:
            version, _, rest = self._line(deadline).partition(b" ")
            code = rest[:3]
            if not version.startswith(b"HTTP/1.") or not code.isdigit():
                raise Lost(f"the answer is not HTTP: {(version + b' ' + rest)[:80]!r}")
            headers: dict[str, str] = {}
            while line := self._line(deadline):
                name, _, value = line.decode("latin-1").partition(":")
                name, value = name.lower(), value.strip()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            if not code.startswith(b"1"):
                return int(code), headers

    def body(self, headers: Mapping[str, str], deadline: Deadline | None) -> Iterator[bytes]:
        """Yield the body in pieces as they come."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := self._size(deadline):
                yield from self._exactly(size, deadline)
                self._line(deadline)
            while self._line(deadline):  # trailers
                pass
        else:
            length = headers.get("content-length", "0")
            if not length.isdigit():
                raise Lost(f"the answer is not HTTP: its length is {length[:80]!r}")
            yield from self._exactly(int(length), deadline)

    def shut(self) -> None:
        """End it for the thread that uses it, which closes it then."""
        with suppress(OSError):  # the other side was quicker
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def _size(self, deadline: Deadline | None) -> int:
        line = self._line(deadline).partition(b";")[0].strip()
        try:
            return int(line, 16)
        except ValueError as error:
            raise Lost(f"the answer is not HTTP: {line[:80]!r} is no size of a chunk") from error

    def _line(self, deadline: Deadline | None) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise Lost("the answer is not HTTP: a line of it never ends")
            self._buffer += self._read(deadline)
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _exactly(self, size: int, deadline: Deadline | None) -> Iterator[bytes]:
        while size > 0:
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(piece)
            if piece:
                yield piece
            if size:
                self._buffer = self._read(deadline)

    def _read(self, deadline: Deadline | None) -> bytes:
        while True:
            self._set_timeout(deadline)
            try:
                chunk = self._socket.recv(_READ)
            except TimeoutError:
                self._wait(deadline, Lost)
                continue
            except OSError as error:
                # Linux says so of a unix socket whose other end was closed before it had read all that was sent.
                unread = error.errno == errno.ECONNRESET and sys.platform == "linux" and not self._heard
                raise (NotSent if unread else Lost)(_said(error)) from error
            if not chunk:
                raise Lost("the connection was closed before the answer was complete")
            self._heard = True
            return chunk

    def _set_timeout(self, deadline: Deadline | None) -> None:
        self._socket.settimeout(_TICK if deadline is None else min(_TICK, deadline.remaining + 0.001))

    def _wait(self, deadline: Deadline | None, error: type[NotSent | Lost]) -> None:
        self._look()
        if deadline is not None and deadline.expired:
            raise error(f"no answer within {deadline.limit:.3g} s")

    def _answered_early(self) -> bool:
        """True when the server answered and closed before it had read all of a body, as it does with too large ones."""
        with suppress(OSError):
            self._buffer += self._socket.recv(_READ)
        return self._buffer.startswith(b"HTTP/")


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
