"""What the page is shown with: a release of a shop that ends in each way a run can end."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.flow.model import (
    Evidence,
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
from deploy_guard.flow.verdict import gate_reason
from deploy_guard.report.origin import Origin, commands
from deploy_guard.report.page import render
from deploy_guard.report.text import Writer
from deploy_guard.report.transcript import Transcript

DISK = "gates/test_host.py::test_disk_has_room"
CHECK = "gates/test_service.py::test_error_rate"
DIFF = """\
@@ spec.template.spec.containers[web] @@
-  image: registry.example/shop:1.4.1
+  image: registry.example/shop:1.4.2
   env:
-    LOG_LEVEL: info
+    LOG_LEVEL: debug"""
TRACEBACK = """\
    @post_check("critical")
    def test_error_rate(service, evidence):
        rate = service.get("/metrics").json()["5xx"]
>       evidence.threshold("5xx", rate, warn=0.2, fail=0.5, unit="%")
E       deploy_guard.errors.GateFailed: 5xx 2.4 % (warn 0.2, fail 0.5)

gates/test_service.py:71: GateFailed"""


def record_of(outcome: Outcome) -> Record:
    """A record that ends in this way."""
    record = Record(
        run="20261124T143200Z-5f0c11de",
        name="shop",
        env="prod",
        mode={Outcome.PLANNED: Mode.PLAN, Outcome.CHECKED: Mode.CHECK}.get(outcome, Mode.DEPLOY),
        version="v1.4.2",
        commit="3f9c2e1b7d5a4c0e9f8a6b2d1c3e5f7a9b0d2c4e",
        branch="main",
        notes="shop v1.4.2\n\nFeatures\n- 3f9c2e1 <b>Basket</b> keeps its items (dana)\n",
        previous="v1.4.1",
        driver="kubernetes",
        target="kubernetes eks-prod/shop",
        started="2026-11-24T14:32:00+00:00",
        outcome=outcome,
        changes=[
            {"action": "change", "object": "Deployment web", "diff": DIFF},
            {"action": "change", "object": "ConfigMap shop", "diff": "-LOG: info\n+LOG: debug"},
            {"action": "create", "object": "CronJob report", "diff": ""},
            {"action": "none", "object": "Service web", "diff": ""},
        ],
        digest="sha256:9a41c7e2d05b",
    )
    record.gates = gates(outcome)
    record.gates_seconds = 3.1
    record.steps = steps(outcome)
    record.reasons = [reason for gate in record.gates if _judged(gate, outcome) and (reason := gate_reason(gate))]
    record.reasons += [
        Reason(f"{step.name}-failed", Severity.CRITICAL, step.message, f"rollout::{step.name}")
        for step in record.steps
        if step.outcome is StepOutcome.FAILED
    ]
    if outcome is Outcome.INTERRUPTED:
        record.interrupted = "SIGTERM"
        record.reasons.append(Reason("interrupted", Severity.CRITICAL, "the run was told to end by SIGTERM"))
    if outcome is Outcome.INCOMPLETE:
        record.gates, record.steps, record.changes, record.reasons = [], [], [], []
    if outcome in (Outcome.WITHHELD, Outcome.CHECKED, Outcome.INTERRUPTED):
        record.changes, record.digest = [], ""
    record.reasons.sort(key=lambda reason: -reason.severity.exit_code)
    record.seconds = record.gates_seconds + sum(s.seconds for s in record.steps) + 0.8
    return record


def gates(outcome: Outcome) -> list[GateResult]:
    """Gates and post-checks as they ended."""
    withheld = outcome in (Outcome.WITHHELD, Outcome.CHECKED)
    disk = measure("disk /", 91.0 if withheld else 63.0, warn=75, fail=85, unit="%")
    found = [
        _gate(
            DISK,
            GateOutcome.FAILED if withheld else GateOutcome.PASSED,
            message=disk.text if withheld else "",
            evidence=(disk,),
            doc="The images of two releases must fit.",
        ),
        _gate(
            "gates/test_host.py::test_certificate_lives_on",
            GateOutcome.WARNED,
            Severity.RECOVERABLE,
            message="certificate 19 d (warn 21, fail 7)",
            evidence=(measure("certificate", 19, warn=21, fail=7, unit="d", worse="below"),),
            doc="Long enough for the next release to renew it.",
        ),
        _gate("gates/test_env.py::test_variables_are_set", evidence=(Evidence("variables", "SERVICE_URL, VERSION"),)),
        *(_gate(f"gates/test_schema.py::test_migration_is_reversible[{n:04}]") for n in range(1, 18)),
        _gate("gates/test_load.py::test_canary", GateOutcome.NOT_APPLICABLE),
        _gate("gates/test_load.py::test_stage_data_is_fresh", GateOutcome.NOT_APPLICABLE, Severity.WARN),
    ]
    if withheld:
        found.append(
            _gate(
                "gates/test_version.py::test_version_is_tagged",
                GateOutcome.SKIPPED,
                Severity.RECOVERABLE,
                message="no git program on this agent",
            )
        )
    bad = outcome in (Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED, Outcome.UNHEALTHY)
    ran = bad or outcome in (Outcome.SHIPPED, Outcome.UNCHANGED)
    errors = measure("5xx", 2.4 if bad else 0.02, warn=0.2, fail=0.5, unit="%")
    found += [
        _gate(
            "gates/test_service.py::test_service_reports_the_release",
            GateOutcome.PASSED if ran else GateOutcome.NOT_RUN,
            phase=Phase.POST_CHECK,
            message="" if ran else "withheld",
        ),
        _gate(
            CHECK,
            GateOutcome.FAILED if bad else GateOutcome.PASSED if ran else GateOutcome.NOT_RUN,
            phase=Phase.POST_CHECK,
            message=errors.text if bad else "" if ran else "withheld",
            evidence=(errors,) if ran else (),
            doc="Whoever buys something must not see an error page.",
            seconds=4.1,
        ),
    ]
    return found


def steps(outcome: Outcome) -> list[StepResult]:
    """The steps as they ended."""
    if outcome is Outcome.PLANNED:
        return [_step("plan", 0.4, "1 created, 2 changed, 1 unchanged")]
    if outcome in (Outcome.WITHHELD, Outcome.CHECKED, Outcome.INTERRUPTED, Outcome.INCOMPLETE):
        why = "not deployed: --no-deploy" if outcome is Outcome.CHECKED else "withheld: test_disk_has_room"
        return [StepResult(n, StepOutcome.SKIPPED, 0.0, why) for n in ("plan", "snapshot", "apply", "wait")]
    if outcome in (Outcome.UNCHANGED, Outcome.UNHEALTHY):
        found = [_step("plan", 0.4, "4 unchanged")]
        found += [StepResult(n, StepOutcome.SKIPPED, 0.0, "nothing to change") for n in ("snapshot", "apply")]
        return [*found, _step("wait", 0.3, "web 3/3, worker 2/2")]
    found = [
        _step("plan", 0.4, "1 created, 2 changed, 1 unchanged"),
        _step("snapshot", 0.1, "4 objects, flags_before"),
        _step("apply", 0.6, "4 objects"),
        _step("wait", 21.4, "web 3/3, worker 2/2"),
    ]
    if outcome in (Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED):
        found += [_step("gates/conftest.py::restore_feature_flags", 0.2), _step("rollback", 6.2, "4 objects")]
        if outcome is Outcome.ROLLED_BACK:
            found.append(_step("verify", 0.8, "v1.4.1 on 3 of 3 addresses, 0 objects differ"))
        else:
            text = "Deployment web: image is 1.4.2, it was 1.4.1\nnext: kubectl -n shop rollout undo deployment/web"
            found.append(StepResult("verify", StepOutcome.FAILED, 0.8, text))
    return found


def transcript_of(outcome: Outcome) -> Transcript:
    """What the items of that run said."""
    transcript = Transcript()
    migration = "gates/test_schema.py::test_migration_is_reversible[0012]"
    transcript.add(report(migration, sections=[("Captured stdout call", "up 0012, down 0012\n")]))
    if outcome in (Outcome.SHIPPED, Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED):
        said = "waiting for deployment/web: 1 of 3\nwaiting for deployment/web: 3 of 3\n"
        transcript.add(report("rollout::wait", sections=[("Captured stdout call", said)]))
    if outcome in (Outcome.ROLLED_BACK, Outcome.ROLLBACK_FAILED, Outcome.UNHEALTHY):
        sections = [("Captured stdout call", "GET /metrics\n200 OK, 5xx=2.4\n")]
        transcript.add(report(CHECK, "failed", TRACEBACK, sections))
    return transcript


def origin() -> Origin:
    """A run in Jenkins."""
    arguments = ("--deploy-env=prod", "gates/")
    return Origin(
        who="dana",
        job="Jenkins shop-release #812",
        url="https://jenkins.example/job/shop-release/812/",
        commands=tuple(commands(arguments, record_of(Outcome.SHIPPED))),
        needs=("SERVICE_URL", "API_KEY or TOKEN"),
        files=("verdict.json", "junit.xml", "audit.jsonl"),
    )


def page_of(outcome: Outcome) -> str:
    """The page of a run that ended in this way."""
    return render(record_of(outcome), transcript_of(outcome), origin(), Writer(str))


def many(number: int, failed: int = 0) -> Record:
    """A record with that many gates, the last of which failed."""
    record = record_of(Outcome.CHECKED)
    record.gates = [_gate(f"gates/test_{n // 500}.py::test_number_{n}") for n in range(number - failed)]
    record.gates += [
        _gate(f"gates/test_bad.py::test_bad_{n}", GateOutcome.FAILED, message="assert 1 == 2") for n in range(failed)
    ]
    record.reasons = [reason for gate in record.gates if (reason := gate_reason(gate))]
    return record


def report(
    node_id: str, outcome: Any = "passed", longrepr: Any = None, sections: list[tuple[str, str]] | None = None
) -> pytest.TestReport:
    """A report as pytest makes them."""
    return pytest.TestReport(node_id, ("x", 1, "x"), {}, outcome, longrepr, "call", sections=sections or [])


def _gate(
    node_id: str,
    outcome: GateOutcome = GateOutcome.PASSED,
    severity: Severity = Severity.CRITICAL,
    **more: Any,
) -> GateResult:
    return replace(GateResult(node_id, severity, Phase.GATE, outcome, 0.012), **more)


def _step(name: str, seconds: float, said: str = "") -> StepResult:
    return StepResult(name, StepOutcome.PASSED, seconds, said)


def _judged(gate: GateResult, outcome: Outcome) -> bool:
    return gate.outcome is not GateOutcome.NOT_RUN and outcome is not Outcome.INCOMPLETE


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for each in Outcome:
        (folder / f"{each}.html").write_text(page_of(each), encoding="utf-8")
