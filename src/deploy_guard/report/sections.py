"""The page's other sections: why, how long, what was planned, what the steps said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy_guard.flow.model import GateOutcome, GateResult, Outcome, Phase, Reason, Severity, StepOutcome, StepResult
from deploy_guard.flow.record import Record
from deploy_guard.flow.release import WAIT
from deploy_guard.printable import counted
from deploy_guard.report.rows import BUDGET, evidence, said_by, seconds, shown_output
from deploy_guard.report.text import Writer, cut
from deploy_guard.report.transcript import Transcript

MOST = 25
"""Reasons, and changes, that stand in the open; the rest are one click away."""
DIFF_LINES = 12
"""Lines of a diff that stand in the open."""

_MARKUP = 32
"""Characters around each line of a diff."""

_WORDS = {Severity.CRITICAL: "critical", Severity.RECOVERABLE: "recoverable", Severity.WARN: "warning"}
_ACTIONS = {"create": "created", "change": "changed", "remove": "removed"}


@dataclass(frozen=True)
class Span:
    """One stretch of the run's time. ``state`` is a step's outcome, or empty."""

    name: str
    seconds: float
    state: str = ""
    said: str = ""
    anchor: str = ""


def spans(record: Record, anchors: Mapping[str, str]) -> list[Span]:
    """Return what the run's time went into, in order; post-checks come where they ran, after the last wait."""
    gates = [gate for gate in record.gates if gate.phase is Phase.GATE]
    found = [Span("gates", record.gates_seconds or _total(gates), "", record.counts, "gates")] if gates else []
    checks = [g for g in record.gates if g.phase is Phase.POST_CHECK and g.outcome is not GateOutcome.NOT_APPLICABLE]
    ran = [check for check in checks if check.outcome is not GateOutcome.NOT_RUN]
    waits = [place for place, step in enumerate(record.steps) if step.name == WAIT]
    for place, step in enumerate(record.steps):
        if step.outcome is not StepOutcome.SKIPPED:
            first = (step.message.strip().splitlines() or [""])[0]
            anchor = anchors.get(step.name, "")
            found.append(Span(_short(step.name), step.seconds, str(step.outcome), first, anchor))
        if ran and waits and place == waits[-1]:
            failed = [f"{_short(check.id)} {check.outcome}" for check in ran if not check.outcome.lets_pass]
            said = ", ".join(failed) or f"{len(ran)} passed"
            found.append(Span("post-checks", _total(ran), "failed" if failed else "passed", said, "gates"))
    return found


def node_id(step: str) -> str:
    """Return pytest's id of a step's row; that of a rollback fixture is its name already."""
    return step if "::" in step else f"rollout::{step}"


def why(reasons: Iterable[Reason], gates: Mapping[str, GateResult], anchors: Mapping[str, str], write: Writer) -> str:
    """Return the reasons, the worst first, each with what its gate measured."""
    items = [_reason(reason, gates.get(reason.id), anchors.get(reason.id, ""), write) for reason in reasons]
    if not items:
        return ""
    shown = f'<ul class="why">{"".join(items[:MOST])}</ul>'
    if more := items[MOST:]:
        shown += f'<details><summary>{len(more)} more reasons</summary><ul class="why">{"".join(more)}</ul></details>'
    return f'<section aria-labelledby="why"><h2 id="why">Why</h2>{shown}</section>'


def time(record: Record, anchors: Mapping[str, str], write: Writer) -> str:
    """Return the timeline, to scale; the longest stretch is marked."""
    found = spans(record, anchors)
    total = sum(span.seconds for span in found)
    skipped = _skipped(record, write)
    if not total:
        return f'<section aria-labelledby="time"><h2 id="time">Time</h2>{skipped}</section>' if skipped else ""
    longest = max(found, key=lambda span: span.seconds)
    rows, start = [], 0.0
    for span in found:
        name = write(span.name)
        label = f'<a href="#{span.anchor}">{name}</a>' if span.anchor else name
        mark = " longest" if span is longest and len(found) > 1 else ""
        note = ' <span class="tag">longest</span>' if mark else ""
        state = f'<span class="state">{span.state}</span> ' if span.state not in ("", "passed") else ""
        rows.append(
            f'<li class="{span.state or "gates"}{mark}"><span class="n">{label}</span> '
            f'<span class="track"><i style="left:{100 * start / total:.2f}%;width:{100 * span.seconds / total:.2f}%">'
            f'</i></span> <span class="s">{seconds(span.seconds)}</span> '
            f'<span class="m">{state}{write(cut(span.said, 300))}{note}</span></li>'
        )
        start += span.seconds
    shown = f'<ol class="time">{"".join(rows)}</ol>{skipped}'
    return f'<section aria-labelledby="time"><h2 id="time">Time</h2>{shown}</section>'


