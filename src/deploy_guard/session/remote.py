"""What the controller knows of the gates that run in xdist's workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from deploy_guard.ledger.files import write_json
from deploy_guard.session.gates import SPEC
from deploy_guard.session.run import Run

LIMITS = ".limits.json"
"""In the reports folder: the time limits that workers read from marks; the controller collects after they are done."""
SLACK = 30.0
"""Seconds that a gate of a worker may take longer before the whole run is ended: a worker ends its own gates first."""


def tell_limits(folder: Path, items: Iterable[pytest.Item]) -> None:
    """In a worker: say which gates have a time limit of their own; each worker says the same."""
    limits = {item.nodeid: spec.timeout for item in items if not (spec := item.stash[SPEC]).usual}
    if limits:
        write_json(folder / LIMITS, limits)


class RemoteWatch:
    """Registered in xdist's controller while gates run: tells the watching process what hangs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._until: dict[str, float] = {}
        self._limits: dict[str, float] | None = None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A worker has started an item."""
        self._until[nodeid] = time.monotonic() + self._limit(nodeid) + SLACK
        self._tell()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """An item has ended."""
        self._until.pop(nodeid, None)
        self._tell()

    def _limit(self, node_id: str) -> float:
        if self._limits is None:
            path = self._run.folder / LIMITS  # workers collect, and so write, before the first item is started
            self._limits = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return self._limits.get(node_id.rsplit("@", 1)[0], self._run.config.gate_timeout)

    def _tell(self) -> None:
        if not self._until:
            self._run.board.idle()
            return
        node_id = min(self._until, key=self._until.__getitem__)
        self._run.board.running(node_id, self._until[node_id])
