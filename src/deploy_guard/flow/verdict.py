"""The verdict: a pure function of what was recorded. The only place that decides exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from deploy_guard.flow.model import GateOutcome, GateResult, Mode, Outcome, Phase, Reason, Severity, Verdict, Waiver

_SAID = {
    GateOutcome.FAILED: "failed",
    GateOutcome.ERROR: "ended with an error in set-up or teardown",
    GateOutcome.TIMED_OUT: "timed out",
    GateOutcome.DIED: "died",
    GateOutcome.SKIPPED: "was skipped",
    GateOutcome.NOT_RUN: "was not run",
}


def outcome_under(severity: Severity, outcome: GateOutcome) -> GateOutcome:
    """Return what an outcome means under a severity: a ``warn`` gate that was started never stops a release.

    One that was never started (``not-run``) withholds like any other.
    """
    started = outcome not in (GateOutcome.NOT_RUN, GateOutcome.NOT_APPLICABLE)
    if severity is Severity.WARN and started and not outcome.lets_pass:
        return GateOutcome.WARNED
    return outcome


def waive(result: GateResult, waiver: Waiver) -> GateResult:
    """Return the result of a gate that somebody answers for: a failure is ``waived``, anything else is left as it is.

    A gate that died or was not run can't be waived: nobody knows what it would have said.
    """
    if result.outcome in (GateOutcome.FAILED, GateOutcome.ERROR, GateOutcome.TIMED_OUT, GateOutcome.SKIPPED):
        return replace(result, outcome=GateOutcome.WAIVED, waiver=waiver)
    return result


def judge(gates: Iterable[GateResult], problems: Sequence[Reason] = (), *, none_needed: bool = False) -> Verdict:
    """Judge the gates of a session.

    :param gates: the result of every collected gate; those of other phases are ignored.
    :param problems: what stands in the way beside the gates' own results: an incomplete collection, an interruption.
    :param none_needed: no gate was asked, as on the way back from what is there.
    :returns: go only if every applicable gate lets the release pass, there is at least one, and no problem weighs
        more than a warning.
    """
    judged = [gate for gate in gates if gate.phase is Phase.GATE]
    reasons = list(problems)
    reasons += [reason for gate in judged if not gate.blocked and (reason := gate_reason(gate)) is not None]
    if not any(reason.severity is not Severity.WARN for reason in reasons):
        # What blocked them speaks for them; where nothing does, each speaks for itself.
        reasons += [reason for gate in judged if gate.blocked and (reason := gate_reason(gate)) is not None]
    applicable = [gate for gate in judged if gate.outcome is not GateOutcome.NOT_APPLICABLE]
    if not applicable and not none_needed and not any(r.severity is Severity.CRITICAL for r in problems):
        text = (
            "no gate applies to this environment" if judged else "no gate was collected"
        ) + ": nothing was checked, so nothing ships"
        reasons.append(Reason("no-gates", Severity.CRITICAL, text))
    blocking = [reason for reason in reasons if reason.severity is not Severity.WARN]
    code = max((reason.severity.exit_code for reason in reasons), default=0)
    return Verdict(not blocking, code, tuple(sorted(reasons, key=_weight)))


def gate_reason(gate: GateResult) -> Reason | None:
    """Return why this gate or post-check withholds, or warns; None where it has nothing to say."""
    outcome = outcome_under(gate.severity, gate.outcome)
    if outcome is GateOutcome.WARNED:
        return Reason("warning", Severity.WARN, gate.message or "warned", gate.id)
    if outcome is GateOutcome.WAIVED and gate.waiver is not None:
        text = f"waived by {gate.waiver.by}: {gate.waiver.reason}; it said: {gate.message or 'nothing'}"
        return Reason("waived", Severity.WARN, text, gate.id)
    if outcome.lets_pass:
        return None
    # Not run is doubt, not a finding: whatever the gate's severity, running it may show that all is well.
    severity = Severity.RECOVERABLE if outcome is GateOutcome.NOT_RUN else gate.severity
    said = _SAID[outcome]
    # A failure speaks for itself; the other endings are named, because their message alone may read like a pass.
    text = gate.message or said
    if outcome is not GateOutcome.FAILED and gate.message:
        text = f"{said}: {gate.message}"
    return Reason(f"{gate.phase}-{outcome}", severity, text, gate.id)


def exit_code(outcome: Outcome, reasons: Iterable[Reason], mode: Mode = Mode.DEPLOY) -> int:
    """Return the exit code of a run: 0 done, 1 recoverable, 2 critical (the table in docs/architecture.md).

    A run that was asked to deploy and did not deploy never gives 0.
    """
    worst = max((reason.severity.exit_code for reason in reasons), default=0)
    asked = outcome is Outcome.ROLLED_BACK and mode is Mode.BACK
    if asked or outcome in (Outcome.SHIPPED, Outcome.UNCHANGED, Outcome.PLANNED, Outcome.CHECKED):
        return worst
    if outcome is Outcome.WITHHELD:
        return max(1, worst)
    return 2


def _weight(reason: Reason) -> int:
    return -reason.severity.exit_code
