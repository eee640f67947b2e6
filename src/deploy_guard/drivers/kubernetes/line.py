"""The line to the API server: kubectl's proxy, the connections to it, and a new proxy when one died."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes.api import Unreachable
from deploy_guard.drivers.kubernetes.proxy import Proxy
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.drivers.unixhttp import Lost, Pool
from deploy_guard.errors import CommandFailed

_STARTING = 10.0
"""Seconds for kubectl to listen; it does without asking the API server."""
_LAST = 5.0
"""Seconds for answers that are still awaited when the work that they belong to is ended."""


@dataclass(frozen=True)
class Strand:
    """One proxy and the connections to it; ``number`` counts proxies."""

    number: int
    proxy: Proxy
    pool: Pool


class Line:
    """Shared by all threads of a connection, and alive as long as it is not closed.

    :param say: gets a line for people when a proxy is replaced.
    """

    def __init__(self, target: Target, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._target = target
        self._environ = environ
        self._say = say
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._strand: Strand | None = None
        self._closed = threading.Event()
        self._mine = threading.local()

    def open(self, deadline: Deadline) -> None:
        """Start the first proxy.

        :raises CommandFailed: with kubectl's words.
        """
        with self._lock:
            self._strand = self._start(0, deadline)

    def strand(self) -> Strand:
        """What to ask now.

        :raises Unreachable: when it is closed.
        """
        with self._lock:  # while another thread starts a proxy, this waits for it
            if self._strand is None:
                raise Unreachable("the connection to the API server is closed")
            return self._strand

    def died(self, strand: Strand, patience: float) -> str:
        """Return how the proxy ended; empty when it lives. One that is frozen is ended."""
        if strand.proxy.frozen():
            strand.proxy.kill()
            return "kubectl proxy was stopped (SIGSTOP) and did not go on, so it was ended"
        return strand.proxy.wait_for_end(patience)

    def renew(self, strand: Strand, why: str) -> None:
        """Start a proxy in the place of one that died; when another thread did that already, there is nothing to do.

        :raises Unreachable: when it can't be started.
        """
        with self._lock:
            if self._strand is not strand:
                return
            strand.pool.close()
            strand.proxy.stop()
            try:
                self._strand = self._start(strand.number + 1, Deadline.after(_STARTING))
            except CommandFailed as error:
                raise Unreachable(f"{why}; it can't be started again: {error.what}", hint=error.hint) from error
        self._say(f"{why}; it was started again")

    def said(self) -> str:
        """Return kubectl's last words, ready to stand at the end of a message."""
        strand = self._strand
        return strand.proxy.said() if strand is not None else ""

    @contextmanager
    def ending(self, event: Ending) -> Iterator[None]:
        """What this thread asks belongs to work that ends with that event."""
        self._mine.ending = event
        try:
            yield
        finally:
            self._mine.ending = None

    @property
    def inside(self) -> bool:
        """True when this thread works for somebody: see :meth:`ending`."""
        return getattr(self._mine, "ending", None) is not None

    def sleep(self, seconds: float) -> None:
        """Sleep between two tries.

        :raises Unreachable: when there is nobody to try it for any longer.
        """
        ending: Ending | None = getattr(self._mine, "ending", None)
        if (ending.event if ending else self._closed).wait(seconds):
            why = "what it belongs to was ended" if ending else "the connection was closed"
            raise Unreachable(f"a request was not tried again, because {why}")

    def close(self) -> None:
        """End kubectl; requests that still wait get an error. In a process that was forked, nothing."""
        if os.getpid() != self._owner:
            return
        self._closed.set()
        with self._lock:
            strand, self._strand = self._strand, None
        if strand is not None:
            strand.pool.close()
            strand.proxy.stop()
        self._target.remove_kubeconfig()

    def _start(self, number: int, deadline: Deadline) -> Strand:
        proxy = Proxy(self._target, self._environ)
        proxy.start(deadline)
        return Strand(number, proxy, Pool(proxy.socket, lambda: self._look(proxy)))

    def _look(self, proxy: Proxy) -> None:
        """Called now and then by each thread that waits for an answer."""
        ending: Ending | None = getattr(self._mine, "ending", None)
        if self._closed.is_set():
            raise Lost("the connection was closed")
        if ending is not None and ending.since > _LAST:
            raise Lost("what it belongs to was ended")
        if proxy.frozen():
            raise Lost("kubectl proxy was stopped (SIGSTOP) and did not go on")


class Ending:
    """Whether work that several threads share was ended, and for how long."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._at = 0.0

    def set(self) -> None:
        """End it."""
        self._at = time.monotonic()
        self.event.set()

    @property
    def since(self) -> float:
        """Seconds since then; 0 while it goes on."""
        return time.monotonic() - self._at if self.event.is_set() else 0.0
