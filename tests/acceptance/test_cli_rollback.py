"""``deploy-guard rollback``: back to what was there before the release that serves, or before an unfinished one."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cli import Command
from conftest import Project

CHECK = """
import os
from deploy_guard import post_check

@post_check("critical")
def test_serves(release):
    assert os.environ.get("CHECK") != "fails"
    assert "GATES" not in os.environ, "no post-check on the way back"
"""
GATE = """
import os

def test_gate():
    assert "GATES" not in os.environ, "no gate on the way back"
"""
ROLLBACK = """
import os
import pathlib
import pytest
from deploy_guard import rollback

LOG = pathlib.Path(__file__).resolve().parent.parent.parent / "driver.log"

@pytest.fixture
def flags_before(release):
    return {"before": release.version}

@rollback(saves=["flags_before"])
def restore_flags(rollout, release, flags_before):
    with LOG.open("a") as file:
        file.write(f"restore_flags {flags_before} {release.version} {rollout.previous}\\n")
    if os.environ.get("DIE") == "fixture" and not pathlib.Path("died").exists():
        pathlib.Path("died").touch()
        os._exit(0)
"""
BACK = {"GATES": "fail", "VERSION": "v9.9.9"}


@pytest.fixture
def shipped(project: Project) -> Project:
    """v1.0.0 and then v1.1.0 were shipped to stage."""
    project.write("gates/test_first.py", GATE)
    project.write("gates/test_checks.py", CHECK)
    for version in ("v1.0.0", "v1.1.0"):
        assert project.run(VERSION=version).code == 0
    return project


def test_it_brings_back_what_was_there_before_and_asks_no_gate(shipped: Project, command: Command) -> None:
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (0, "v1.0.0"), done.err
    verdict = done.verdict("stage")
    assert (verdict["outcome"], verdict["mode"], verdict["version"]) == ("rolled-back", "back", "v1.1.0")
    assert [(step["name"], step["outcome"]) for step in verdict["steps"]] == [
        ("retrieve", "passed"),
        ("rollback", "passed"),
        ("verify", "passed"),
    ]
    assert verdict["gates"] == []
    assert "v1.1.0 left stage; v1.0.0 serves again" in done.out
    assert 'name="retrieve"' in (done.cwd / "reports/stage/junit.xml").read_text()
    assert "left stage" in (done.cwd / "reports/stage/gate-report.html").read_text()


def test_there_is_one_way_back_from_each_release(shipped: Project, command: Command) -> None:
    command("rollback", "--env", "stage", **BACK)
    again = command("rollback", "--env", "stage", **BACK)
    assert (again.code, shipped.target) == (1, "v1.0.0"), again.err
    assert "nothing to go back from" in again.out
    assert again.verdict("stage")["outcome"] == "withheld"
    assert shipped.run(VERSION="v1.2.0").code == 0
    assert command("rollback", "--env", "stage", **BACK).code == 0
    assert shipped.target == "v1.0.0"


def test_a_first_release_is_taken_away(project: Project, command: Command) -> None:
    assert project.run().code == 0
    done = command("rollback", "--env", "stage")
    assert (done.code, project.target) == (0, None), done.err
    assert "nothing is left" in done.out


def test_rollback_fixtures_get_what_was_saved_when_it_was_shipped(project: Project, command: Command) -> None:
    project.write("gates/sub/conftest.py", ROLLBACK)
    project.write("gates/sub/test_sub.py", GATE)
    for version in ("v1.0.0", "v1.1.0"):
        assert project.run(VERSION=version).code == 0
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, project.target) == (0, "v1.0.0"), done.err + done.out
    assert project.steps[-3:] == ["restore_flags {'before': 'v1.1.0'} v1.1.0 v1.0.0", "rollback", "verify"]


def test_where_a_rollback_fixture_is_gone_nothing_is_touched(project: Project, command: Command) -> None:
    project.write("gates/sub/conftest.py", ROLLBACK)
    project.write("gates/sub/test_sub.py", GATE)
    for version in ("v1.0.0", "v1.1.0"):
        assert project.run(VERSION=version).code == 0
    project.write("gates/sub/conftest.py", "")
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, project.target) == (2, "v1.1.0"), done.err
    assert "restore_flags" in done.out
    assert done.verdict("stage")["outcome"] == "withheld"
    assert "rollback" not in project.steps
    project.write("gates/sub/conftest.py", ROLLBACK)
    assert command("rollback", "--env", "stage", **BACK).code == 0, "it can still be taken back"


@pytest.mark.parametrize("step", ["rollback", "verify"])
def test_one_that_fails_is_critical_and_can_be_tried_again(shipped: Project, command: Command, step: str) -> None:
    done = command("rollback", "--env", "stage", DRIVER_FAULT=step, **BACK)
    assert (done.code, done.verdict("stage")["outcome"]) == (2, "rollback-failed"), done.err
    again = command("rollback", "--env", "stage", **BACK)
    assert (again.code, shipped.target) == (0, "v1.0.0"), again.err


def test_a_rollout_left_unfinished_is_finished_backwards(shipped: Project, command: Command) -> None:
    failed = shipped.run(VERSION="v1.2.0", CHECK="fails", DRIVER_FAULT="rollback")
    assert (failed.outcome, shipped.target) == ("rollback-failed", "v1.2.0")
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (0, "v1.1.0"), done.err
    assert done.verdict("stage")["recovered"]
    assert "left unfinished" in done.out
    assert command("rollback", "--env", "stage", **BACK).code == 0, "v1.1.0 can be taken back after it"
    assert shipped.target == "v1.0.0"


def test_one_that_dies_is_finished_and_still_not_called_good(project: Project, command: Command) -> None:
    project.write("gates/sub/conftest.py", ROLLBACK)
    project.write("gates/sub/test_sub.py", GATE)
    for version in ("v1.0.0", "v1.1.0"):
        assert project.run(VERSION=version).code == 0
    done = command("rollback", "--env", "stage", DIE="fixture", **BACK)
    assert (done.code, project.target) == (2, "v1.0.0"), done.out
    assert done.verdict("stage")["outcome"] == "rolled-back"


def test_killed_with_its_watcher_it_leaves_what_the_next_one_needs(shipped: Project, command: Command) -> None:
    process = command.start("rollback", "--env", "stage", DRIVER_FAULT="hang rollback", **BACK)
    command.until(shipped.root / "hanging")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    status = command("status", "--env", "stage", "--json")
    assert (status.code, status.json["environments"][0]["unfinished"]["version"]) == (2, "v1.1.0")
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (0, "v1.0.0"), done.err


def test_gates_that_are_broken_do_not_stand_in_the_way(shipped: Project, command: Command) -> None:
    shipped.write("gates/test_broken.py", "def test_x(:\n")
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (0, "v1.0.0"), done.err
    assert any("test_broken.py" in notice for notice in done.verdict("stage")["notices"])


def test_workers_run_no_gates_either(shipped: Project, command: Command) -> None:
    done = command("rollback", "--env", "stage", PYTEST_ADDOPTS="-n2", **BACK)
    assert (done.code, shipped.target) == (0, "v1.0.0"), done.err


def test_another_target_than_it_was_shipped_to_is_refused(shipped: Project, command: Command) -> None:
    conftest = shipped.root / "gates/conftest.py"
    conftest.write_text(conftest.read_text().replace('target = "file target.json"', 'target = "file other.json"'))
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (2, "v1.1.0"), done.err
    assert "file other.json is configured now" in done.out


def test_where_going_back_is_off_it_is_withheld(shipped: Project, command: Command) -> None:
    shipped.write("deploy-guard.toml", 'name = "shop"\nrollback = "off"\n')
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (1, "v1.1.0"), done.err
    assert 'rollback = "off"' in done.out


def test_a_record_that_can_not_be_read_is_said(shipped: Project, command: Command) -> None:
    (shipped.root / ".deploy-guard/stage.shipped.json").write_text("{")
    done = command("rollback", "--env", "stage", **BACK)
    assert (done.code, shipped.target) == (4, "v1.1.0")
    assert "stage.shipped.json" in done.err
    status = command("status", "--env", "stage")
    assert status.code == 2
    assert "stage.shipped.json" in status.out


def test_the_record_follows_the_published_schema(shipped: Project, command: Command) -> None:
    import jsonschema

    done = command("rollback", "--env", "stage", "--json", **BACK)
    schema = Path(__file__).resolve().parents[2] / "src/deploy_guard/report/verdict.schema.json"
    jsonschema.validate(done.json, json.loads(schema.read_text()))
    assert done.json["outcome"] == "rolled-back"
