"""The guardian in a fork of the test process, where its lines are counted; test_process.py runs it as it is run."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy_guard import _guardian


class Guarded:
    def __init__(self, folder: Path, *command: str, detach: bool = False) -> None:
        control, self.control = os.pipe()
        self.status, status = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.setsid()
            os.close(self.control)
            os.close(self.status)
            _guardian.main([str(control), str(status), str(int(detach)), *command])
        os.close(control)
        os.close(status)

    def ended(self) -> tuple[int, str]:
        said = b""
        while chunk := os.read(self.status, 512):
            said += chunk
        _, code = os.waitpid(self.pid, 0)
        os.close(self.status)
        return os.waitstatus_to_exitcode(code), said.decode()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def until(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_says_how_the_command_ended(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, "sh", "-c", "exit 3")
    assert guarded.ended() == (0, f"wait {3 << 8}\n")
    os.close(guarded.control)


def test_it_says_why_a_command_could_not_be_started(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, "nonesuch-program")
    code, said = guarded.ended()
    assert code == 0
    assert said.startswith("exec 2\n")
    os.close(guarded.control)


def test_when_the_run_is_gone_it_ends_the_command_and_all_it_started(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo $! > a; setsid sleep 60 & echo $! > b; touch ready; wait; wait; sleep 60"
    guarded = Guarded(tmp_path, "sh", "-c", script)
    until(tmp_path / "ready")
    os.close(guarded.control)
    assert guarded.ended() == (1, "")
    assert not alive(int((tmp_path / "a").read_text()))
    assert not alive(int((tmp_path / "b").read_text()))


@pytest.mark.parametrize("detach", [False, True])
def test_what_the_command_leaves_behind_is_ended_unless_detached(tmp_path: Path, detach: bool) -> None:
    guarded = Guarded(tmp_path, "sh", "-c", "setsid sleep 60 & echo $! > a", detach=detach)
    until(tmp_path / "a")
    guarded.ended()
    pid = int((tmp_path / "a").read_text())
    assert alive(pid) == detach
    if detach:
        os.kill(pid, signal.SIGKILL)
    os.close(guarded.control)


def test_without_proc_only_the_group_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_path: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr("deploy_guard._guardian.os.listdir", gone)
    assert _guardian._children() == []
    _guardian._signal(2**22 - 1, signal.SIGTERM)
    _guardian._signal_group(2**22 - 1, signal.SIGTERM)
    monkeypatch.setattr(sys, "platform", "darwin")
    _guardian._adopt_orphans()
