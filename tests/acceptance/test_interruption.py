"""Interrupted at any point: nothing ships after it, what was applied goes back, no child goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import Project


def eventually(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


HANGING_GATE = """
import pathlib, time
HERE = pathlib.Path(__file__).resolve().parent.parent
def test_hangs():
    (HERE / "hanging").touch()
    time.sleep(60)
"""
HANGING_CHECK = "from deploy_guard import post_check\n" + HANGING_GATE.replace("def test", "@post_check()\ndef test")


def hanging(project: Project) -> Path:
    return project.root / "hanging"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("place", ["gate", "plan", "apply", "wait", "post-check"])
def test_a_signal_at_any_point_ends_with_the_old_release_serving(
    project: Project, place: str, number: signal.Signals
) -> None:
    assert project.run("gates").code == 0
    if place == "gate":
        project.write("gates/test_hang.py", HANGING_GATE)
    if place == "post-check":
        project.write("gates/test_hang.py", HANGING_CHECK)
    process = project.start("gates", VERSION="v2.0.0", DRIVER_FAULT=f"hang {place}")
    eventually(hanging(project).exists, "it never came there")
    process.send_signal(number)
    eventually(lambda: interrupted_on_disk(project), "the interruption is not on disk", 1.5)
    result = project.ended(process)
    assert result.code == 2, result.out
    assert project.target == "v1.0.0"
    assert result.outcome == ("interrupted" if place in ("gate", "plan") else "rolled-back"), result.out
    assert result.verdict["interrupted"] == number.name
    assert "interrupted" in result.codes
    for name in ("junit.xml", "gate-report.html", "audit.jsonl"):
        assert (result.folder / name).stat().st_size > 0
    assert "INTERRUPTED" in result.out or "ROLLED BACK" in result.out
    if place in ("gate", "plan"):
        assert "apply begins" not in project.steps[3:]


def interrupted_on_disk(project: Project) -> bool:
    try:
        verdict = json.loads((project.root / "reports/stage/verdict.json").read_text())
    except ValueError:
        return False
    return bool(verdict["interrupted"])


def test_a_second_signal_does_not_abandon_the_rollback_and_is_answered(project: Project) -> None:
    project.run("gates")
    project.write("gates/test_hang.py", HANGING_CHECK)
    project.write(
        "gates/sub/conftest.py",
        "import pathlib, time\nfrom deploy_guard import rollback\n@rollback()\ndef slow():\n"
        " pathlib.Path('rolling').touch()\n time.sleep(1.5)\n pathlib.Path('rolled').touch()\n",
    )
    project.write("gates/sub/test_sub.py", "def test_sub(): pass\n")
    process = project.start("gates", VERSION="v2.0.0")
    eventually(hanging(project).exists, "it never came there")
    process.send_signal(signal.SIGTERM)
    eventually((project.root / "rolling").exists, "no rollback")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    result = project.ended(process)
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert (project.root / "rolled").exists()
    assert "the rollback is under way and is finished first" in result.out


def test_a_session_timeout_during_a_post_check_rolls_back(project: Project) -> None:
    project.run("gates")
    project.write(
        "gates/test_slow.py",
        "import time\nfrom deploy_guard import post_check\n@post_check()\ndef test_s(): time.sleep(1.2)\n",
    )
    result = project.run("gates", "--session-timeout=1", VERSION="v2.0.0")
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("os._exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("__import__('ctypes').string_at(0)", "SIGSEGV"),
        ("sys.stdout.close(); os.close(1); os._exit(0)", "exit code 0"),
    ],
)
def test_a_post_check_that_ends_the_process_ends_in_a_rollback(project: Project, body: str, word: str) -> None:
    project.run("gates")
    project.write(
        "gates/test_die.py",
        f"import os, sys\nfrom deploy_guard import post_check\n@post_check()\ndef test_d(): {body}\n",
    )
    result = project.run("gates", VERSION="v2.0.0")
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert result.gate("test_d")["outcome"] == "died"
    assert any(word in reason["text"] for reason in result.verdict["reasons"])
    assert result.gate("test_passes")["outcome"] == "passed", "what was recorded before is not lost"
    assert result.step("apply")["outcome"] == "passed"


@pytest.mark.parametrize("step", ["plan", "snapshot", "apply", "wait"])
def test_a_driver_that_ends_the_process_is_never_green(project: Project, step: str) -> None:
    project.run("gates")
    result = project.run("gates", VERSION="v2.0.0", DRIVER_FAULT=f"die {step}")
    assert (result.code, project.target) == (2, "v1.0.0"), result.out
    assert result.outcome == ("withheld" if step in ("plan", "snapshot") else "rolled-back"), result.out


def test_a_process_that_dies_in_its_rollback_is_followed_by_one_that_finishes_it(project: Project) -> None:
    project.run("gates")
    project.write("gates/test_c.py", "from deploy_guard import post_check\n@post_check()\ndef test_c(): assert 0\n")
    project.write(
        "gates/sub/conftest.py",
        "import os, pathlib\nfrom deploy_guard import rollback\n@rollback()\ndef dies():\n"
        " if not pathlib.Path('once').exists():\n  pathlib.Path('once').touch()\n  os._exit(0)\n",
    )
    project.write("gates/sub/test_sub.py", "def test_sub(): pass\n")
    result = project.run("gates", VERSION="v2.0.0")
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out


def test_a_release_that_was_finished_stays_when_the_process_dies_after_it(project: Project) -> None:
    project.write(
        "gates/test_late.py",
        "import os, pytest\n@pytest.fixture(scope='session')\ndef late():\n yield\n os._exit(0)\ndef test_l(late): pass\n",
    )
    result = project.run("gates")
    assert (result.code, result.outcome, project.target) == (2, "shipped", "v1.0.0"), result.out


def test_a_check_that_hangs_where_no_signal_is_seen_is_ended_from_outside(project: Project) -> None:
    project.run("gates")
    project.write(
        "gates/test_hang.py",
        "import signal, time\nfrom deploy_guard import post_check\n@post_check(timeout=0.5)\ndef test_h():\n"
        " signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(60)\n",
    )
    result = project.run("gates", VERSION="v2.0.0", timeout=30)
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert result.gate("test_h")["outcome"] == "timed-out"


def test_sigkill_leaves_no_process_and_the_next_run_finishes_the_job(project: Project) -> None:
    project.run("gates")
    process = project.start("gates", VERSION="v2.0.0", DRIVER_FAULT="hang wait")
    eventually(hanging(project).exists, "it never came there")
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.communicate()
    eventually(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), "somebody goes on", 5)
    verdict = json.loads((project.root / "reports/stage/verdict.json").read_text())
    assert verdict["outcome"] == "incomplete"
    assert not (project.root / "reports/stage/junit.xml").exists()
    assert project.target == "v2.0.0"
    record = json.loads((project.root / ".deploy-guard/stage.unfinished.json").read_text())
    assert record["snapshot"]["previous"] == "v1.0.0"
    hanging(project).unlink()
    result = project.run("gates", VERSION="v3.0.0")
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v3.0.0"), result.out
    assert result.verdict["recovered"] == record["run"]
    assert result.verdict["previous"] == "v1.0.0"


def test_two_runs_do_not_share_a_reports_folder(project: Project) -> None:
    project.write("gates/test_hang.py", HANGING_GATE)
    process = project.start("gates")
    eventually(hanging(project).exists, "it never came there")
    result = project.run("gates")
    assert result.code == 1
    assert "in use by another run" in result.out
    process.send_signal(signal.SIGTERM)
    assert project.ended(process).code == 2


def test_ctrl_c_in_a_terminal_reaches_every_process_at_once(project: Project) -> None:
    project.write("gates/test_hang.py", HANGING_GATE)
    process = project.start("gates")
    eventually(hanging(project).exists, "it never came there")
    os.killpg(process.pid, signal.SIGINT)
    result = project.ended(process)
    assert (result.code, result.outcome) == (2, "interrupted"), result.out
    assert result.gate("test_hangs")["outcome"] in ("failed", "error")


def test_workers_are_ended_by_a_signal(project: Project) -> None:
    project.write("gates/test_hang.py", HANGING_GATE)
    process = project.start("gates", "-n", "2")
    eventually(hanging(project).exists, "it never came there")
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    result = project.ended(process)
    assert result.code == 2, result.out
    assert not project.applied
    eventually(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), "somebody goes on", 5)


def test_a_rollout_whose_record_was_removed_by_the_check_that_died_is_not_called_withheld(project: Project) -> None:
    project.write(
        "gates/test_p.py",
        "import os, shutil\nfrom deploy_guard import post_check\n@post_check()\ndef test_p():\n"
        "    shutil.rmtree('.deploy-guard')\n    os._exit(0)\n",
    )
    result = project.run("gates")
    assert (result.code, result.outcome) == (2, "rollback-failed"), result.out
    assert "what is needed to go back is not in" in result.out
    assert "look at" in result.verdict["next"]


def test_a_post_check_that_forks_and_returns_twice_is_rolled_back(project: Project) -> None:
    project.write(
        "gates/test_p.py",
        "import os, time\nfrom deploy_guard import post_check\n@post_check()\ndef test_p():\n"
        "    if os.fork() == 0: time.sleep(0.3)\n",  # the copy is slower than the session, as it may be by chance
    )
    result = project.run("gates")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert "escaped-fork" in result.codes
    assert project.target is None


def test_a_run_whose_audit_trail_was_removed_is_not_green(project: Project) -> None:
    project.write("gates/test_r.py", "import shutil\ndef test_r(): shutil.rmtree('reports')\n")
    result = project.run("gates")
    assert result.code == 2, result.out
    assert "record-incomplete" in result.codes
    assert (result.folder / "gate-report.html").is_file()


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["in process", "on a worker"])
def test_a_gate_that_forks_and_returns_twice_withholds_however_slow_its_copy_is(
    project: Project, more: tuple[str, ...]
) -> None:
    project.write("gates/test_z.py", "import os, time\ndef test_z():\n    if os.fork() == 0: time.sleep(0.3)\n")
    result = project.run("gates", *more)
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert not project.applied


def test_children_that_do_their_own_work_do_not_withhold(project: Project) -> None:
    project.write(
        "gates/test_z.py",
        "import os, time, multiprocessing\ndef work(): time.sleep(30)\ndef test_z():\n"
        "    multiprocessing.get_context('fork').Process(target=work, daemon=True).start()\n"
        "    pid = os.fork()\n    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)\n",
    )
    result = project.run("gates")
    assert (result.code, result.outcome) == (0, "shipped"), result.out


THREADS = """
import socket
import threading
from concurrent.futures import ThreadPoolExecutor