def plan(record: Record, write: Writer) -> str:
    """Return the plan's changes as readable diffs; after a rollback they are marked as restored."""
    changes = [change for change in record.changes if change["action"] != "none"]
    same = len(record.changes) - len(changes)
    if not record.changes:
        return ""
    back = record.outcome is Outcome.ROLLED_BACK
    undone = {"create": "removed again"}
    tags = [f' <span class="tag good">{undone.get(c["action"], "restored")}</span>' if back else "" for c in changes]
    items, budget = [], BUDGET
    for change, tag in zip(changes, tags, strict=True):
        budget -= len(change["diff"]) + _MARKUP * change["diff"].count("\n")
        items.append(_change(change, tag, write, fits=budget > 0))
    shown = f'<ul class="plan">{"".join(items[:MOST])}</ul>' if items else ""
    if more := items[MOST:]:
        shown += f'<details><summary>{len(more)} more changes</summary><ul class="plan">{"".join(more)}</ul></details>'
    if same:
        shown += f'<p class="doc">{counted(same, "object")} unchanged</p>'
    return f'<section aria-labelledby="plan"><h2 id="plan">Plan</h2>{shown}</section>'


def notes(record: Record, write: Writer) -> str:
    """Return the release notes, collapsed: what is in the release, in the words of its commits."""
    if not record.notes:
        return ""
    head = f"<summary>Release notes <small>{counted(len(record.notes.splitlines()), 'line')}</small></summary>"
    shown = f"<details>{head}<pre>{write(cut(record.notes))}</pre></details>"
    return f'<section aria-labelledby="notes"><h2 id="notes">Notes</h2>{shown}</section>'


def telling(record: Record, transcript: Transcript) -> list[StepResult]:
    """Return the steps that have more to say than one line of the timeline."""
    return [step for step in record.steps if _says_more(step, transcript)]


def steps(shown: list[StepResult], anchors: Mapping[str, str], transcript: Transcript, write: Writer) -> str:
    """Return what the steps said."""
    items = [_step(step, anchors[step.name], transcript, write) for step in shown]
    if not items:
        return ""
    return f'<section aria-labelledby="steps"><h2 id="steps">Steps</h2><ul class="rows">{"".join(items)}</ul></section>'


def _reason(reason: Reason, gate: GateResult | None, anchor: str, write: Writer) -> str:
    name = write(_short(reason.id) if reason.id else reason.code.replace("-", " "))
    label = f'<a href="#{anchor}">{name}</a>' if anchor else f"<b>{name}</b>"
    measured = [entry for entry in gate.evidence if entry.status in ("warn", "fail", "no-data")] if gate else []
    # Evidence that failed is the reason's own text; the bar says it better than saying it twice.
    known = reason.text in ("; ".join(entry.text for entry in measured), *(entry.text for entry in measured))
    said = "" if known else said_by(reason.text, write)
    return (
        f'<li class="{reason.severity}"><span class="sev">{_WORDS[reason.severity]}</span> {label}'
        f"{said}{evidence(measured, write) if measured else ''}</li>"
    )


def _change(change: Mapping[str, str], restored: str, write: Writer, *, fits: bool) -> str:
    action = change["action"]
    said = write(_ACTIONS.get(action, action))
    head = f'<span class="act {write(action)}">{said}</span> <b>{write(change["object"])}</b>{restored}'
    if not change["diff"].strip():
        return f"<li>{head}</li>"
    if not fits:
        return (
            f"<li>{head} <small>its diff is left out: this page would be too large. verdict.json has it.</small></li>"
        )
    lines = cut(change["diff"]).strip("\n").split("\n")
    state = " open" if len(lines) <= DIFF_LINES else ""
    body = "".join(_diff_line(line, write) for line in lines)
    return (
        f"<li><details{state}><summary>{head} <small>{counted(len(lines), 'line')}</small></summary>"
        f'<pre class="diff">{body}</pre></details></li>'
    )


def _diff_line(line: str, write: Writer) -> str:
    kind = "add" if line.startswith("+") else "del" if line.startswith("-") else "hunk" if line.startswith("@") else ""
    text = f"{write(line)}\n"
    return f'<span class="{kind}">{text}</span>' if kind else text


def _skipped(record: Record, write: Writer) -> str:
    """Return which steps were not run, and why, in a line for each reason."""
    why: dict[str, list[str]] = {}
    for step in record.steps:
        if step.outcome is StepOutcome.SKIPPED:
            why.setdefault(step.message, []).append(_short(step.name))
    return "".join(
        f'<p class="doc">Not run: {write(", ".join(names))}{f" ({write(text)})" if text else ""}</p>'
        for text, names in why.items()
    )


def _says_more(step: StepResult, transcript: Transcript) -> bool:
    output = transcript.of(node_id(step.name))
    spoke = output is not None and any(text.strip() != step.message.strip() for _, text in output.sections)
    return step.outcome is StepOutcome.FAILED or spoke or "\n" in step.message.strip()


def _step(step: StepResult, anchor: str, transcript: Transcript, write: Writer) -> str:
    output = transcript.of(node_id(step.name))
    failed = step.outcome is StepOutcome.FAILED
    more = said_by(step.message, write, is_open=failed) if step.message else ""
    if output is not None:
        more += shown_output(output, write, step.message, is_open=failed)
    name = write(_short(step.name))
    return (
        f'<li id="{anchor}" data-o="{step.outcome}"><p class="head"><span class="o">{step.outcome}</span> '
        f'<span class="name">{name}</span> <span class="s">{seconds(step.seconds)}</span> '
        f'<a href="#{anchor}" aria-label="link to {name}">#</a></p>{more}</li>'
    )


def _total(gates: Iterable[GateResult]) -> float:
    return sum(gate.seconds for gate in gates)


def _short(name: str) -> str:
    return name.rsplit("::", 1)[-1]
