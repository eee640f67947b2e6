"""What xdist's controller knows of the gates that its workers run."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from deploy_guard.session.remote import SLACK, Remote
from deploy_guard.session.run import Board


def test_a_gate_of_a_worker_may_take_as_long_as_its_own_mark_says() -> None:
    limits = {"g.py::slow": 900.0, "g.py::quick": 60.0}
    board = Board()

    def watched() -> tuple[str, float]:
        node_id, until = board.current
        return node_id, round((until - now) / 10) * 10.0 if until else 0.0

    controller: Any = SimpleNamespace(
        run=SimpleNamespace(board=board), results=SimpleNamespace(timeout=limits.get), runs_an_item=False
    )
    watch = Remote(controller)
    now = time.monotonic()
    watch.pytest_runtest_logstart("g.py::slow")
    assert watched() == ("g.py::slow", 900.0 + SLACK)
    watch.pytest_runtest_logstart("g.py::quick")
    assert watched() == ("g.py::quick", 60.0 + SLACK), "the one that is due first"
    watch.pytest_runtest_logfinish("g.py::quick")
    assert watched()[0] == "g.py::slow"
    watch.pytest_runtest_logfinish("g.py::slow")
    assert watched() == ("", 0.0)
    controller.runs_an_item = True
    watch.pytest_runtest_logstart("g.py::slow")
    assert watched() == ("", 0.0), "what runs here has its own limit, a step none at all"
