"""The words of the domain as plain, frozen data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """What a failure means for the run."""

    CRITICAL = "critical"
    RECOVERABLE = "recoverable"
    WARN = "warn"

    @property
    def exit_code(self) -> int:
        """The exit code of a run whose worst failure has this severity."""
        return {Severity.CRITICAL: 2, Severity.RECOVERABLE: 1, Severity.WARN: 0}[self]


class Phase(StrEnum):
    """When a test is judged."""

    GATE = "gate"
    POST_CHECK = "post-check"

    @property
    def severities(self) -> tuple[Severity, ...]:
        """The severities that a test of this phase may have."""
        return tuple(Severity) if self is Phase.GATE else (Severity.CRITICAL, Severity.WARN)


class GateOutcome(StrEnum):
    """How one gate or post-check ended."""

    PASSED = "passed"
    WARNED = "warned"
    WAIVED = "waived"
    FAILED = "failed"
    ERROR = "error"
    TIMED_OUT = "timed-out"
    DIED = "died"
    SKIPPED = "skipped"
    NOT_RUN = "not-run"
    NOT_APPLICABLE = "not-applicable"

    @property
    def lets_pass(self) -> bool:
        """True for the outcomes that do not withhold a release."""
        return self in (GateOutcome.PASSED, GateOutcome.WARNED, GateOutcome.WAIVED, GateOutcome.NOT_APPLICABLE)


class StepOutcome(StrEnum):
    """How one step of the rollout ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """How the whole run ended."""

    SHIPPED = "shipped"
    UNCHANGED = "unchanged"
    UNHEALTHY = "unhealthy"
    WITHHELD = "withheld"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"
    PLANNED = "planned"
    CHECKED = "checked"
    INTERRUPTED = "interrupted"
    INCOMPLETE = "incomplete"


class Mode(StrEnum):
    """What was asked for."""

    DEPLOY = "deploy"
    PLAN = "plan"
    CHECK = "check"
    BACK = "back"


@dataclass(frozen=True)
class Evidence:
    """One thing that a gate measured or noted.

    :param value: a number for a threshold, any text or number for a plain record, None where there was no data.
    :param worse: the direction in which the value gets worse, ``above`` or ``below``.
    :param status: ``ok``, ``warn``, ``fail``, ``no-data``, or ``note`` for something that has no limits.
    """

    name: str
    value: float | str | bool | None
    unit: str = ""
    warn: float | None = None
    fail: float | None = None
    worse: str = "above"
    status: str = "note"

    @property
    def text(self) -> str:
        """One line for people: ``disk / 63 % (warn 75, fail 85)``."""
        shown = "no data" if self.status == "no-data" else _number(self.value)
        unit = f" {self.unit}" if self.unit and self.status != "no-data" else ""
        limits = ", ".join(f"{n} {_number(v)}" for n, v in (("warn", self.warn), ("fail", self.fail)) if v is not None)
        return f"{self.name} {shown}{unit}" + (f" ({limits})" if limits else "")

    def to_json(self) -> dict[str, Any]:
        """Return plain data; infinite numbers, which JSON does not have, become text."""
        data = asdict(self)
        if isinstance(self.value, float) and not math.isfinite(self.value):
            data["value"] = str(self.value)
        return data


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measure(
    name: str,
    value: float | None,
    *,
    warn: float | None = None,
    fail: float | None = None,
    unit: str = "",
    worse: str = "above",
) -> Evidence:
    """Judge a value against its limits; at a limit counts as past it.

    None and NaN are ``no-data``, which fails: what was not measured has not passed.

    :raises ValueError: when ``worse`` is neither ``above`` nor ``below``, when a limit is not a number, or when the
        limits are the wrong way round.
    """
    if worse not in ("above", "below"):
        raise ValueError(f"evidence {name!r}: worse={worse!r} is not valid; use 'above' or 'below'")
    for label, limit in (("warn", warn), ("fail", fail)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float)) or math.isnan(limit)):
            raise ValueError(f"evidence {name!r}: {label}={limit!r} is not a number")
    if warn is not None and fail is not None and ((warn > fail) if worse == "above" else (warn < fail)):
        raise ValueError(
            f"evidence {name!r}: warn={warn} lies beyond fail={fail} for values that get worse {worse}; swap them"
        )
    if value is None or not isinstance(value, (int, float)) or math.isnan(value):
        return Evidence(name, None, unit, warn, fail, worse, "no-data")

    def past(limit: float | None) -> bool:
        return limit is not None and (value >= limit if worse == "above" else value <= limit)

    status = "fail" if past(fail) else "warn" if past(warn) else "ok"
    return Evidence(name, value, unit, warn, fail, worse, status)


@dataclass(frozen=True)
class Waiver:
    """A gate's failure that a person answers for, in this run only."""

    by: str
    reason: str


@dataclass(frozen=True)
class GateResult:
    """The recorded result of one gate or post-check.

    :param id: pytest's node id.
    :param seconds: set-up, call and teardown together.
    :param message: why it did not pass, one line or more; empty when it did.
    :param doc: the test's docstring, for reviewers.
    :param blocked: it was not run because a blocking gate had failed.
    :param waiver: who waived its failure, and why.
    """

    id: str
    severity: Severity
    phase: Phase
    outcome: GateOutcome
    seconds: float = 0.0
    message: str = ""
    evidence: tuple[Evidence, ...] = ()
    doc: str = ""
    blocked: bool = False
    waiver: Waiver | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that stands in ``verdict.json``."""
        return {
            "id": self.id,
            "severity": str(self.severity),
            "phase": str(self.phase),
            "outcome": str(self.outcome),
            "seconds": round(self.seconds, 4),
            "message": self.message,
            "evidence": [e.to_json() for e in self.evidence],
            **({"waiver": asdict(self.waiver)} if self.waiver is not None else {}),
        }


@dataclass(frozen=True)
class StepResult:
    """The recorded result of one step of the rollout."""

    name: str
    outcome: StepOutcome
    seconds: float = 0.0
    message: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form that stands in ``verdict.json``."""
        return {**asdict(self), "outcome": str(self.outcome), "seconds": round(self.seconds, 4)}


@dataclass(frozen=True)
class Reason:
    """Why a run ended as it did; ``id`` names the gate, step or file, where there is one."""

    code: str
    severity: Severity
    text: str
    id: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the form that stands in ``verdict.json``."""
        return {"code": self.code, "severity": str(self.severity), "id": self.id, "text": self.text}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reason:
        """Read what :meth:`to_json` gave."""
        return cls(data["code"], Severity(data["severity"]), data["text"], data.get("id", ""))


@dataclass(frozen=True)
class Verdict:
    """Go, or no-go with reasons and an exit code."""

    go: bool
    exit_code: int
    reasons: tuple[Reason, ...] = field(default=())
