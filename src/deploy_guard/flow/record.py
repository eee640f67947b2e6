"""The record of a run: the only source of its outcome, its exit code and every report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from deploy_guard.flow.model import GateOutcome, GateResult, Mode, Outcome, Phase, Reason, Severity, StepResult
from deploy_guard.flow.verdict import exit_code

SCHEMA = 1
TAG_FAILED = "tag-failed"
"""The code of the reason that a verified release could not be tagged."""


@dataclass
class Record:
    """What is known of a run; complete when ``outcome`` is no longer ``incomplete``.

    :param gates_seconds: how long all gates took together, side by side or not; 0 where only their own times are known.
    :param notes: the release notes as plain text, redacted; what commits say in them is anybody's. Empty where there is
        no repository.
    """

    run: str
    name: str
    env: str
    mode: Mode
    version: str | None = None
    commit: str | None = None
    branch: str | None = None
    previous: str | None = None
    driver: str = ""
    target: str = ""
    started: str = ""
    seconds: float = 0.0
    gates_seconds: float = 0.0
    outcome: Outcome = Outcome.INCOMPLETE
    reasons: list[Reason] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    steps: list[StepResult] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    changes: list[dict[str, str]] = field(default_factory=list)
    digest: str = ""
    sources: list[dict[str, Any]] = field(default_factory=list)
    notes: str = ""
    recovered: str = ""
    interrupted: str = ""
    usage_error: bool = False

    @property
    def exit_code(self) -> int:
        """The run's exit code, from outcome and reasons; 4 when nothing ran because of bad usage."""
        if self.usage_error:
            return 4
        return exit_code(self.outcome, self.reasons, self.mode)

    @property
    def counts(self) -> str:
        """How the gates ended, for people: ``20 passed, 1 warned, 2 not for prod``."""
        counter = Counter(gate.outcome for gate in self.gates if gate.phase is Phase.GATE)
        words = {
            outcome: f"not for {self.env}" if outcome is GateOutcome.NOT_APPLICABLE else str(outcome)
            for outcome in GateOutcome
        }
        return ", ".join(f"{counter[o]} {word}" for o, word in words.items() if counter[o]) or "none"

    @property
    def subject(self) -> str:
        """What this run is about: ``shop v1.4.2 (3f9c2e1)``."""
        commit = f" ({self.commit[:7]})" if self.commit else ""
        return f"{self.name} {self.version or 'without a version'}{commit}"

    @property
    def headline(self) -> str:
        """What was decided, in one line."""
        old = self.previous or "nothing"
        what = f"{self.name} {self.version or ''}".strip()
        said = {
            Outcome.SHIPPED: f"SHIPPED: {what} serves in {self.env}",
            Outcome.UNCHANGED: f"UNCHANGED: {what} was serving in {self.env} already",
            Outcome.UNHEALTHY: f"UNHEALTHY: {what} was in {self.env} already, and a check of it fails",
            Outcome.WITHHELD: f"WITHHELD: {what} was not rolled out to {self.env}",
            Outcome.ROLLED_BACK: f"ROLLED BACK: {what} left {self.env}; {old} serves again"
            if self.previous
            else f"ROLLED BACK: {what} left {self.env}; nothing was there before, and nothing is left",
            Outcome.ROLLBACK_FAILED: f"ROLLBACK FAILED: {self.env} needs a person; {old} was there before {what}",
            Outcome.PLANNED: f"PLANNED: {what} for {self.env}; nothing was rolled out",
            Outcome.CHECKED: f"CHECKED: gates only (--no-deploy); nothing was rolled out to {self.env}",
            Outcome.INTERRUPTED: f"INTERRUPTED: {what} was not rolled out to {self.env}",
            Outcome.INCOMPLETE: f"INCOMPLETE: the run for {self.env} did not finish",
        }[self.outcome]
        if self.mode is Mode.BACK and self.outcome in (Outcome.WITHHELD, Outcome.INTERRUPTED):
            return f"{self.outcome.upper()}: nothing was taken back in {self.env}"
        if self.mode is not Mode.DEPLOY and self.outcome is Outcome.WITHHELD:
            said = f"NO-GO: {what} must not be rolled out to {self.env}"
        return said

    @property
    def next_step(self) -> str:
        """What to do now, in one line."""
        first = next((r for r in self.reasons if r.severity is not Severity.WARN), None)
        cause = (first.id or "the reason above") if first else "the reasons above"
        done = f"look at {cause}" if first else "nothing to do"
        if first is not None and first.code == TAG_FAILED:
            done = f"the release serves and stays; mend {cause}, then run again to tag it"
        if self.mode is Mode.BACK and self.outcome in (Outcome.WITHHELD, Outcome.ROLLED_BACK):
            done = "nothing was changed" if self.outcome is Outcome.WITHHELD else "nothing to undo"
            return f"{done}; look at {cause}" if first else "nothing to do"
        return {
            Outcome.SHIPPED: done,
            Outcome.UNCHANGED: done,
            Outcome.UNHEALTHY: f"nothing was changed; look at {cause}, then release a fix",
            Outcome.WITHHELD: f"nothing was changed; mend {cause}, then run again",
            Outcome.ROLLED_BACK: f"nothing to undo; mend {cause}, then release again",
            Outcome.ROLLBACK_FAILED: f"look at {self.target or self.env} now; the next run for {self.env} tries to go "
            "back once more before anything else",
            Outcome.PLANNED: "run again without --deploy-plan to roll out"
            if not first
            else f"mend {cause}, then run again",
            Outcome.CHECKED: "nothing to do; without --no-deploy a run of the gates rolls out"
            if not first
            else f"mend {cause}, then run again",
            Outcome.INTERRUPTED: "nothing was changed; run again",
            Outcome.INCOMPLETE: "read the terminal's output, then run again",
        }[self.outcome]

    def to_json(self) -> dict[str, Any]:
        """Return ``verdict.json`` (``deploy_guard/report/verdict.schema.json``)."""
        return {
            "schema": SCHEMA,
            "run": self.run,
            "name": self.name,
            "env": self.env,
            "mode": str(self.mode),
            "version": self.version,
            "commit": self.commit,
            "branch": self.branch,
            "previous": self.previous,
            "driver": self.driver,
            "target": self.target,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "outcome": str(self.outcome),
            "exit_code": self.exit_code,
            "headline": self.headline,
            "next": self.next_step,
            "recovered": self.recovered or None,
            "interrupted": self.interrupted or None,
            "notices": self.notices,
            "reasons": [reason.to_json() for reason in self.reasons],
            "plan_digest": self.digest or None,
            "changes": self.changes,
            "sources": self.sources,
            "notes": self.notes or None,
            "gates": [gate.to_json() for gate in self.gates],
            "steps": [step.to_json() for step in self.steps],
        }
