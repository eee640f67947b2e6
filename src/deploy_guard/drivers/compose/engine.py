"""Requests to the Docker engine, through ``docker system dial-stdio``.

So contexts, ssh and TLS stay docker's own affair.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from deploy_guard.errors import DeployGuardError

T = TypeVar("T")
R = TypeVar("R")

LOWEST = (1, 41)
"""The API of Docker 20.10; older engines don't tell all of what a container was made with."""
_PATIENCE = 60.0
_AGAIN = ("GET", "HEAD", "DELETE")
"""Methods that may be asked twice where nobody knows what became of the first time."""
_AT_ONCE = 8
"""Requests side by side, each over a connection of its own."""


class EngineError(DeployGuardError):
    """The engine refused a request; ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineAway(DeployGuardError):
    """The engine can't be reached, or stopped answering: nobody knows what became of the request."""


class Engine:
    """The engine that docker is set to, spoken to over connections that docker makes.

    :param docker: the words that every command of docker begins with: ``("docker", "--context", "prod")``.
    :param environ: the environment of these commands.
    """

    def __init__(self, docker: Sequence[str], environ: Mapping[str, str]) -> None:
        self._docker, self._environ = tuple(docker), environ
        self._own = threading.local()
        self._lines: list[_Line] = []
        weakref.finalize(self, _end_all, self._lines)
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._prefix = ""
        self._ahead = 0.0

    @property
    def now(self) -> float:
        """The engine's clock, in seconds since 1970, to a second; that of this machine before the first answer."""
        return time.time() + self._ahead

    # Requests

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Any:
        """Return an answer; raises ``EngineError`` or ``EngineAway``."""
        return _read(self._request("GET", path, query=query))

    def found(self, path: str, *, query: Mapping[str, str] | None = None) -> Any:
        """Return an answer, or None where there is nothing of that name."""
        try:
            return self.get(path, query=query)
        except EngineError as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def post(
        self, path: str, body: Any = None, *, query: Mapping[str, str] | None = None, patience: float = _PATIENCE
    ) -> Any:
        """Ask for a change and return the answer; one that is there already (304) is fine."""
        content = None if body is None else json.dumps(body).encode()
        return _read(self._request("POST", path, content, query=query, patience=patience))

    def delete(self, path: str, *, query: Mapping[str, str] | None = None) -> None:
        """Remove something; one that is gone, or about to be, is fine."""
        try:
            self._request("DELETE", path, query=query)
        except EngineError as error:
            removing = error.status == http.client.CONFLICT and "already in progress" in error.what
            if error.status != http.client.NOT_FOUND and not removing:
                raise

    def content(self, path: str, *, query: Mapping[str, str] | None = None) -> bytes:
        """Return an answer that is no JSON: a log, an archive."""
        return self._request("GET", path, query=query)

    def head(self, path: str, name: str, *, query: Mapping[str, str] | None = None) -> str:
        """Return one header of an answer."""
        return self._send("HEAD", path, None, "", query, _PATIENCE)[1].get(name, "")

    def put(self, path: str, content: bytes, kind: str, *, query: Mapping[str, str] | None = None) -> None:
        """Send a file."""
        self._request("PUT", path, content, kind, query=query)

    def stream(self, path: str, *, query: Mapping[str, str] | None = None) -> Stream:
        """Open an answer that goes on, as that of ``/events``."""
        line = self._new(None)
        try:
            line.request("GET", self._path(path, query))
            return Stream(line, line.getresponse())
        except (OSError, http.client.HTTPException) as error:
            raise self._away(line, error) from error

    def each(self, function: Callable[[T], R], over: Iterable[T]) -> list[R]:
        """Call a function for each, some side by side; returns the results in order, the first error ends it."""
        entries = list(over)
        if len(entries) < 2:
            return [function(entry) for entry in entries]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_AT_ONCE, "docker")
        return list(self._threads.map(function, entries))

    def version(self) -> Mapping[str, Any]:
        """Return what the engine says about itself, and speak its own version of the API from here on."""
        told: Mapping[str, Any] = self.get("/version")
        self._prefix = f"/v{told['ApiVersion']}"
        return told

    def close(self) -> None:
        """End all connections; the engine can be asked again."""
        threads, self._threads = self._threads, None
        with self._lock:
            _end_all(self._lines)
        self._own = threading.local()
        if threads is not None:
            threads.shutdown()

    # The parts

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        kind: str = "application/json",
        *,
        query: Mapping[str, str] | None = None,
        patience: float = _PATIENCE,
    ) -> bytes:
        status, _, answer = self._send(method, path, content, kind, query, patience)
        if status >= http.client.BAD_REQUEST:
            raise EngineError(status, _message(answer) or f"{method} {path} was answered with status {status}")
        return answer

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        kind: str,
        query: Mapping[str, str] | None,
        patience: float,
    ) -> tuple[int, Mapping[str, str], bytes]:
        line: _Line | None = getattr(self._own, "line", None)
        used = line is not None and line.sock is not None
        if line is None or line.sock is None:
            line = self._own.line = self._new(patience)
        line.sock.settimeout(patience)
        sent = False
        try:
            line.request(method, self._path(path, query), content, {"Content-Type": kind} if content else {})
            sent = True
            answer = line.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            away = self._away(line, error)
            if used and not isinstance(error, TimeoutError) and (not sent or method in _AGAIN):
                return self._send(method, path, content, kind, query, patience)  # the engine was restarted meanwhile
            raise away from error
        if (date := answer.getheader("Date")) is not None:
            with suppress(ValueError):
                self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        if line.sock is None:  # the engine does not want to keep it
            self._drop(line)
        return answer.status, dict(answer.getheaders()), body

    def _path(self, path: str, query: Mapping[str, str] | None) -> str:
        return f"{self._prefix}{quote(path)}" + (f"?{urlencode(query)}" if query else "")

    def _new(self, patience: float | None) -> _Line:
        line = _Line(self._docker, self._environ, patience)
        with self._lock:
            self._lines.append(line)
        line.connect()
        return line

    def _drop(self, line: _Line) -> str:
        with self._lock, suppress(ValueError):
            self._lines.remove(line)
        if getattr(self._own, "line", None) is line:
            self._own.line = None
        return line.end()

    def _away(self, line: _Line, error: Exception) -> EngineAway:
        said = self._drop(line)
        if isinstance(error, TimeoutError):
            return EngineAway("the Docker engine does not answer", hint="look at it: docker info")
        why = said.splitlines()[-1] if said else str(error) or type(error).__name__
        return EngineAway(
            f"the Docker engine can't be reached: {why}",
            hint="start it, or correct DOCKER_HOST or the docker context (docker context ls)",
        )


