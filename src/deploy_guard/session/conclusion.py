"""What is concluded at the end: why not, from where, and what the record says of a rollout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.flow import release as way
from deploy_guard.flow.model import GateOutcome, GateResult, Mode, Outcome, Phase, Reason, Severity, StepResult
from deploy_guard.flow.record import Record
from deploy_guard.flow.rollout import Rollout
from deploy_guard.flow.verdict import gate_reason
from deploy_guard.roots import Root, holding
from deploy_guard.session.gates import SPEC
from deploy_guard.session.results import is_post_check
from deploy_guard.session.run import Run


def later_reasons(results: Iterable[GateResult], steps: Iterable[StepResult]) -> list[Reason]:
    """Return the reasons that arose after the verdict on the gates: failed steps and post-checks."""
    reasons = []
    for result in results:
        ran = result.outcome is not GateOutcome.NOT_RUN and result.phase is Phase.POST_CHECK
        if ran and (reason := gate_reason(result)) is not None:
            reasons.append(reason)
    for step in steps:
        if step.outcome == "failed":
            # What is verified serves: a tag can be made up for by the next run.
            severity = Severity.RECOVERABLE if step.name == way.TAG else Severity.CRITICAL
            code, text = f"{step.name}-failed", step.message or "failed"
            reasons.append(Reason(code, severity, text, f"rollout::{step.name}"))
    return reasons


def way_back_problems(
    run: Run, problems: Sequence[Reason], *, can_be_taken_back: bool
) -> tuple[list[Reason], list[str]]:
    """Return what keeps a run from going back on request, and what is only told.

    No gate is asked: what is wrong with gates must not keep anybody from going back.
    """
    weighs = [problem for problem in problems if problem.code in ("interrupted", "died", "timed-out")]
    told = [f"{problem.id}: {problem.text}" for problem in problems if problem not in weighs]
    if run.config.rollback == "off":
        weighs.append(Reason("rollback-off", Severity.RECOVERABLE, 'the configuration says rollback = "off"'))
    elif run.death is None and not can_be_taken_back:
        text = f"there is nothing to go back from: no rollout to {run.env} is recorded in {run.state_folder}"
        weighs.append(Reason("nothing-to-take-back", Severity.RECOVERABLE, text))
    return weighs, told


def describe(record: Record, rollout: Rollout, run: Run) -> None:
    """Fill in what the rollout knows."""
    record.target = rollout.target
    record.driver = rollout.driver_name or record.driver
    record.previous = rollout.previous
    record.recovered = rollout.recovered
    record.version = rollout.release.version
    record.commit, record.branch = rollout.release.commit, rollout.release.branch
    if rollout.plan_ is not None:
        redact = run.redactor.redact
        record.digest = rollout.plan_.digest
        record.changes = [
            {"action": c.action, "object": redact(c.object), "diff": redact(c.diff)} for c in rollout.plan_.changes
        ]
    record.notices += rollout.notices()


def sources(items: Iterable[pytest.Item], roots: Sequence[Root]) -> list[dict[str, Any]]:
    """Count the gates of each root, for people who want to know which rules were applied."""
    counted: Counter[Root | None] = Counter()
    files: dict[Path, Root | None] = {}
    for item in items:
        if item.path not in files:
            files[item.path] = holding(roots, item.path)
        if SPEC in item.stash and not is_post_check(item):
            counted[files[item.path]] += 1
    return [{"root": root.name, "package": root.package or None, "gates": counted[root]} for root in roots]


def why_not_reached(outcome: Outcome, steps: Iterable[StepResult], *, told_to_end: bool) -> str:
    """Return why the rows that are left did not get their turn."""
    failed = next((step.name for step in steps if step.outcome == "failed"), "")
    if failed:
        return f"withheld: {failed} failed"
    if outcome is Outcome.PLANNED:
        return "planned only: --deploy-plan"
    if told_to_end:
        return "withheld: the run was interrupted"
    return "rolled back before it was reached"


STEPS = {
    Mode.DEPLOY: (way.PLAN, way.SNAPSHOT, way.APPLY, way.WAIT),
    Mode.PLAN: (way.PLAN,),
    Mode.CHECK: (),
    Mode.BACK: (way.RETRIEVE,),
}
"""The steps that each kind of run holds back until the gates are judged."""