def answers_never(place, ends):
    # as a request over a private socket: this end waits for an answer that does not come
    ours, theirs = socket.socketpair()
    ends += [ours, theirs]
    (HERE / "hanging").touch()
    ours.recv(1)
    log(f"{place} went on")  # only after the rollback has begun, and never, if all is well


class Threaded(FileDriver):
    def _work(self, place):
        kind, _, where = os.environ.get("DRIVER_WORK", "").partition(" ")
        if where != place:
            return
        ends = []
        if kind == "socket":
            answers_never(place, ends)
        elif kind == "swallows":
            try:
                answers_never(place, ends)
            except BaseException:
                log("swallowed")
        elif kind == "stuck":
            with ThreadPoolExecutor(4) as pool:  # waits for its threads, whatever happens
                list(pool.map(lambda _: answers_never(place, ends), range(4)))
        else:
            pool, self.ending = ThreadPoolExecutor(4), False
            try:
                for task in [pool.submit(self._request, place, ends) for _ in range(8)]:
                    task.result()
            except BaseException:
                self.ending = True
                pool.shutdown(wait=False, cancel_futures=True)
                for end in ends:
                    end.shutdown(socket.SHUT_RDWR)
                pool.shutdown(wait=True)
                log("threads ended")
                raise

    def _request(self, place, ends):
        ours, theirs = socket.socketpair()
        ends += [ours, theirs]
        (HERE / "hanging").touch()
        assert not self.ending and ours.recv(1), "the connection was closed"
        log(f"{place} went on")

    def apply(self, plan):
        super().apply(plan)
        self._work("apply")

    def wait(self, plan, deadline):
        super().wait(plan, deadline)
        self._work("wait")

    def rollback(self, snapshot, deadline):
        with ThreadPoolExecutor(2) as pool:  # the way back works in threads too, and is not interrupted
            (HERE / "rolling").touch()
            list(pool.map(time.sleep, (0.8, 0.8)))
        super().rollback(snapshot, deadline)