class Stream:
    """An answer that goes on, line by line, until somebody cuts it off or the engine ends it."""

    def __init__(self, line: _Line, answer: http.client.HTTPResponse) -> None:
        self._line, self._answer = line, answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            while text := self._answer.readline():
                yield text
        except (OSError, http.client.HTTPException):  # cut off, or the engine went away
            return

    def cut(self) -> None:
        """From another thread: who waits for the next line stops waiting."""
        self._line.cut()

    def close(self) -> None:
        """End the connection, once nobody reads any more."""
        self._line.end()


class _Line(http.client.HTTPConnection):
    """One connection: HTTP over the standard input and output of ``docker system dial-stdio``.

    The command ends when this side of the connection is closed, so none is left behind by a run that was killed.
    """

    def __init__(self, docker: Sequence[str], environ: Mapping[str, str], patience: float | None) -> None:
        super().__init__("docker", timeout=patience)
        self._argv, self._environ = (*docker, "system", "dial-stdio"), environ
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Start docker. That it could not connect shows only when the first answer does not come."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    self._argv,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    env=dict(self._environ),
                    start_new_session=True,  # Ctrl-C is for the run, which may have to go back over this connection
                )
            except OSError as error:
                ours.close()
                raise EngineAway(
                    f"docker can't be started: {error.strerror}",
                    hint="install the docker command, or put it on the PATH",
                ) from error
        ours.settimeout(self.timeout)
        self.sock = ours

    def cut(self) -> None:
        """Let the connection end under whoever reads from it."""
        if self.sock is not None:
            with suppress(OSError):  # the other side may be gone already
                self.sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> str:
        """Close; returns what docker said."""
        self.cut()
        self.close()
        process, self._process = self._process, None
        if process is None:
            return ""
        try:
            _, said = process.communicate(timeout=2)
        except subprocess.TimeoutExpired:  # ssh on a dead network
            process.kill()
            _, said = process.communicate()
        return said.decode("utf-8", "replace").strip()


def _end_all(lines: list[_Line]) -> None:
    while lines:
        lines.pop().end()


def _read(answer: bytes) -> Any:
    return json.loads(answer) if answer.strip() else None


def _message(answer: bytes) -> str:
    with suppress(ValueError):
        said = json.loads(answer)
        if isinstance(said, dict):
            return str(said.get("message", ""))
    return answer.decode("utf-8", "replace").strip()[:500]
