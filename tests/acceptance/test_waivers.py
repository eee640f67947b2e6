"""Break glass: a gate that a person answers for."""

from __future__ import annotations

import pytest
from conftest import Project

GATES = """
import os, pytest
from deploy_guard import gate, post_check

@gate("critical")
def test_vendor(): assert "VENDOR" in os.environ, "the vendor is down"

@gate("critical")
def test_other(): assert "OTHER" in os.environ, "the other is down"

@gate("recoverable", blocking=True)
def test_blocks(): pass

@post_check("critical")
def test_serves(): assert "BROKEN" not in os.environ

@gate("critical")
def test_dies(): "DIES" in os.environ and os._exit(0)
"""
VENDOR = "gates/test_w.py::test_vendor"
OTHER = "gates/test_w.py::test_other"


@pytest.fixture
def waiving(project: Project) -> Project:
    project.write("gates/test_w.py", GATES)
    project.env |= {"OTHER": "1", "BUILD_URL": "https://ci.invalid/job/7", "BUILD_USER_ID": "jane"}
    return project


def waive(*ids: str, why: str = "ticket 7: status page says up") -> list[str]:
    return [f"--deploy-waive={node_id}" for node_id in ids] + [f"--deploy-reason={why}"]


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["in process", "on workers"])
def test_a_waived_gate_runs_lets_the_release_pass_and_stands_in_every_record(
    waiving: Project, more: tuple[str, ...]
) -> None:
    assert waiving.run("gates").code == 2
    assert not waiving.applied
    result = waiving.run("gates", *waive(VENDOR), *more)
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert result.gate("test_vendor")["outcome"] == "waived"
    assert result.gate("test_vendor")["waiver"] == {"by": "jane", "reason": "ticket 7: status page says up"}
    for text in ("waived by jane: ticket 7: status page says up", "the vendor is down"):
        for shown in (
            result.out,
            (result.folder / "junit.xml").read_text(),
            (result.folder / "gate-report.html").read_text(),
            result.verdict["reasons"][0]["text"],
        ):
            assert text in shown
    event = next(event for event in result.events if event["event"] == "waived")
    assert (event["id"], event["by"], event["reason"]) == (VENDOR, "jane", "ticket 7: status page says up")


def test_several_gates_may_be_waived_for_reasons_of_their_own(waiving: Project) -> None:
    del waiving.env["OTHER"]
    assert waiving.run("gates", *waive(VENDOR)).code == 2, "the other one is not waived"
    result = waiving.run("gates", *waive(VENDOR), *waive(OTHER, why="ticket 8"))
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert result.gate("test_other")["waiver"]["reason"] == "ticket 8"
    one = waiving.run("gates", *waive(VENDOR, OTHER, why="both"), VERSION="v2.0.0")
    assert one.gate("test_other")["waiver"]["reason"] == "both"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (waive("gates/test_w.py::test_vendro"), "did you mean gates/test_w.py::test_vendor"),
        ([f"--deploy-waive={VENDOR}"], "needs a reason"),
        (waive(VENDOR, why=" "), "needs a reason"),
        (["--deploy-reason=x"], "name the gate"),
        ([*waive(VENDOR, OTHER, "x"), "--deploy-reason=second"], "3 gates are waived for 2 reasons"),
        (waive("gates/test_w.py::test_blocks"), "a blocking gate can't be waived"),
        (waive("gates/test_w.py::test_serves"), "a post-check can't be waived"),
    ],
)
@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["in process", "on workers"])
def test_what_can_not_be_waived_is_a_usage_error_and_nothing_runs(
    waiving: Project, options: list[str], said: str, more: tuple[str, ...]
) -> None:
    waiving.write("gates/test_a.py", "import pathlib\ndef test_a(): pathlib.Path('ran').touch()\n")
    result = waiving.run("gates", *options, *more, VENDOR="1")
    assert result.code == 4, result.out
    assert said in result.out
    assert not (waiving.root / "ran").exists()
    assert not waiving.applied


def test_a_waiver_that_was_not_needed_is_said(waiving: Project) -> None:
    result = waiving.run("gates", *waive(VENDOR), VENDOR="1")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert result.gate("test_vendor")["outcome"] == "passed"
    assert f"{VENDOR} was waived without need: it is passed" in result.out


def test_a_gate_that_was_not_run_or_died_can_not_be_waived(waiving: Project) -> None:
    result = waiving.run("gates", *waive(VENDOR), f"--deselect={VENDOR}", VENDOR="1")
    assert (result.code, result.outcome) == (1, "withheld"), result.out
    result = waiving.run("gates", *waive("gates/test_w.py::test_dies"), VENDOR="1", DIES="1")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert not waiving.applied


def test_where_nothing_could_be_collected_a_waiver_changes_nothing(waiving: Project) -> None:
    waiving.write("gates/test_bad.py", "from deploy_guard import gate\n@gate('sever')\ndef test_b(): pass\n")
    result = waiving.run("gates", *waive(VENDOR))
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert "collection-error" in result.codes
    assert "INTERNALERROR" not in result.out
    broken = waiving.run("gates", *waive(VENDOR), "-p", "no:terminal", "--ignore=gates")
    assert broken.code != 0
    assert not waiving.applied
