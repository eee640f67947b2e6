"""The terminal's last screen: what was done, what was decided and why, where the reports are, what to do next."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_guard.flow.model import GateOutcome, Mode, Outcome, Phase
from deploy_guard.flow.record import Record
from deploy_guard.printable import counted, one_line, shortened
from deploy_guard.report.text import told

if TYPE_CHECKING:
    from deploy_guard.session.run import Run

_GOOD = (Outcome.SHIPPED, Outcome.UNCHANGED, Outcome.PLANNED, Outcome.CHECKED)


_NOTES = 10
"""Notes that stand on the last screen."""
_CHANGES, _DIFF = 50, 120
"""Of a plan: changes that are named one by one, and lines of diffs, if all of them are not more than that."""


def lines(run: Run, record: Record, *, whole: bool = True) -> list[str]:
    """Return the last screen, line by line, without colours, and without what could move a cursor.

    :param whole: nobody else has shown what failed steps said, so all of it stands here.
    """
    target = f"   {record.target}" if record.target else ""
    was = f", was {record.previous}" if record.previous else ""
    shown = [f"deploy-guard: {record.subject} -> {record.env}{target}{was}"]
    by_root: Counter[str] = Counter()
    for source in record.sources:
        by_root[source["package"] or f"{source['root']}/"] += source["gates"]
    sources = ", ".join(f"{name} ({number})" for name, number in by_root.items())
    where = _short(run.config.path) if run.config.path is not None else ""
    if sources or where:
        shown.append(f"gates: {sources or 'none'}{'   ' + where if where else ''}")
    shown += [f"note: {notice}" for notice in shortened(record.notices, _NOTES)]
    gates = [gate for gate in record.gates if gate.phase is Phase.GATE]
    seconds = sum(gate.seconds for gate in gates)
    if record.mode is not Mode.BACK:
        shown.append(_row(counted(len(gates), "gate"), record.counts, seconds))
    for step in record.steps:
        first = (step.message.splitlines() or [""])[0]
        passed = step.outcome == "passed"
        shown.append(_row(step.name, first if passed else f"{step.outcome.upper()}: {first}", step.seconds))
        if step.name == "wait":
            shown += _checks(record)
    if not any(step.name == "wait" for step in record.steps):
        shown += _checks(record)
    shown.append("")
    shown.append(f"=== {record.headline} ({record.seconds:.1f} s, exit {record.exit_code}) ===")
    for reason in record.reasons:
        text = (reason.text if whole else told(reason.text).brief).replace("\n", "\n            ")
        shown.append(f"{reason.severity!s:<11} {reason.id + ': ' if reason.id else ''}{text}")
    shown.append(f"{'reports':<11} {_short(run.folder / 'gate-report.html')}   junit.xml   verdict.json   audit.jsonl")
    shown.append(f"{'next':<11} {record.next_step}")
    if record.mode is Mode.PLAN and record.changes:
        shown += ["", *_plan(record)]
    return [one_line(line) for text in shown for line in run.redactor.redact(text).expandtabs(4).split("\n")]


def is_good(record: Record) -> bool:
    """True for an outcome that deserves green."""
    asked = record.mode is Mode.BACK and record.outcome is Outcome.ROLLED_BACK
    return (asked or record.outcome in _GOOD) and record.exit_code == 0


def _plan(record: Record) -> list[str]:
    """Return what would change, with its diffs where they are few; what stays as it is, as a number."""
    changes = [change for change in record.changes if change["action"] != "none"]
    same = len(record.changes) - len(changes)
    with_diffs = sum(change["diff"].count("\n") + 1 for change in changes if change["diff"]) <= _DIFF
    named: list[str] = []
    for change in changes:
        diff = change["diff"].rstrip("\n").replace("\n", "\n          ") if with_diffs else ""
        named.append(f"  {change['action']:<7} {change['object']}" + (f"\n          {diff}" if diff else ""))
    shown = shortened(named, _CHANGES)
    if len(named) > _CHANGES:
        shown[-1] = f"  {shown[-1]}: plan.json"
    return [*shown, *([f"  {counted(same, 'object')} unchanged"] if same else [])]


def _checks(record: Record) -> list[str]:
    rows = []
    for gate in record.gates:
        if gate.phase is Phase.POST_CHECK and gate.outcome is not GateOutcome.NOT_APPLICABLE:
            name = gate.id.rsplit("::", 1)[-1]
            rows.append(_row("post-check", f"{name:<38} {str(gate.outcome).upper()}", gate.seconds))
    return rows


def _row(name: str, text: str, seconds: float) -> str:
    width = 62
    shown = text if len(text) <= width else text[: width - 1] + "…"
    return f"{name:<10} {shown:<{width}} {seconds:6.1f} s"


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
