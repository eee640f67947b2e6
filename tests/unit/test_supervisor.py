"""What the parent decides without starting anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deploy_guard.session import request, spool
from deploy_guard.session.aftermath import quiet_options
from deploy_guard.session.run import Board, Stage


def config(**options: Any) -> Any:
    names = (
        "no_deploy",
        "deploy_plan",
        "deploy_back",
        "deploy_tag",
        "deploy_standard",
        "deploy_waive",
        "deploy_reason",
    )
    known = SimpleNamespace(**{**dict.fromkeys(names), **options})
    return SimpleNamespace(known_args_namespace=known, pluginmanager=SimpleNamespace(has_plugin=lambda _name: True))


def test_windows_can_only_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy_guard.session.request.sys.platform", "win32")
    with pytest.raises(pytest.UsageError, match="--no-deploy only"):
        request.refuse(config())
    request.refuse(config(no_deploy=True))


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(pytest.UsageError, match="exclude each other"):
        request.refuse(config(no_deploy=True, deploy_plan=True))
    for other in ("no_deploy", "deploy_plan"):
        with pytest.raises(pytest.UsageError, match="--deploy-tag tags what was rolled out"):
            request.refuse(config(deploy_tag=True, **{other: True}))


def test_a_board_keeps_what_each_side_writes() -> None:
    board = Board()
    assert board.current == ("", 0.0)
    board.running("gates/test_ü.py::test_x", 12.5)
    board.stage = Stage.APPLYING
    board.escape()
    assert board.current == ("gates/test_ü.py::test_x", 12.5)
    assert (board.stage, board.escaped) == (Stage.APPLYING, True)
    board.running("x" * 100_000, 1.0)
    assert len(board.current[0]) == 8192
    board.idle()
    board.done(2)
    assert (board.current, board.stage, board.code, board.escaped) == (("", 0.0), Stage.DONE, 2, True)


def test_a_spool_gives_back_whole_entries_only() -> None:
    import os

    handle = spool.create()
    spool.write(handle, {"n": "a"})
    spool.write(handle, {"n": "b", "text": "\ud800"})
    os.write(handle, b'{"n": "cut')
    assert [entry["n"] for entry in spool.read(handle)] == ["a", "b"]
    os.close(handle)


def test_a_second_session_has_no_workers() -> None:
    assert quiet_options(["-n4", "gates"]) == ["-n0", "--dist=no"]
    assert quiet_options(["gates"]) == []
