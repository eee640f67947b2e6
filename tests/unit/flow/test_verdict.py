from __future__ import annotations

import itertools

import pytest

from deploy_guard.flow.model import GateOutcome, GateResult, Outcome, Phase, Reason, Severity, measure
from deploy_guard.flow.verdict import exit_code, gate_reason, judge, outcome_under

GOOD = GateResult("good", Severity.CRITICAL, Phase.GATE, GateOutcome.PASSED)


def result(severity: Severity, outcome: GateOutcome, phase: Phase = Phase.GATE) -> GateResult:
    return GateResult("g", severity, phase, outcome, message="why")


def expected(severity: Severity, outcome: GateOutcome) -> tuple[bool, int]:
    """The table of the specification, written out apart from the code."""
    if outcome in (GateOutcome.PASSED, GateOutcome.WARNED, GateOutcome.WAIVED, GateOutcome.NOT_APPLICABLE):
        return True, 0
    if outcome is GateOutcome.NOT_RUN:
        return False, 1
    if severity is Severity.WARN:
        return True, 0
    return False, 2 if severity is Severity.CRITICAL else 1


@pytest.mark.parametrize(("severity", "outcome"), list(itertools.product(Severity, GateOutcome)))
def test_each_severity_with_each_outcome(severity: Severity, outcome: GateOutcome) -> None:
    verdict = judge([GOOD, result(severity, outcome)])
    assert (verdict.go, verdict.exit_code) == expected(severity, outcome)
    assert verdict.go == (not [r for r in verdict.reasons if r.severity is not Severity.WARN])


@pytest.mark.parametrize("pair", list(itertools.product(itertools.product(Severity, GateOutcome), repeat=2)))
def test_two_gates_are_as_bad_as_the_worse_of_them(
    pair: tuple[tuple[Severity, GateOutcome], tuple[Severity, GateOutcome]],
) -> None:
    verdict = judge([GOOD, *(result(*one) for one in pair)])
    wanted = [expected(*one) for one in pair]
    assert verdict.go == all(go for go, _ in wanted)
    assert verdict.exit_code == max(code for _, code in wanted)


def test_nothing_collected_is_no_go() -> None:
    assert judge([]) == judge([result(Severity.CRITICAL, GateOutcome.PASSED, Phase.POST_CHECK)])
    assert (judge([]).go, judge([]).exit_code) == (False, 2)
    assert "no gate was collected" in judge([]).reasons[0].text


def test_nothing_applicable_is_no_go() -> None:
    verdict = judge([result(Severity.CRITICAL, GateOutcome.NOT_APPLICABLE)])
    assert (verdict.go, verdict.exit_code) == (False, 2)
    assert "no gate applies" in verdict.reasons[0].text


@pytest.mark.parametrize(
    ("severity", "go", "code"), [("critical", False, 2), ("recoverable", False, 1), ("warn", True, 0)]
)
def test_problems_withhold_by_their_severity(severity: str, go: bool, code: int) -> None:
    verdict = judge([GOOD], [Reason("x", Severity(severity), "text")])
    assert (verdict.go, verdict.exit_code) == (go, code)


def test_reasons_stand_worst_first() -> None:
    reasons = judge(
        [
            result(Severity.WARN, GateOutcome.FAILED),
            result(Severity.RECOVERABLE, GateOutcome.FAILED),
            result(Severity.CRITICAL, GateOutcome.FAILED),
        ]
    ).reasons
    assert [r.severity for r in reasons] == [Severity.CRITICAL, Severity.RECOVERABLE, Severity.WARN]


def test_a_reason_names_endings_that_are_no_plain_failure() -> None:
    reason = gate_reason(result(Severity.CRITICAL, GateOutcome.TIMED_OUT))
    assert reason is not None
    assert (reason.code, reason.text) == ("gate-timed-out", "timed out: why")
    assert gate_reason(GOOD) is None


@pytest.mark.parametrize(("outcome", "severity"), list(itertools.product(Outcome, [None, *Severity])))
def test_exit_codes_follow_the_table(outcome: Outcome, severity: Severity | None) -> None:
    reasons = [Reason("x", severity, "text")] if severity else []
    worst = severity.exit_code if severity else 0
    done = outcome in (Outcome.SHIPPED, Outcome.UNCHANGED, Outcome.PLANNED, Outcome.CHECKED)
    wanted = worst if done else max(1, worst) if outcome is Outcome.WITHHELD else 2
    assert exit_code(outcome, reasons) == wanted


def test_a_warn_gate_that_was_started_only_warns_but_not_one_that_was_not() -> None:
    assert outcome_under(Severity.WARN, GateOutcome.DIED) is GateOutcome.WARNED
    assert outcome_under(Severity.WARN, GateOutcome.NOT_RUN) is GateOutcome.NOT_RUN
    assert outcome_under(Severity.CRITICAL, GateOutcome.FAILED) is GateOutcome.FAILED


@pytest.mark.parametrize(
    ("value", "worse", "status"),
    [
        (74.9, "above", "ok"),
        (75, "above", "warn"),
        (84.9, "above", "warn"),
        (85, "above", "fail"),
        (float("inf"), "above", "fail"),
        (None, "above", "no-data"),
        (float("nan"), "above", "no-data"),
        (86, "below", "ok"),
        (85, "below", "warn"),
        (75, "below", "fail"),
        (float("-inf"), "below", "fail"),
    ],
)
def test_at_a_limit_counts_as_past_it(value: float | None, worse: str, status: str) -> None:
    warn, fail = (75, 85) if worse == "above" else (85, 75)
    assert measure("x", value, warn=warn, fail=fail, worse=worse).status == status


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"worse": "sideways"}, "'above' or 'below'"),
        ({"warn": 90, "fail": 80}, "swap them"),
        ({"warn": 70, "fail": 80, "worse": "below"}, "swap them"),
        ({"warn": float("nan")}, "is not a number"),
        ({"fail": "80"}, "is not a number"),
    ],
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure("x", 1, **options)  # type: ignore[arg-type]


def test_evidence_reads_aloud() -> None:
    assert measure("disk /", 63.0, warn=75, fail=85, unit="%").text == "disk / 63 % (warn 75, fail 85)"
    assert measure("memory", None, fail=85, unit="%").text == "memory no data (fail 85)"
    assert measure("x", float("inf"), fail=1).to_json()["value"] == "inf"
