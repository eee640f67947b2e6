from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy_guard import CommandFailed
from deploy_guard.process import run


def gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_output_code_and_lines_are_captured() -> None:
    lines: list[str] = []
    result = run(["sh", "-c", "echo one; echo two >&2; cat; exit 3"], input="three\n", on_line=lines.append)
    assert (result.rc, result.stdout, result.stderr) == (3, "one\nthree\n", "two\n")
    assert sorted(lines) == ["one", "three", "two"]
    assert not result.ok
    with pytest.raises(CommandFailed, match=r"ended with exit code 3:\n  two"):
        result.check()


def test_what_the_watcher_raises_ends_the_command_first(tmp_path: Path) -> None:
    calls = []

    def watch() -> None:
        calls.append(time.monotonic())
        if (tmp_path / "pid").exists() and len(calls) > 3:
            raise ValueError("known from elsewhere")

    with pytest.raises(ValueError, match="known from elsewhere"):
        run(["sh", "-c", 'echo $$ >"$0"; exec sleep 60', tmp_path / "pid"], watch=watch)
    assert gone(int((tmp_path / "pid").read_text()))
    assert run(["true"], watch=lambda: None).ok


def test_a_command_that_was_killed_is_named_by_its_signal() -> None:
    result = run(["sh", "-c", "kill -9 $$"])
    assert result.rc == -9
    with pytest.raises(CommandFailed, match="was ended by SIGKILL"):
        result.check()


def test_a_command_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(CommandFailed, match="nonesuch-program can't be started: No such file") as error:
        run(["nonesuch-program"])
    assert "PATH" in error.value.hint


def test_a_command_that_ends_with_127_is_not_taken_for_a_missing_one() -> None:
    assert run(["sh", "-c", "exit 127"]).rc == 127


def test_a_file_that_is_not_executable_is_told(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("")
    with pytest.raises(CommandFailed, match="Permission denied"):
        run([tmp_path / "tool"])


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"the folder .* does not exist"):
        run(["true"], cwd=tmp_path / "nonesuch")


def test_a_string_is_refused_because_there_is_no_shell() -> None:
    with pytest.raises(TypeError, match=r"write \['echo', 'hi'\]"):
        run("echo hi")
    with pytest.raises(TypeError, match="at least the name"):
        run([])


def test_a_command_past_its_deadline_is_ended_with_its_whole_family(tmp_path: Path) -> None:
    script = "echo waiting; trap '' TERM; sleep 60 & echo $! > a; setsid sleep 60 & echo $! > b; wait"
    started = time.monotonic()
    with pytest.raises(CommandFailed, match=r"ran longer than 0\.5 s and was ended:\n  waiting"):
        run(["sh", "-c", script], timeout=0.5, cwd=tmp_path)
    assert time.monotonic() - started < 5
    assert gone(int((tmp_path / "a").read_text()))
    assert gone(int((tmp_path / "b").read_text()))


def test_what_a_command_leaves_behind_is_ended_unless_it_may_live_on(tmp_path: Path) -> None:
    run(["sh", "-c", "sleep 60 & echo $! > pid"], cwd=tmp_path)
    assert gone(int((tmp_path / "pid").read_text()))
    run(["sh", "-c", "sleep 60 & echo $! > pid"], cwd=tmp_path, detach=True)
    pid = int((tmp_path / "pid").read_text())
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_command_outlives_the_run_that_started_it(tmp_path: Path, number: signal.Signals) -> None:
    script = "sleep 60 & echo $! > a; setsid sleep 60 & echo $! > b; touch ready; wait"
    code = f"from deploy_guard.process import run; run(['sh', '-c', {script!r}])"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    while not (tmp_path / "ready").exists():
        time.sleep(0.02)
    process.send_signal(number)
    process.wait(5)
    assert gone(int((tmp_path / "a").read_text()))
    assert gone(int((tmp_path / "b").read_text()))


def test_an_interruption_ends_the_command_and_goes_on() -> None:
    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", "echo x; sleep 60"], on_line=interrupt)
    assert time.monotonic() - started < 5


def test_much_output_is_cut_in_the_middle_and_says_so() -> None:
    result = run([sys.executable, "-c", "print('a' * 3_000_000); print('the end')"])
    assert len(result.stdout) < 1_700_000
    assert "bytes left out" in result.stdout
    assert result.stdout.endswith("the end\n")


def test_invalid_utf_8_is_shown_as_far_as_it_goes() -> None:
    assert run(["printf", "\\377ok"]).stdout == "\ufffdok"


def test_a_guardian_that_somebody_ended_is_told() -> None:
    with pytest.raises(CommandFailed, match="guardian"):
        run(["sh", "-c", "kill -9 $PPID; sleep 5"])


def test_a_command_that_serves_the_run_is_ended_when_it_is_told_to() -> None:
    reading, writing = os.pipe()
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        os.write(writing, b"x")

    try:
        started = time.monotonic()
        result = run(["sh", "-c", "echo $$; sleep 60"], on_line=tell, until=reading)
        assert result.rc == -signal.SIGTERM
        assert time.monotonic() - started < 5
        assert gone(int(told[0]))
    finally:
        os.close(reading)
        os.close(writing)


def test_a_command_that_ends_before_it_is_told_to_is_not_waited_for() -> None:
    reading, writing = os.pipe()
    try:
        started = time.monotonic()
        assert run(["sh", "-c", "exit 3"], until=reading).rc == 3
        assert time.monotonic() - started < 1
    finally:
        os.close(reading)
        os.close(writing)
