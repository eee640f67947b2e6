"""The way of a run as its users see it: rows, outcomes, exit codes, files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from conftest import Project

CHECK = """
import os
from deploy_guard import post_check

@post_check("critical")
def test_serves(rollout, release):
    assert os.environ.get("CHECK") != "fails", "5xx rose"
"""
ROLLBACK = """
import pathlib
import pytest
from deploy_guard import rollback

LOG = pathlib.Path(__file__).resolve().parent.parent / "driver.log"

def log(text):
    with LOG.open("a") as file:
        file.write(text + "\\n")

@pytest.fixture
def flags_before():
    log("flags read")
    return {"beta": True}

@pytest.fixture
def wrapped(flags_before):
    return ["wrapped", flags_before]

@rollback(saves=["flags_before"])
def restore_flags(rollout, flags_before, wrapped):
    log(f"restore_flags {flags_before} {wrapped} {rollout.previous}")

@rollback()
def restore_dns(release):
    log(f"restore_dns {release.version}")
    FAULT
"""


@pytest.fixture
def checked(project: Project) -> Project:
    project.write("gates/test_checks.py", CHECK)
    return project


def rows(folder: Path) -> dict[str, str]:
    """The rows of the JUnit file: id and how it ended."""
    found = {}
    for case in ET.parse(folder / "junit.xml").iter("testcase"):
        bad = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        found[f"{case.get('classname')}::{case.get('name')}"] = bad
    return found


def test_a_good_release_ships_and_every_step_is_a_row(checked: Project) -> None:
    result = checked.run("gates")
    assert (result.code, result.outcome, checked.target) == (0, "shipped", "v1.0.0"), result.out
    assert checked.steps == ["plan", "snapshot", "apply begins", "apply", "wait"]
    assert rows(result.folder) == {
        "gates.test_first::test_passes": "passed",
        "rollout::plan": "passed",
        "rollout::snapshot": "passed",
        "rollout::apply": "passed",
        "rollout::wait": "passed",
        "gates.test_checks::test_serves": "passed",
        "rollout::verdict": "passed",
    }
    assert [step["name"] for step in result.verdict["steps"]] == ["plan", "snapshot", "apply", "wait"]
    assert "SHIPPED: shop v1.0.0 serves in stage" in result.out.splitlines()[-3]
    suite = ET.parse(result.folder / "junit.xml").find("testsuite")
    assert suite is not None
    assert suite.get("name") == "shop.stage"


def test_the_same_release_again_is_unchanged_and_is_checked(checked: Project) -> None:
    checked.run("gates")
    result = checked.run("gates")
    assert (result.code, result.outcome) == (0, "unchanged"), result.out
    assert checked.steps.count("apply") == 1
    assert rows(result.folder)["rollout::apply"] == "skipped"
    assert result.gate("test_serves")["outcome"] == "passed"


def test_an_unchanged_release_whose_check_fails_is_unhealthy_and_not_rolled_back(checked: Project) -> None:
    checked.run("gates")
    result = checked.run("gates", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "unhealthy", "v1.0.0"), result.out
    assert "rollback" not in checked.steps


def test_a_failing_post_check_brings_back_what_was_there(checked: Project) -> None:
    checked.run("gates")
    result = checked.run("gates", VERSION="v1.1.0", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert checked.steps[-2:] == ["rollback", "verify"]
    assert result.verdict["previous"] == "v1.0.0"
    assert "v1.0.0 serves again" in result.verdict["headline"]
    found = rows(result.folder)
    assert found["gates.test_checks::test_serves"] == "failure"
    assert found["rollout::rollback"] == found["rollout::verify"] == "passed"
    assert found["rollout::verdict"] == "failure"


def test_a_first_release_that_fails_leaves_nothing_behind(checked: Project) -> None:
    result = checked.run("gates", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", None), result.out


@pytest.mark.parametrize(("step", "outcome"), [("plan", "withheld"), ("snapshot", "withheld")])
def test_a_step_that_fails_before_apply_withholds(checked: Project, step: str, outcome: str) -> None:
    result = checked.run("gates", DRIVER_FAULT=step)
    assert (result.code, result.outcome, checked.target) == (2, outcome, None), result.out
    assert "apply begins" not in checked.steps
    assert result.step(step)["outcome"] == "failed"
    assert f"{step}-failed" in result.codes
    assert rows(result.folder)["rollout::apply"] == "skipped"


@pytest.mark.parametrize("step", ["apply", "wait"])
def test_a_step_that_fails_after_apply_began_rolls_back(checked: Project, step: str) -> None:
    checked.run("gates")
    result = checked.run("gates", VERSION="v1.1.0", DRIVER_FAULT=step)
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert result.gate("test_serves")["outcome"] == "not-run"


@pytest.mark.parametrize("step", ["rollback", "verify"])
def test_a_failing_rollback_is_its_own_outcome_and_says_what_to_do(checked: Project, step: str) -> None:
    checked.run("gates")
    result = checked.run("gates", VERSION="v1.1.0", CHECK="fails", DRIVER_FAULT=step)
    assert (result.code, result.outcome) == (2, "rollback-failed"), result.out
    assert f"{step}-failed" in result.codes
    assert "verify" in checked.steps, "a rollback that fails does not hide what differs"
    assert "tries to go back once more" in result.verdict["next"]


def test_the_next_run_recovers_what_an_earlier_one_could_not(checked: Project) -> None:
    checked.run("gates")
    checked.run("gates", VERSION="v1.1.0", CHECK="fails", DRIVER_FAULT="rollback")
    assert checked.target == "v1.1.0"
    result = checked.run("gates", VERSION="v1.2.0")
    assert (result.code, result.outcome, checked.target) == (0, "shipped", "v1.2.0"), result.out
    assert result.verdict["recovered"]
    assert result.verdict["previous"] == "v1.0.0"
    assert result.step("recover")["outcome"] == "passed"


def test_rollback_is_off_where_the_configuration_says_so(checked: Project) -> None:
    checked.write("deploy-guard.toml", 'name = "shop"\nrollback = "off"\n')
    result = checked.run("gates", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rollback-failed", "v1.0.0"), result.out
    assert "rollback-off" in result.codes


def test_rollback_fixtures_run_in_reverse_order_with_their_saved_values(checked: Project) -> None:
    checked.write(
        "gates/sub/conftest.py", ROLLBACK.replace("parent.parent", "parent.parent.parent").replace("FAULT", "")
    )
    checked.write("gates/sub/test_sub.py", "def test_sub(): pass\n")
    checked.run("gates")
    result = checked.run("gates", VERSION="v1.1.0", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", "v1.0.0"), result.out
    last = checked.steps[checked.steps.index("restore_dns v1.1.0") :]
    assert last == [
        "restore_dns v1.1.0",
        "restore_flags {'beta': True} ['wrapped', {'beta': True}] v1.0.0",
        "rollback",
        "verify",
    ]
    assert checked.steps.index("flags read") < checked.steps.index("apply begins")
    assert checked.steps.count("flags read") == 2, "once a run, before apply; never during the rollback"


def test_a_failing_rollback_fixture_stops_neither_the_others_nor_the_driver(checked: Project) -> None:
    checked.write(
        "gates/rb/conftest.py", ROLLBACK.replace("parent.parent", "parent.parent.parent").replace("FAULT", "1/0")
    )
    checked.write("gates/rb/test_sub.py", "def test_sub(): pass\n")
    checked.run("gates")
    result = checked.run("gates", VERSION="v1.1.0", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rollback-failed", "v1.0.0"), result.out
    assert any(line.startswith("restore_flags") for line in checked.steps)
    assert "ZeroDivisionError" in result.out


def test_a_fixture_that_cannot_be_saved_withholds(checked: Project) -> None:
    checked.write(
        "gates/sub/conftest.py",
        "import pytest\nfrom deploy_guard import rollback\n@pytest.fixture\ndef thing(): return object()\n"
        "@rollback(saves=['thing'])\ndef back(thing): pass\n",
    )
    checked.write("gates/sub/test_sub.py", "def test_sub(): pass\n")
    result = checked.run("gates")
    assert (result.code, result.outcome, checked.target) == (2, "withheld", None), result.out
    assert "can't be saved" in result.out


def test_a_rollback_fixture_that_yields_is_refused(checked: Project) -> None:
    checked.write("gates/sub/conftest.py", "from deploy_guard import rollback\n@rollback()\ndef back():\n yield\n")
    checked.write("gates/sub/test_sub.py", "def test_sub(): pass\n")
    result = checked.run("gates")
    assert result.code == 2
    assert "can't yield" in result.out
    assert not checked.applied


def test_session_fixtures_live_through_the_rollout_and_are_torn_down_once(checked: Project) -> None:
    checked.write(
        "gates/sub/conftest.py",
        """
        import pathlib, pytest
        LOG = pathlib.Path(__file__).resolve().parent.parent.parent / "driver.log"
        def log(text):
            with LOG.open("a") as file: file.write(text + "\\n")
        @pytest.fixture(scope="session")
        def database():
            log("database up"); yield; log("database down")
        @pytest.fixture(scope="module")
        def table(database):
            log("table up"); yield; log("table down")
        """,
    )
    checked.write(
        "gates/sub/test_sub.py",
        """
        import os
        from deploy_guard import gate, post_check
        def test_gate(database): pass
        @post_check()
        def test_one(table): pass
        @post_check()
        def test_two(table): assert os.environ.get("CHECK") != "fails late"
        """,
    )
    result = checked.run("gates")
    assert result.code == 0, result.out
    assert checked.steps == [
        "database up",
        "plan",
        "snapshot",
        "apply begins",
        "apply",
        "wait",
        "table up",
        "table down",
        "database down",
    ]
    (checked.root / "driver.log").unlink()
    result = checked.run("gates", VERSION="v2.0.0", CHECK="fails late")
    assert result.outcome == "rolled-back", result.out
    assert checked.steps[-5:] == ["table up", "table down", "rollback", "verify", "database down"]


def test_a_session_fixture_that_fails_at_its_end_has_a_row_and_a_code(checked: Project) -> None:
    checked.write(
        "gates/test_late.py",
        "import pytest\n@pytest.fixture(scope='session')\ndef late():\n yield\n raise OSError('late')\n"
        "def test_late(late): pass\n",
    )
    result = checked.run("gates")
    assert (result.code, result.outcome) == (2, "shipped"), result.out
    assert "teardown-failed" in result.codes
    assert rows(result.folder)["rollout::verdict"] == "error"


def test_a_warn_gate_that_fails_is_shown_and_ships(checked: Project) -> None:
    checked.write(
        "gates/test_warn.py",
        "import pytest\nfrom deploy_guard import gate\n"
        "@gate('warn')\ndef test_w(): assert 0, 'certificate ends soon'\n"
        "@gate('warn')\ndef test_s(): pytest.skip('no data')\n"
        "@pytest.fixture\ndef broken(): raise OSError\n"
        "@gate('warn')\ndef test_e(broken): pass\n"
        "@gate('warn', timeout=0.2)\ndef test_t():\n import time; time.sleep(5)\n",
    )
    result = checked.run("gates")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert [result.gate(name)["outcome"] for name in ("test_w", "test_s", "test_e", "test_t")] == ["warned"] * 4
    assert "failure" not in rows(result.folder).values()
    assert rows(result.folder)["gates.test_warn::test_w"] == "skipped"
    assert "certificate ends soon" in result.out.split("=== SHIPPED")[1]


def test_a_warn_post_check_that_fails_does_not_roll_back(project: Project) -> None:
    project.write(
        "gates/test_checks.py", "from deploy_guard import post_check\n@post_check('warn')\ndef test_c(): assert 0\n"
    )
    result = project.run("gates")
    assert (result.code, result.outcome, project.target) == (0, "shipped", "v1.0.0"), result.out
    assert result.gate("test_c")["outcome"] == "warned"


def test_evidence_past_warn_passes_with_a_warning_everywhere(checked: Project) -> None:
    checked.write(
        "gates/test_evidence.py",
        "def test_disk(evidence):\n evidence.threshold('disk /', 80.0, warn=75, fail=85, unit='%')\n"
        " evidence.record('note', 'seen')\n",
    )
    result = checked.run("gates")
    assert result.code == 0, result.out
    assert result.gate("test_disk")["outcome"] == "warned"
    assert result.gate("test_disk")["evidence"][0] == {
        "name": "disk /",
        "value": 80.0,
        "unit": "%",
        "warn": 75,
        "fail": 85,
        "worse": "above",
        "status": "warn",
    }
    assert "disk / 80 % (warn 75, fail 85)" in (result.folder / "junit.xml").read_text()
    assert "disk / 80 % (warn 75, fail 85)" in (result.folder / "gate-report.html").read_text()
    assert "disk / 80 % (warn 75, fail 85)" in result.out


@pytest.mark.parametrize("value", ["85", "85.0", "99", "None", "float('nan')"])
def test_evidence_at_or_past_fail_and_no_data_fail(checked: Project, value: str) -> None:
    checked.write(
        "gates/test_evidence.py",
        f"def test_disk(evidence): evidence.threshold('disk /', {value}, warn=75, fail=85, unit='%')\n",
    )
    result = checked.run("gates")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert result.gate("test_disk")["outcome"] == "failed"


def test_a_recoverable_failure_is_exit_1_and_a_critical_one_2(checked: Project) -> None:
    checked.write("gates/test_r.py", "from deploy_guard import gate\n@gate('recoverable')\ndef test_r(): assert 0\n")
    assert checked.run("gates").code == 1
    checked.write("gates/test_c.py", "def test_c(): assert 0\n")
    assert checked.run("gates").code == 2


def test_a_hanging_gate_fails_with_its_severity_and_the_run_goes_on(checked: Project) -> None:
    checked.write(
        "gates/test_hang.py",
        "import time\nfrom deploy_guard import gate\n@gate('recoverable', timeout=0.3)\ndef test_h(): time.sleep(30)\n"
        "def test_after(): pass\n",
    )
    result = checked.run("gates")
    assert (result.code, result.outcome) == (1, "withheld"), result.out
    assert result.gate("test_h")["outcome"] == "timed-out"
    assert result.gate("test_after")["outcome"] == "passed"


def test_gates_for_another_environment_are_shown_and_never_count(checked: Project) -> None:
    checked.write("gates/test_p.py", "from deploy_guard import gate\n@gate(env='prod')\ndef test_p(): assert 0\n")
    result = checked.run("gates")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert result.gate("test_p")["outcome"] == "not-applicable"
    assert "1 not for stage" in result.out
    assert checked.run("gates", env="prod").code == 2


def test_no_deploy_judges_and_touches_nothing(checked: Project) -> None:
    result = checked.run("gates", "--no-deploy")
    assert (result.code, result.outcome) == (0, "checked"), result.out
    assert checked.steps == []
    assert "--no-deploy" in result.verdict["headline"]
    checked.write("gates/test_r.py", "from deploy_guard import gate\n@gate('recoverable')\ndef test_r(): assert 0\n")
    result = checked.run("gates", "--no-deploy")
    assert (result.code, result.outcome) == (1, "checked"), result.out


def test_plan_only_plans_whatever_the_gates_say(checked: Project) -> None:
    result = checked.run("gates", "--deploy-plan")
    assert (result.code, result.outcome) == (0, "planned"), result.out
    assert checked.steps == ["plan"]
    plan = json.loads((result.folder / "plan.json").read_text())
    assert plan["digest"] == "d"
    assert plan["changes"][0]["action"] == "change"
    checked.write("gates/test_c.py", "def test_c(): assert 0\n")
    result = checked.run("gates", "--deploy-plan")
    assert (result.code, result.outcome) == (2, "planned"), result.out
    assert checked.steps == ["plan", "plan"]


def test_without_a_driver_the_gates_run_and_the_rollout_says_what_is_missing(project: Project) -> None:
    (project.root / "gates/conftest.py").unlink()
    (project.root / "deploy-guard.toml").unlink()
    result = project.run("gates")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert "no driver is configured for stage" in result.out
    assert result.gate("test_passes")["outcome"] == "passed"


def test_exit_codes_do_not_move_under_other_plugins(checked: Project) -> None:
    checked.write(
        "conftest.py",
        "import pytest, warnings\n@pytest.hookimpl(trylast=True)\ndef pytest_sessionfinish(session):\n session.exitstatus = 7\n",
    )
    assert checked.run("gates").code == 0
    checked.write("conftest.py", "def pytest_sessionfinish(session): raise ValueError('mine')\n")
    result = checked.run("gates")
    assert (result.code, result.outcome) == (0, "unchanged"), result.out
    assert (result.folder / "junit.xml").is_file()
    assert (result.folder / "gate-report.html").is_file()
    assert "ValueError: mine" in result.out
    checked.write("conftest.py", "def pytest_unconfigure(config): raise ValueError('mine')\n")
    assert checked.run("gates").code == 0
    checked.write("conftest.py", "")
    checked.write("gates/test_w.py", "import warnings\ndef test_w(): warnings.warn('x')\n")
    assert checked.run("gates", "-o", "addopts=--maxfail=1").code == 0
    assert checked.run("gates", "-W", "error").code == 2


def test_a_plugin_that_breaks_in_the_middle_of_a_rollout_does_not_leave_it_half_done(checked: Project) -> None:
    checked.run("gates")
    checked.write(
        "conftest.py",
        "def pytest_runtest_logreport(report):\n if report.nodeid == 'rollout::wait': raise ValueError('mine')\n",
    )
    result = checked.run("gates", VERSION="v2.0.0")
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert "broken" in result.codes


def test_the_users_own_reports_are_written_too(checked: Project) -> None:
    result = checked.run("gates", "--junitxml=mine.xml", "--html=mine.html")
    assert result.code == 0, result.out
    for name in ("mine.xml", "mine.html", "reports/stage/junit.xml", "reports/stage/gate-report.html"):
        assert (checked.root / name).is_file(), name
    theirs_page = (checked.root / "mine.html").read_text()
    assert "data-jsonblob" in theirs_page, "it is pytest-html's own page"
    assert "SHIPPED: shop v1.0.0 serves in stage" in theirs_page
    assert "Severity" in theirs_page
    assert "<h1>" in (result.folder / "gate-report.html").read_text()
    ours = ET.parse(result.folder / "junit.xml").find("testsuite")
    theirs = ET.parse(checked.root / "mine.xml").find("testsuite")
    assert ours is not None
    assert theirs is not None
    assert (ours.get("name"), theirs.get("name")) == ("shop.stage", "pytest")


def test_the_gate_report_is_written_without_pytest_html_too(checked: Project) -> None:
    result = checked.run("gates", "-p", "no:html", CHECK="fails")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    page = (result.folder / "gate-report.html").read_text()
    assert "5xx rose" in page
    assert "Failure in call" in page
    assert 'id="gates/test_checks.py::test_serves"' in page


def test_the_gate_report_tells_what_was_printed_and_where_it_ran(checked: Project) -> None:
    checked.write("gates/test_said.py", "def test_said():\n 'Says what it sees.'\n print('<b>seen</b>'); assert 0\n")
    job = {"BUILD_URL": "https://ci.example/job/shop/812/", "JOB_NAME": "shop", "BUILD_NUMBER": "812"}
    for workers in ((), ("-n", "2")):
        result = checked.run("gates", *workers, more=job)
        page = (result.folder / "gate-report.html").read_text()
        assert "&lt;b&gt;seen&lt;/b&gt;" in page
        assert "Says what it sees." in page
        assert '<a href="https://ci.example/job/shop/812/" rel="noreferrer">Jenkins shop #812</a>' in page
        assert "VERSION=v1.0.0 pytest --deploy-env=stage gates" in page


def test_the_gate_report_of_a_session_that_died_shows_what_was_recorded(checked: Project) -> None:
    checked.write("gates/test_a.py", "def test_a():\n print('said before'); assert 0, 'first fault'\n")
    checked.write("gates/test_z.py", "import os\ndef test_z(): os._exit(0)\n")
    result = checked.run("gates")
    assert result.code == 2, result.out
    page = (result.folder / "gate-report.html").read_text()
    assert "said before" in page
    assert "first fault" in page
    assert 'id="gates/test_z.py::test_z" data-o="died"' in page


def test_reports_go_where_they_are_told_to(checked: Project) -> None:
    result = checked.run("gates", "--deploy-reports=out/here")
    assert result.code == 0
    assert (checked.root / "out/here/verdict.json").is_file()
    assert not (checked.root / "reports").exists()


def test_the_last_runs_files_are_gone_when_a_run_starts(checked: Project) -> None:
    checked.run("gates", "--deploy-plan")
    result = checked.run("gates", "nonesuch")
    assert result.code == 4
    assert rows(result.folder) == {"rollout::verdict": "failure"}
    assert not (result.folder / "plan.json").exists()
    assert result.verdict["exit_code"] == 4


def test_events_are_written_before_and_after_each_act(checked: Project) -> None:
    result = checked.run("gates")
    states = [(e["event"], e.get("state")) for e in result.events]
    assert states[0] == ("run", "started")
    assert states[-1] == ("run", "ended")
    for step in ("plan", "snapshot", "apply", "wait"):
        assert states.index((step, "intent")) + 1 == states.index((step, "passed"))
    assert {e["run"] for e in result.events} == {result.verdict["run"]}


def test_workers_run_the_gates_and_the_controller_the_rollout(checked: Project) -> None:
    checked.write("gates/test_many.py", "import pytest\n@pytest.mark.parametrize('n', range(8))\ndef test_n(n): pass\n")
    result = checked.run("gates", "-n", "4")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert checked.steps == ["plan", "snapshot", "apply begins", "apply", "wait"]
    serial = rows(result.folder)
    checked.run("gates")
    assert set(serial) == set(rows(result.folder))
    result = checked.run("gates", "-n", "4", VERSION="v1.1.0", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", "v1.0.0"), result.out


def test_secrets_do_not_reach_the_reports(checked: Project) -> None:
    checked.write(
        "gates/test_s.py",
        "import os\ndef test_s():\n print(os.environ['API_KEY'])\n assert os.environ['API_KEY'] == 1\n",
    )
    result = checked.run("gates", API_KEY="canary-4711-secret")
    assert result.code == 2
    for name in ("junit.xml", "gate-report.html", "verdict.json", "audit.jsonl"):
        assert "canary-4711" not in (result.folder / name).read_text(), name
    assert "canary-4711" not in result.out
    assert "[API_KEY redacted]" in result.out


def test_a_plugin_that_breaks_the_rows_of_the_way_back_does_not_keep_it_from_going(checked: Project) -> None:
    checked.run("gates")
    checked.write(
        "conftest.py",
        "def pytest_runtest_logreport(report):\n"
        " if report.nodeid == 'rollout::rollback' and report.when == 'setup': raise ValueError('mine')\n",
    )
    result = checked.run("gates", VERSION="v2.0.0", CHECK="fails")
    assert (result.code, result.outcome, checked.target) == (2, "rolled-back", "v1.0.0"), result.out
    assert "a plugin failed: ValueError: mine" in result.out


def test_a_driver_that_cannot_go_back_even_alone_is_told(project: Project) -> None:
    project.write(
        "gates/test_die.py",
        "import os, pathlib\nfrom deploy_guard import post_check\n"
        "if pathlib.Path('now').exists(): os._exit(0)\n"
        "@post_check()\ndef test_d():\n pathlib.Path('now').touch(); os._exit(0)\n",
    )
    result = project.run("gates")
    assert (result.code, result.outcome) == (2, "rollback-failed"), result.out
    assert "no driver is configured for stage" in result.out


def test_checks_and_rollback_fixtures_are_events_too(checked: Project) -> None:
    result = checked.run("gates", CHECK="fails")
    events = [(e["event"], e.get("id"), e.get("state")) for e in result.events]
    begun = events.index(("check", "gates/test_checks.py::test_serves", "intent"))
    assert events[begun + 1] == ("check", "gates/test_checks.py::test_serves", "failed")


def test_the_same_name_of_a_rollback_fixture_in_two_folders_is_run_twice(checked: Project) -> None:
    for name in ("one", "two"):
        checked.write(
            f"gates/{name}/conftest.py",
            "import pathlib, pytest\nfrom deploy_guard import rollback\n@pytest.fixture\n"
            f"def which(): return '{name}'\n@rollback()\ndef back(which):\n"
            " with open('driver.log', 'a') as file: file.write('back ' + which + chr(10))\n",
        )
        checked.write(f"gates/{name}/test_{name}.py", "def test_x(): pass\n")
    result = checked.run("gates", CHECK="fails")
    assert result.outcome == "rolled-back", result.out
    assert checked.steps[-4:] == ["back two", "back one", "rollback", "verify"]


@pytest.mark.parametrize(
    ("ini", "mark"),
    [
        ("timeout = 0\n", ""),
        ("timeout_method = thread\n", ""),
        ("timeout_func_only = true\n", ""),
        ("", "timeout(0)"),
        ("", "timeout(600, method='thread')"),
        ("", "timeout(600, func_only=True)"),
    ],
)
def test_nothing_that_others_say_of_timeouts_keeps_a_hanging_fixture_alive(
    project: Project, ini: str, mark: str
) -> None:
    project.write("pytest.ini", f"[pytest]\n{ini}")
    with (project.root / "deploy-guard.toml").open("a") as file:
        file.write('gate-timeout = "0.5s"\n')
    if mark:
        with (project.root / "gates/conftest.py").open("a") as file:
            file.write(
                "\ndef pytest_collection_modifyitems(items):\n"
                f"    for item in items: item.add_marker(pytest.mark.{mark})\n"
            )
    project.write(
        "gates/test_hangs.py",
        "import time, pytest\n@pytest.fixture\ndef slow(): time.sleep(60)\ndef test_h(slow): pass\n"
        "def test_z(): pass\n",
    )
    result = project.run("gates", timeout=30)
    assert result.code == 2
    assert result.gate("test_h")["outcome"] == "timed-out"
    assert "Timeout (>0.5s)" in result.gate("test_h")["message"], "ended from inside, so that the run goes on"
    assert result.gate("test_z")["outcome"] == "passed"
    assert not project.applied
