"""List and watch collections, a thread for each, and tell of everything in one queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType

from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.errors import DeployGuardError

_TURN = "20"
"""Seconds after which the server ends a watch, and the next one goes on from there: so threads end in bounded time."""
_PAUSE = 0.5
"""Seconds before a collection is listed again after an error, and between watches that end at once."""
_REFUSED = 2.0
"""Seconds before what was refused is asked for again: right after its start, an API server refuses everybody."""


@dataclass(frozen=True)
class Listed:
    """A whole collection."""

    path: str
    items: tuple[Object, ...]


@dataclass(frozen=True)
class Changed:
    """One event of a watch: ``ADDED``, ``MODIFIED`` or ``DELETED``."""

    path: str
    change: str
    body: Object


@dataclass(frozen=True)
class Alive:
    """A watch was begun, or went on: the API server is there."""

    path: str


@dataclass(frozen=True)
class Broken:
    """A list or a watch failed; it is tried again until the end."""

    path: str
    error: DeployGuardError


Told = Listed | Changed | Alive | Broken


class Watching:
    """Watches collections while it is entered.

    :param paths: the collections, each with the query that narrows it.
    """

    def __init__(self, api: Api, paths: Mapping[str, Mapping[str, str]]) -> None:
        self._api = api
        self._paths = paths
        self._inbox: SimpleQueue[Told] = SimpleQueue()
        self._over = threading.Event()

    def __enter__(self) -> Watching:
        for path, query in self._paths.items():
            # Nobody waits for their end: a watch that never says anything must not keep anybody.
            name = f"watch {path}"
            threading.Thread(target=self._follow, args=(path, dict(query)), name=name, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def news(self, patience: float) -> Iterable[Told]:
        """Return what was told since the last call; waits ``patience`` seconds for something."""
        found: list[Told] = []
        try:
            found.append(self._inbox.get(timeout=max(0.0, patience)))
            while True:
                found.append(self._inbox.get_nowait())
        except Empty:
            return found

    def _follow(self, path: str, query: dict[str, str]) -> None:
        """List and watch until it is over."""
        while not self._over.is_set():
            try:
                items, version = self._api.items(path, query=query)
                self._inbox.put(Listed(path, tuple(items)))
                self._watch(path, query, version)
            except ApiError as error:
                if error.status == 410:
                    continue  # too much happened meanwhile
                self._inbox.put(Broken(path, error))
                self._over.wait(_REFUSED if error.status in (401, 403, 404) else _PAUSE)
            except DeployGuardError as error:
                self._inbox.put(Broken(path, error))
                self._over.wait(_PAUSE)

    def _watch(self, path: str, query: dict[str, str], version: str) -> None:
        """Watch from a version on, one watch after the other, until it is over; raises what ends it."""
        more = {**query, "timeoutSeconds": _TURN, "allowWatchBookmarks": "true"}
        while not self._over.is_set():
            begun, quiet = time.monotonic(), True
            for event in self._api.watch(path, version, query=more):
                if self._over.is_set():
                    return
                quiet = False
                body = event.get("object") or {}
                version = str((body.get("metadata") or {}).get("resourceVersion") or version)
                if event.get("type") == "ERROR":
                    raise ApiError(int(body.get("code") or 500), str(body.get("reason")), str(body.get("message")))
                if event.get("type") != "BOOKMARK":
                    self._inbox.put(Changed(path, str(event.get("type")), body))
            self._inbox.put(Alive(path))
            if quiet and time.monotonic() - begun < 1.0:
                self._over.wait(_PAUSE)
