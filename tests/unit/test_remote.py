"""The controller's watch over the gates of xdist's workers."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy_guard.flow.model import Phase, Severity
from deploy_guard.session.gates import SPEC, GateSpec
from deploy_guard.session.remote import SLACK, RemoteWatch, tell_limits
from deploy_guard.session.run import Board


def item(node_id: str, timeout: float, *, usual: bool) -> Any:
    stash = pytest.Stash()
    stash[SPEC] = GateSpec(Severity.CRITICAL, Phase.GATE, True, timeout, usual)
    return SimpleNamespace(nodeid=node_id, stash=stash)


def test_a_gate_of_a_worker_may_take_as_long_as_its_own_mark_says(tmp_path: Path) -> None:
    run: Any = SimpleNamespace(folder=tmp_path, board=Board(), config=SimpleNamespace(gate_timeout=60.0))
    tell_limits(tmp_path, [item("g.py::slow", 900.0, usual=False), item("g.py::quick", 60.0, usual=True)])
    watch = RemoteWatch(run)
    now = time.monotonic()
    watch.pytest_runtest_logstart("g.py::slow@db")
    assert run.board.current == ("g.py::slow@db", pytest.approx(now + 900.0 + SLACK, abs=5))
    watch.pytest_runtest_logstart("g.py::quick")
    assert run.board.current == ("g.py::quick", pytest.approx(now + 60.0 + SLACK, abs=5)), "the one that is due first"
    watch.pytest_runtest_logfinish("g.py::quick")
    assert run.board.current[0] == "g.py::slow@db"
    watch.pytest_runtest_logfinish("g.py::slow@db")
    assert run.board.current == ("", 0.0)


def test_without_limits_of_their_own_nothing_is_written(tmp_path: Path) -> None:
    tell_limits(tmp_path, [item("g.py::quick", 60.0, usual=True)])
    assert list(tmp_path.iterdir()) == []
