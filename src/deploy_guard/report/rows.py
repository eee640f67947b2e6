"""The page's table of gates and post-checks: failures first, everything filterable, each row with a link of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deploy_guard.flow.model import Evidence, GateOutcome, GateResult, Phase, Severity
from deploy_guard.flow.record import Record
from deploy_guard.printable import counted
from deploy_guard.report.bars import bar
from deploy_guard.report.text import Writer, cut, told
from deploy_guard.report.transcript import Output, Transcript

BUDGET = 2 * 1024 * 1024
"""Characters of captured output on one page; a page that can't be opened proves nothing."""
MANY = 200
"""Rows of a group beyond which the browser lays out only those in view."""
OPEN_LINES = 40
"""Captured output of a failure stands open up to this many lines."""

_BAD = tuple(outcome for outcome in GateOutcome if not outcome.lets_pass)
_ORDER = (*_BAD, GateOutcome.WARNED, GateOutcome.WAIVED, GateOutcome.PASSED, GateOutcome.NOT_APPLICABLE)
_ALWAYS = (GateOutcome.FAILED, GateOutcome.WARNED, GateOutcome.PASSED)
_SEVERITIES = tuple(Severity)


@dataclass
class Table:
    """The gates in the order of the page, each with the id of its row."""

    gates: list[GateResult]
    anchors: Mapping[str, str]


def arrange(record: Record, write: Writer) -> Table:
    """Order the gates: those that did not pass by severity, then warnings, then what passed, then the rest."""
    rank = {outcome: 0 if outcome in _BAD else place for place, outcome in enumerate(_ORDER)}
    weight = {severity: place for place, severity in enumerate(_SEVERITIES)}
    gates = sorted(record.gates, key=lambda gate: (rank[gate.outcome], weight[gate.severity]))
    return Table(gates, {gate.id: write.anchor(gate.id) for gate in gates})


def section(record: Record, table: Table, transcript: Transcript, write: Writer) -> str:
    """Return the whole section."""
    if not table.gates:
        return '<section aria-labelledby="gates"><h2 id="gates">Gates</h2><p>No gate was collected.</p></section>'
    return (
        '<section aria-labelledby="gates"><h2 id="gates">Gates and post-checks</h2>'
        + _toolbar(record, table.gates, write)
        + "".join(_groups(record, table, transcript, write))
        + "</section>"
    )


def word(outcome: GateOutcome, env: str) -> str:
    """Return how an outcome is called."""
    return f"not for {env}" if outcome is GateOutcome.NOT_APPLICABLE else str(outcome).replace("-", " ")


def _toolbar(record: Record, gates: list[GateResult], write: Writer) -> str:
    counts = Counter(gate.outcome for gate in gates)
    shown = [outcome for outcome in _ORDER if counts[outcome] or outcome in _ALWAYS]
    buttons = "".join(
        f' <button type="button" data-show="{outcome}" aria-pressed="false">'
        f"{write(word(outcome, record.env))} <b>{counts[outcome]}</b></button>"
        for outcome in shown
    )
    return (
        '<div class="tools" hidden><div role="group" aria-label="Show gates">'
        f'<button type="button" data-show="" aria-pressed="true">all <b>{len(gates)}</b></button>{buttons}</div> '
        '<label>Search <input type="search" id="search" autocomplete="off" spellcheck="false"></label> '
        f'<p id="count" role="status">{len(gates)} of {len(gates)} shown</p></div>'
    )