@pytest.fixture(scope="session")
def deploy_driver():
    return Threaded()
"""


@pytest.mark.parametrize(
    ("kind", "place", "number"),
    [
        ("threads", "apply", signal.SIGINT),
        ("threads", "wait", signal.SIGTERM),
        ("socket", "apply", signal.SIGTERM),
        ("socket", "wait", signal.SIGINT),
        ("swallows", "apply", signal.SIGTERM),
    ],
)
def test_a_driver_that_works_in_threads_or_waits_for_an_answer_is_interrupted_and_its_rollback_is_not(
    project: Project, kind: str, place: str, number: signal.Signals
) -> None:
    conftest = project.root / "gates/conftest.py"
    conftest.write_text(conftest.read_text() + THREADS)
    assert project.run("gates").code == 0
    process = project.start("gates", VERSION="v2.0.0", DRIVER_WORK=f"{kind} {place}")
    eventually(hanging(project).exists, "it never came there")
    started = time.monotonic()
    os.killpg(process.pid, number)  # as Ctrl-C in a terminal: every process at once
    eventually((project.root / "rolling").exists, "no rollback", 8)
    assert time.monotonic() - started < 5, "the interruption reached it itself, not after a grace period"
    for _ in range(3):
        os.killpg(process.pid, number)
        time.sleep(0.1)
    result = project.ended(process)
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert result.verdict["interrupted"] == number.name
    assert result.step("rollback")["outcome"] == result.step("verify")["outcome"] == "passed"
    steps = project.steps[project.steps.index("wait") + 1 :]
    assert f"{place} went on" not in steps, "nothing of it goes on beside the rollback"
    if kind == "threads":
        assert steps.index("threads ended") < steps.index("rollback")


def test_a_driver_whose_threads_can_not_be_ended_is_ended_from_outside_and_gone_back_for(project: Project) -> None:
    conftest = project.root / "gates/conftest.py"
    conftest.write_text(conftest.read_text() + THREADS)
    assert project.run("gates").code == 0
    process = project.start("gates", VERSION="v2.0.0", DRIVER_WORK="stuck apply")
    eventually(hanging(project).exists, "it never came there")
    process.send_signal(signal.SIGTERM)
    result = project.ended(process)
    assert (result.code, result.outcome, project.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert any("did not react to SIGTERM" in reason["text"] for reason in result.verdict["reasons"])
