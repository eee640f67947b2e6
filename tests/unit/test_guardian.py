"""No command outlives the run that started it: real kills, at every moment, of the run and of the guardian itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy_guard.errors import CommandFailed
from deploy_guard.process import run

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a kernel that hands orphans to the guardian")
IGNORING = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
FAMILY = f"""
setsid sh -c 'sleep 60 & setsid sleep 60 & wait' &
(sleep 60 &)
setsid {sys.executable} -c '{IGNORING}' &
touch ready
sleep 60
"""
"""A worker, sessions of their own, an orphan of a double fork, and one that does not listen to SIGTERM."""


class Family:
    """Every process that carries a variable, however it got away from its parents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {**os.environ, "FAMILY": str(folder)}

    def living(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FAMILY") == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # ended just now
                continue
        return found

    def gone(self, seconds: float = 8) -> bool:
        deadline = time.monotonic() + seconds
        while self.living():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def start_run(self, code: str) -> subprocess.Popen[bytes]:
        """A run of its own; it does not carry the variable, its commands do."""
        head = f"import os, sys\nfrom deploy_guard.process import run\nenv = {{**os.environ, 'FAMILY': {str(self.folder)!r}}}\n"
        return subprocess.Popen([sys.executable, "-c", head + code], cwd=self.folder)

    def wait_for(self, name: str) -> None:
        deadline = time.monotonic() + 10
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} did not appear"
            time.sleep(0.01)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path)
    yield made
    for process in made.living():
        process.kill()


@linux
def test_a_run_that_is_killed_takes_its_command_with_all_descendants_along(family: Family) -> None:
    process = family.start_run(f"run(['sh', '-c', {FAMILY!r}], env=env)")
    family.wait_for("ready")
    assert len(family.living()) >= 6
    process.kill()
    process.wait()
    assert family.gone()


@pytest.mark.parametrize("milliseconds", [0, 2, 5, 10, 15, 20, 30, 50])
def test_a_run_that_is_killed_while_it_starts_a_command_leaves_none(family: Family, milliseconds: int) -> None:
    code = "open('here', 'w').close()\nrun(['sleep', '60'], env=env)"
    process = family.start_run(code)
    family.wait_for("here")
    time.sleep(milliseconds / 1000)
    process.kill()
    process.wait()
    time.sleep(0.1)  # what was on its way may begin
    assert family.gone()


@linux
def test_a_copy_of_the_pipe_in_a_forked_process_keeps_nothing_alive(family: Family) -> None:
    # A gate that runs in a forked child holds whatever the run had open.
    code = """
import threading, time
threading.Thread(target=lambda: run(['sh', '-c', 'touch ready; sleep 60'], env=env), daemon=True).start()
while not os.path.exists('ready'):
    time.sleep(0.01)
if os.fork() == 0:
    open('pid', 'w').write(str(os.getpid()))
    time.sleep(20)
    os._exit(0)
time.sleep(60)
"""
    process = family.start_run(code)
    family.wait_for("pid")
    process.kill()
    process.wait()
    assert family.gone()
    holder = int((family.folder / "pid").read_text())
    assert psutil.pid_exists(holder), "the copy of the pipe was open all the time"
    os.kill(holder, signal.SIGKILL)


@linux
def test_a_guardian_that_is_killed_takes_the_command_along(family: Family) -> None:
    with pytest.raises(CommandFailed, match="its guardian process was ended by somebody"):
        run(["sh", "-c", "kill -9 $PPID; sleep 60"], env=family.environ)
    # sleep was started by the shell; only the command itself can be bound to the guardian, so end it here
    left = [process for process in family.living() if process.name() != "sleep"]
    assert not left


@linux
def test_background_processes_end_with_the_command_whatever_session_they_moved_to(family: Family) -> None:
    started = time.monotonic()
    result = run(["sh", "-c", FAMILY.replace("sleep 60\n", "exit 3\n")], env=family.environ, cwd=family.folder)
    assert result.rc == 3
    assert not family.living()
    assert time.monotonic() - started < 5


def test_a_deadline_ends_sessions_that_ignore_the_request(family: Family) -> None:
    with pytest.raises(CommandFailed, match=r"ran longer than 0\.5 s"):
        run(["sh", "-c", FAMILY], env=family.environ, cwd=family.folder, timeout=0.5)
    assert not family.living()


def test_a_polite_command_is_not_killed_before_it_has_tidied_up(tmp_path: Path) -> None:
    script = "trap 'sleep 0.5; echo tidied > tidy; exit' TERM; sleep 60 & wait"
    with pytest.raises(CommandFailed):
        run(["sh", "-c", script], timeout=0.3, cwd=tmp_path)
    assert (tmp_path / "tidy").exists()


def test_what_may_live_on_is_ended_all_the_same_when_the_run_dies(family: Family) -> None:
    process = family.start_run("run(['sh', '-c', 'sleep 60 & touch ready; wait'], env=env, detach=True)")
    family.wait_for("ready")
    process.kill()
    process.wait()
    assert family.gone()


@linux
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("os.listdir('/proc/self/fd').__len__()", "4"),  # 0, 1, 2 and the listing itself
        ("[l.split()[1] for l in open('/proc/self/status') if l.startswith('SigBlk')][0].strip('0')", ""),
        ("os.getpgid(0) == os.getpid() and os.getsid(0) == os.getppid()", "True"),
    ],
    ids=["no open files", "no blocked signals", "a group in the guardian's session"],
)
def test_a_command_inherits(what: str, expected: str) -> None:
    assert run([sys.executable, "-c", f"import os; print({what})"]).check().stdout.strip() == expected


@linux
def test_a_command_can_be_interrupted_as_if_nobody_had_touched_its_signals() -> None:
    ignored = run(["sh", "-c", "grep SigIgn /proc/self/status"]).check().stdout.split()[1]
    # Signals 32 and above belong to the C library, and are inherited as they come.
    assert int(ignored, 16) & (2**31 - 1) == 0


def test_the_end_of_a_background_process_does_not_disturb_the_command() -> None:
    result = run(["sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.0$i &) ; done; sleep 0.3; echo done"])
    assert (result.rc, result.stdout) == (0, "done\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_ends_the_wait_ends_the_command(family: Family, error: type[BaseException]) -> None:
    def fail(_line: str) -> None:
        raise error

    act: Callable[[], object] = lambda: run(["sh", "-c", "echo x; sleep 60"], env=family.environ, on_line=fail)  # noqa: E731
    with pytest.raises(error):
        act()
    assert not family.living()