def _groups(record: Record, table: Table, transcript: Transcript, write: Writer) -> Iterable[str]:
    names = ("did not pass", "warned", "passed", "not reached", f"not for {record.env}")
    groups: dict[str, list[GateResult]] = {name: [] for name in names}
    bad, warned, passed, later, other = groups.values()
    for gate in table.gates:
        if gate.outcome in (GateOutcome.WARNED, GateOutcome.WAIVED):
            warned.append(gate)
        elif gate.outcome is GateOutcome.PASSED:
            passed.append(gate)
        elif gate.outcome is GateOutcome.NOT_APPLICABLE:
            other.append(gate)
        elif gate.outcome is GateOutcome.NOT_RUN and gate.phase is Phase.POST_CHECK:
            later.append(gate)  # the run ended before its turn; that is no finding
        else:
            bad.append(gate)
    budget = BUDGET
    for name, gates in groups.items():
        if not gates:
            continue
        rows = []
        for gate in gates:
            output = transcript.of(gate.id)
            if output is not None:
                budget -= output.size
            rows.append(_row(gate, record.env, table.anchors[gate.id], output, write, fits=budget > 0))
        is_open = " open" if gates is bad or gates is warned else ""
        kinds = "group" + (" many" if len(gates) > MANY else "") + (" later" if gates is later else "")
        yield (
            f'<details class="{kinds}"{is_open}><summary><h3>{len(gates)} {write(name)}</h3></summary>'
            f'<ul class="rows">{"".join(rows)}</ul></details>'
        )


def _row(gate: GateResult, env: str, anchor: str, output: Output | None, write: Writer, *, fits: bool) -> str:
    file, _, name = gate.id.partition("::")
    label = write(name or file)
    said = word(gate.outcome, env) if gate.outcome is not GateOutcome.NOT_APPLICABLE else f"not for {write(env)}"
    phase = "" if gate.phase is Phase.GATE else ' <span class="tag">post-check</span>'
    more, texts = "", [entry.text for entry in gate.evidence]
    if gate.doc:
        more += f'<p class="doc">{write(gate.doc)}</p>'
    if gate.message and gate.message not in (*texts, "; ".join(texts)):
        more += said_by(gate.message, write, is_open=not gate.outcome.lets_pass)
    if gate.evidence:
        more += evidence(gate.evidence, write)
    if output is not None:
        more += shown_output(output, write, gate.message, is_open=not gate.outcome.lets_pass, fits=fits)
    return (
        f'<li id="{anchor}" data-o="{gate.outcome}"><p class="head"><span class="o">{said}</span> '
        f'<span class="name">{label}</span> <small>{write(file)}</small>{phase} '
        f'<span class="sev">{gate.severity}</span> '
        f'<span class="s">{seconds(gate.seconds)}</span> <a href="#{anchor}" aria-label="link to {label}">#</a>'
        f"</p>{more}</li>"
    )


def evidence(entries: Iterable[Evidence], write: Writer) -> str:
    """Return what was measured, each with its bar."""
    rows = "".join(
        f'<li class="{entry.status}"><span>{write(entry.text)}</span> {bar(entry)}</li>' for entry in entries
    )
    return f'<ul class="ev">{rows}</ul>'


def shown_output(output: Output, write: Writer, message: str = "", *, is_open: bool, fits: bool = True) -> str:
    """Return tracebacks and captured texts, each to be opened, but for what ``message`` has said already."""
    if not fits:
        return '<p class="doc">Its output is left out: this page would be too large. junit.xml has it.</p>'
    parts = []
    for title, text in [*((f"Failure in {phase}", text) for phase, text in output.failures), *output.sections]:
        if text.strip() == message.strip():
            continue
        parts.append(block(title, text, write, is_open=is_open))
    return "".join(parts)


def said_by(text: str, write: Writer, *, is_open: bool = False) -> str:
    """Return what somebody said: a short text as it is, of a long one the first line, the rest folded away."""
    found = told(text)
    shown = f'<p class="said">{write(found.first)}</p>'
    if found.rest:
        shown += block("More", found.rest, write, is_open=is_open)
    if found.following:
        shown += f'<p class="said">next: {write(cut(found.following))}</p>'
    return shown


def block(title: str, text: str, write: Writer, *, is_open: bool) -> str:
    """Return a text of many lines, to be opened; a short one may stand open."""
    lines = text.strip("\n").count("\n") + 1
    state = " open" if is_open and lines <= OPEN_LINES else ""
    return (
        f'<details class="out"{state}><summary>{write(title)} <small>{counted(lines, "line")}</small></summary>'
        f"<pre>{write.block(text)}</pre></details>"
    )


def seconds(value: float) -> str:
    """Return a duration for people."""
    if value >= 600:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{value:.1f} s" if value >= 0.95 else f"{1000 * value:.0f} ms"
