"""What a run writes, where writing itself goes wrong, and what outside text can do to it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import samples
from conftest import Project

import deploy_guard.report
from deploy_guard.config import load
from deploy_guard.flow.model import (
    GateOutcome,
    GateResult,
    Mode,
    Outcome,
    Phase,
    Reason,
    Severity,
    StepOutcome,
    StepResult,
    measure,
)
from deploy_guard.flow.record import Record
from deploy_guard.redact import Redactor
from deploy_guard.report import finish, page, plain, terminal
from deploy_guard.report.files import ReportFolder, new_record, write_verdict
from deploy_guard.report.html import GateReport
from deploy_guard.report.transcript import Transcript
from deploy_guard.session.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = load(None, directory=tmp_path).for_env("stage")
    return Run(
        id="r",
        env="stage",
        mode=Mode.DEPLOY,
        version="v1.0.0",
        config=config,
        folder=tmp_path / "reports",
        roots=(),
        started=datetime.now(UTC),
        redactor=Redactor({"API_KEY": "canary-4711"}),
    )


HOSTILE = "<script>alert(1)</script> canary-4711 \x00\x1b[31m & ]]>"


def hostile(run: Run) -> Any:
    record = new_record(run)
    record.outcome = Outcome.ROLLED_BACK
    record.reasons = [Reason("x", Severity.CRITICAL, HOSTILE, HOSTILE)]
    record.gates = [
        GateResult(
            HOSTILE, Severity.CRITICAL, Phase.GATE, GateOutcome.FAILED, 1.0, HOSTILE, (measure(HOSTILE, 1, fail=2),)
        ),
        GateResult("c", Severity.WARN, Phase.POST_CHECK, GateOutcome.WARNED),
    ]
    record.steps = [StepResult("plan", StepOutcome.PASSED, 0.1, HOSTILE)]
    record.changes = [{"action": "change", "object": HOSTILE, "diff": HOSTILE}]
    record.notices = [HOSTILE]
    record.target = HOSTILE
    return record


def test_hostile_text_becomes_neither_markup_nor_a_leak(run: Run) -> None:
    theirs = GateReport(run, hostile(run)).decision()
    assert "<script>" not in theirs
    assert "canary-4711" not in theirs
    transcript = Transcript()
    transcript.add(samples.report(HOSTILE, "failed", HOSTILE, [(HOSTILE, HOSTILE)]))
    run.folder.mkdir()
    page.write(run, hostile(run), transcript)
    plain.write_junit(run, hostile(run))
    write_verdict(run, hostile(run))
    for path in run.folder.iterdir():
        assert "canary-4711" not in path.read_text()
    ours = (run.folder / "gate-report.html").read_text()
    assert "<script>alert" not in ours
    assert "&lt;script&gt;alert" in ours
    assert not {"\x00", "\x1b"} & set(ours), "a control character is shown, not sent"
    assert ET.parse(run.folder / "junit.xml").find(".//failure") is not None
    assert "canary-4711" not in "\n".join(terminal.lines(run, hostile(run)))
    assert not {"\x00", "\x1b"} & set("".join(terminal.lines(run, hostile(run)))), "nor does it move a cursor"
    assert not {"\x00", "\x1b"} & set(theirs)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_verdict_is_valid_against_the_schema_that_is_shipped(run: Run, outcome: Outcome) -> None:
    schema = json.loads((Path(deploy_guard.report.__file__).parent / "verdict.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    record = hostile(run)
    record.outcome = outcome
    jsonschema.validate(json.loads(json.dumps(record.to_json())), schema)
    broken = {**record.to_json(), "outcome": "fine"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_a_real_runs_verdict_is_valid_too(project: Project) -> None:
    schema = json.loads((Path(deploy_guard.report.__file__).parent / "verdict.schema.json").read_text())
    jsonschema.validate(project.run("gates").verdict, schema)


def test_the_folder_says_incomplete_first_and_interrupted_at_once(run: Run) -> None:
    folder = ReportFolder(run)
    folder.open()
    verdict = run.folder / "verdict.json"
    assert json.loads(verdict.read_text())["outcome"] == "incomplete"
    with pytest.raises(BlockingIOError):
        ReportFolder(run).open()
    folder.interrupted("SIGTERM")
    assert json.loads(verdict.read_text())["interrupted"] == "SIGTERM"
    record = new_record(run)
    record.outcome = Outcome.SHIPPED
    write_verdict(run, record)
    folder.interrupted("SIGTERM")
    assert json.loads(verdict.read_text())["interrupted"] is None, "what is finished is not touched"
    verdict.write_text("{")
    folder.interrupted("SIGTERM")
    folder.close()


def test_a_report_that_cannot_be_written_is_a_critical_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = SimpleNamespace(
        pluginmanager=SimpleNamespace(get_plugin=lambda _name: None),
        option=SimpleNamespace(xmlpath="x"),
        invocation_params=SimpleNamespace(dir=run.folder),
    )

    def full(*_args: object) -> None:
        raise OSError("disk full")

    run.folder.mkdir()
    monkeypatch.setattr(page, "write", full)
    monkeypatch.setattr(finish, "write_verdict", full)
    record = new_record(run)
    record.outcome = Outcome.SHIPPED
    finish.finish(config, run, record)
    assert record.exit_code == 2
    assert [reason.code for reason in record.reasons] == ["record-incomplete"] * 2
    assert (run.folder / "junit.xml").is_file()


def shown(run: Run, record: Record, *, whole: bool = False) -> str:
    return "\n".join(terminal.lines(run, record, whole=whole))


def test_the_last_screen_has_the_point_of_a_long_failure_and_all_of_it_where_nobody_else_shows_it(run: Run) -> None:
    text = "web: CrashLoopBackOff\n" + "\n".join(f"log {n}" for n in range(25)) + "\n  next: look at web"
    record = new_record(run)
    record.outcome = Outcome.ROLLED_BACK
    record.reasons = [Reason("wait-failed", Severity.CRITICAL, text, "rollout::wait")]
    record.steps = [StepResult("wait", StepOutcome.FAILED, 1.0, text)]
    said = shown(run, record)
    assert (
        "critical    rollout::wait: web: CrashLoopBackOff\n            … 25 more lines\n            next: look at web"
        in said
    )
    assert "log 3" not in said
    assert "            log 24" in shown(run, record, whole=True)
    assert "log 3" not in plain.summary(record)
    assert "<details><summary>25 more lines</summary>log 0" in GateReport(run, record).decision()


def test_a_plan_names_what_changes_with_its_diff_and_counts_the_rest(run: Run) -> None:
    record = new_record(run)
    record.outcome, record.mode = Outcome.PLANNED, Mode.PLAN
    record.changes = [{"action": "none", "object": f"ConfigMap/same-{n}", "diff": ""} for n in range(500)]
    record.changes += [{"action": "change", "object": "Deployment/web", "diff": "-image: 1\n+image: 2\n"}]
    said = shown(run, record)
    assert "  change  Deployment/web\n          -image: 1\n          +image: 2\n  500 objects unchanged" in said
    assert "same-" not in said
    record.changes += [{"action": "create", "object": f"ConfigMap/new-{n}", "diff": "+a\n+b"} for n in range(70)]
    said = shown(run, record)
    assert "-image" not in said, "diffs of many objects are for the page"
    assert "  and 21 more: plan.json\n  500 objects unchanged" in said


def test_many_notes_do_not_push_the_decision_off_the_screen(run: Run) -> None:
    record = new_record(run)
    record.outcome = Outcome.SHIPPED
    record.notices = [f"left behind: ConfigMap/old-{n}" for n in range(30)]
    said = shown(run, record)
    assert said.count("note: ") == 11
    assert "note: and 20 more" in said
    assert "note: left behind: ConfigMap/old-29" in plain.summary(record), "the row of the verdict has them all"


def test_one_gate_is_one_gate(run: Run) -> None:
    record = new_record(run)
    record.outcome = Outcome.CHECKED
    record.gates = [GateResult("a", Severity.CRITICAL, Phase.GATE, GateOutcome.PASSED)]
    assert "1 gate  " in shown(run, record)
