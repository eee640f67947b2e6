"""Waits for containers to become well, told by the engine's events, and says why they don't."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.compose.doom import Finding, Judge, Look
from deploy_guard.drivers.compose.engine import Engine, EngineAway, EngineError, Stream
from deploy_guard.drivers.compose.state import PROJECT, Container, in_order
from deploy_guard.redact import Redactor

_TICK = 1.0
"""Seconds between two looks when the engine tells of nothing."""
_LEAST = 0.1
"""Seconds between two looks, however much it tells."""
_AGAIN = 0.5
"""Seconds until an engine that is away is asked again."""
_LOG_LINES = 25
_QUOTED = 3
"""Containers whose log is quoted; the others are named."""


def containers_of(engine: Engine, project: str) -> list[Container]:
    """Return the containers of a project, those that don't run included."""
    query = {"all": "1", "filters": json.dumps({"label": [f"{PROJECT}={project}"]})}
    listed = engine.get("/containers/json", query=query)
    # One after the other: another connection costs more than a handful of answers over this one.
    found = [engine.found(f"/containers/{one['Id']}/json") for one in listed]
    return in_order(Container(raw) for raw in found if raw is not None)  # one may have gone meanwhile


class Events:
    """Says that something happened to a project's containers; opened with ``with``."""

    def __init__(self, engine: Engine, project: str) -> None:
        self._engine = engine
        self._filters = json.dumps({"type": ["container"], "label": [f"{PROJECT}={project}"]})
        self._happened = threading.Event()
        self._stream: Stream | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="docker-events", daemon=True)

    def __enter__(self) -> Events:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._happened.set()
        if self._stream is not None:
            self._stream.cut()
        self._thread.join(timeout=5)

    def wait(self, seconds: float) -> None:
        """Return when something happened since the last call, or after these seconds."""
        self._happened.wait(seconds)
        self._happened.clear()

    def wake(self) -> None:
        """Let who waits look again."""
        self._happened.set()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._stream = self._engine.stream("/events", query={"filters": self._filters})
            except EngineAway:
                self._closed.wait(_AGAIN)
                continue
            if self._closed.is_set():
                self._stream.cut()
            for line in self._stream:
                # A healthcheck is an exec, and each of them is three events that say nothing.
                if b'"exec_' not in line:
                    self._happened.set()
            self._stream.close()
            self._happened.set()


@dataclass
class Watcher:
    """Looks at a project through a judge.

    :param but: ids of containers that are about to be replaced.
    :param progress: shows what is waited for.
    """

    engine: Engine
    project: str
    judge: Judge
    redactor: Redactor
    progress: Callable[[str], None]
    but: Collection[str] = field(default=())
    last: Look | None = None

    def look(self, *, complete: bool) -> Look:
        """Look once; raises ``EngineAway`` or ``EngineError``."""
        found = containers_of(self.engine, self.project)
        look = self.judge.look(found, time.monotonic(), self.engine.now, complete=complete, but=self.but)
        if self.last is None or look.waiting != self.last.waiting:
            self.progress(self.waited_for(look) or "all containers are well")
        self.last = look
        return look

    def follow(self, events: Events, deadline: Deadline, *, patient: bool = False) -> Look:
        """Wait until everything is well, something is doomed, or the deadline has passed; returns the last look.

        :param patient: doomed is waited for as well, as on the way back.
        :raises EngineAway: when the engine is away at the deadline.
        """
        while True:
            try:
                look = self.look(complete=True)
                if look.healthy or (look.doomed and not patient) or deadline.expired:
                    return look
            except (EngineAway, EngineError):
                if deadline.expired:
                    raise
                time.sleep(min(_AGAIN, deadline.remaining))
                continue
            time.sleep(min(_LEAST, deadline.remaining))
            events.wait(min(_TICK, deadline.remaining))

    def waited_for(self, look: Look | None) -> str:
        """Say what is not well yet, without secrets."""
        return self.redactor.redact("; ".join(look.waiting)) if look is not None else ""

    def told(self, findings: Sequence[Finding]) -> str:
        """Say what is wrong, with the last words of the first containers."""
        texts = []
        for number, finding in enumerate(findings):
            if finding.container is None:
                texts.append(finding.text)
                continue
            words = self.last_words(finding.container) if number < _QUOTED else ""
            texts.append(f"{finding.container.shown} {self.redactor.redact(finding.text)}{words}")
        return "\n".join(texts)

    def last_words(self, container: Container) -> str:
        """Return the end of a container's log, without secrets."""
        query = {"stdout": "1", "stderr": "1", "tail": str(_LOG_LINES)}
        try:
            raw = self.engine.content(f"/containers/{container.id}/logs", query=query)
        except (EngineAway, EngineError) as error:
            return f"; its log can't be read: {error.what}"
        text = self.redactor.redact(log_text(raw, terminal=bool(container.raw["Config"].get("Tty"))))
        lines = text.splitlines()[-_LOG_LINES:]
        return "; its last log lines:\n" + "\n".join(f"  {line}" for line in lines) if lines else "; its log is empty"


class Lookout:
    """Looks, in a thread of its own, while ``up`` still runs; used with ``with``.

    The engine answers late about a container that it is just starting: nobody else is to wait for that.
    """

    def __init__(self, watcher: Watcher, events: Events) -> None:
        self.doomed: Look | None = None
        self._watcher, self._events = watcher, events
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="docker-lookout", daemon=True)

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._events.wake()
        self._thread.join(timeout=5)

    def _look(self) -> None:
        while not self._closed.wait(_LEAST):
            try:
                look = self._watcher.look(complete=False)
            except (EngineAway, EngineError):  # Compose meets it too, and ends
                self._closed.wait(_AGAIN)
                continue
            if look.doomed:
                self.doomed = look
                return
            self._events.wait(_TICK)


def log_text(raw: bytes, *, terminal: bool) -> str:
    """Return a log as text: without a terminal, the engine sends it in frames of eight bytes and a content each."""
    if terminal:
        return raw.decode("utf-8", "replace").replace("\r\n", "\n")
    content = bytearray()
    at = 0
    while at + 8 <= len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        content += raw[at + 8 : at + 8 + size]
        at += 8 + size
    return content.decode("utf-8", "replace")
