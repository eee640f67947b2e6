"""From pytest's reports to results: what each gate demonstrably did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import getdoc
from typing import Any

import pytest

from deploy_guard.flow.model import Evidence, GateOutcome, GateResult, Phase, Waiver
from deploy_guard.flow.verdict import outcome_under, waive
from deploy_guard.session.gates import SPEC, GateSpec
from deploy_guard.session.marking import DATA


@dataclass
class Seen:
    """All that was reported of one item."""

    spec: GateSpec
    doc: str = ""
    phases: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    reruns: int = 0
    message: str = ""
    notes: list[str] = field(default_factory=list)
    raised: bool = False
    timed_out: bool = False
    died: bool = False
    failed_in: str = ""
    skipped: bool = False
    blocked: bool = False
    evidence: list[dict[str, Any]] = field(default_factory=list)
    result: GateResult | None = None
    """What all of this amounts to, once asked for; None again when more is reported."""


class Results:
    """The results of a session, by item. Two items with one id never get here: they are a collection error."""

    def __init__(self, waivers: Mapping[str, Waiver]) -> None:
        self._waivers = waivers
        self._seen: dict[str, Seen] = {}
        self._early: dict[str, list[pytest.TestReport]] = {}

    def expect(self, item: pytest.Item) -> None:
        """Say that this item was collected; until a report says otherwise it has not run."""
        doc = getdoc(getattr(item, "obj", None)) if getattr(item, "obj", None) is not None else ""
        self._seen[item.nodeid] = Seen(item.stash[SPEC], (doc or "").strip())
        for report in self._early.pop(item.nodeid, ()):
            self.add(report)

    def of(self, node_id: str) -> GateResult:
        """Return the result so far of one item."""
        seen = self._seen[node_id]
        if seen.result is None:
            seen.result = _result(node_id, seen)
            if node_id in self._waivers:
                seen.result = waive(seen.result, self._waivers[node_id])
        return seen.result

    def find(self, node_id: str) -> GateResult | None:
        """Return the result so far of an item that may be none of ours."""
        known = self._known(node_id)
        return self.of(known) if known is not None else None

    def all(self) -> list[GateResult]:
        """Return the results of all items, in collection order."""
        return [self.of(node_id) for node_id in self._seen]

    def unknown(self) -> list[str]:
        """Return the ids of what was reported, and is no item of this session."""
        return list(self._early)

    def timeout(self, node_id: str) -> float | None:
        """Return the time limit of an item in seconds; None for one that is not known."""
        seen = self._find(node_id)
        return seen.spec.timeout if seen is not None else None

    def phases(self, node_id: str) -> set[str]:
        """Return the phases of an item that were reported; empty for one that is not a gate or post-check."""
        seen = self._seen.get(node_id)
        return set(seen.phases) if seen is not None else set()

    def add(self, report: pytest.TestReport) -> None:
        """Take in one report."""
        seen = self._find(report.nodeid)
        if seen is None:
            # Under xdist the controller collects after the workers have reported; steps stay here for good.
            self._early.setdefault(report.nodeid.rsplit("@", 1)[0], []).append(report)
            return
        seen.result = None
        outcome: str = report.outcome
        if outcome == "rerun":  # pytest-rerunfailures' own word
            seen.reruns += 1
            return
        data = getattr(report, DATA, None) or {}
        if data.get("not_run"):
            # A row for people; nothing ran.
            seen.message = seen.message or data["not_run"]
            seen.blocked = bool(data.get("blocked"))
            return
        seen.seconds += report.duration
        if report.when is not None:
            before = seen.phases.get(report.when)
            # Several reports of one phase (subtests): the worst stays.
            seen.phases[report.when] = report.outcome if before in (None, "passed") else before
        xfail = hasattr(report, "wasxfail")
        if report.outcome == "passed" and not data and not xfail:
            return
        seen.raised |= bool(data.get("raised"))
        seen.timed_out |= bool(data.get("timed_out"))
        # xdist's word for the test that a worker crashed in is a report whose phase is "???".
        seen.died |= bool(data.get("died")) or str(report.when) not in ("setup", "call", "teardown")
        if data.get("evidence"):
            seen.evidence = data["evidence"]
        if report.outcome == "failed" or data.get("warned") or data.get("waived"):
            seen.failed_in = seen.failed_in or str(report.when)
        elif report.outcome == "skipped" or xfail:
            seen.skipped = True
            if xfail:
                seen.notes.append(f"marked as an expected failure ({report.outcome})")
        if not seen.message:
            seen.message = data.get("message") or _longrepr(report)

    def _find(self, node_id: str) -> Seen | None:
        known = self._known(node_id)
        return self._seen[known] if known is not None else None

    def _known(self, node_id: str) -> str | None:
        # pytest-xdist's loadgroup distribution appends the group to the id.
        return next((name for name in (node_id, node_id.rsplit("@", 1)[0]) if name in self._seen), None)


def _result(node_id: str, seen: Seen) -> GateResult:
    outcome, message = _outcome(seen)
    evidence = tuple(Evidence(**entry) for entry in seen.evidence)
    limits = [entry.text for entry in evidence if entry.status == "warn"]
    if outcome is GateOutcome.PASSED and limits:
        outcome, message = GateOutcome.WARNED, "; ".join(limits)
    outcome = outcome_under(seen.spec.severity, outcome)
    return GateResult(
        node_id,
        seen.spec.severity,
        seen.spec.phase,
        outcome,
        seen.seconds,
        message,
        evidence,
        seen.doc,
        blocked=seen.blocked and outcome is GateOutcome.NOT_RUN,
    )


def _outcome(seen: Seen) -> tuple[GateOutcome, str]:
    if not seen.spec.applicable:
        return GateOutcome.NOT_APPLICABLE, ""
    if not seen.phases and not seen.failed_in:
        return GateOutcome.NOT_RUN, seen.message or "it was collected, and nothing says that it ran"
    if seen.died:
        return GateOutcome.DIED, seen.message
    if seen.timed_out:
        return GateOutcome.TIMED_OUT, seen.message
    if seen.failed_in:
        failed = GateOutcome.FAILED if seen.failed_in == "call" else GateOutcome.ERROR
        return failed, seen.message
    if seen.skipped:
        return GateOutcome.SKIPPED, "; ".join([*seen.notes, seen.message]).strip("; ")
    missing = [phase for phase in ("setup", "call", "teardown") if seen.phases.get(phase) != "passed"]
    if missing:
        return GateOutcome.NOT_RUN, f"no passed {' and '.join(missing)} was reported"
    if seen.raised:
        return GateOutcome.FAILED, f"it raised, though a plugin reports it as passed: {seen.message}"
    if seen.reruns:
        return GateOutcome.FAILED, f"it passed only after {seen.reruns} rerun(s): a flaky gate has not passed"
    if seen.seconds > seen.spec.timeout:
        return GateOutcome.TIMED_OUT, f"it took {seen.seconds:.1f} s, its limit is {seen.spec.timeout:g} s"
    return GateOutcome.PASSED, ""


def _longrepr(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    wasxfail = getattr(report, "wasxfail", "")
    lines = (wasxfail or report.longreprtext).strip().splitlines()
    return lines[-1] if lines else ""


def is_post_check(item: pytest.Item) -> bool:
    """True for an item that runs after the rollout."""
    return item.stash[SPEC].phase is Phase.POST_CHECK


def is_blocking(item: pytest.Item) -> bool:
    """True for a gate that runs before all others and may keep them from running."""
    return item.stash[SPEC].blocking
