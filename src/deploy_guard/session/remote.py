"""xdist's controller of a release session: what must not be left to workers, and the watch over what they run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from deploy_guard.session.controller import Controller

SLACK = 30.0
"""Seconds that a gate of a worker may take longer before the whole run is ended: a worker ends its own gates first."""


class Remote:
    """Registered in xdist's controller only."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._until: dict[str, float] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Collect here as well, while the workers do, and run the blocking gates before anything is distributed."""
        self._controller.collect(session)
        self._controller.refuse_waivers()
        return True if self._controller.run_blocking(session.items) else None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """An item was started, by a worker or here."""
        limit = self._controller.results.timeout(nodeid)
        if limit is not None and not self._controller.runs_an_item:
            self._until[nodeid] = time.monotonic() + limit + SLACK
            self._tell()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """An item has ended."""
        if self._until.pop(nodeid, None) is not None:
            self._tell()

    def _tell(self) -> None:
        board = self._controller.run.board
        if not self._until:
            board.idle()
            return
        node_id = min(self._until, key=self._until.__getitem__)
        board.running(node_id, self._until[node_id])
