"""The gate report: one self-contained page, written once, at the end of a run, from its record."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_guard.flow.model import Outcome, Reason, Severity
from deploy_guard.flow.record import Record
from deploy_guard.ledger.files import write_atomically
from deploy_guard.printable import counted
from deploy_guard.report import rows, sections
from deploy_guard.report.origin import Origin, origin_of
from deploy_guard.report.text import Writer, cut, told
from deploy_guard.report.transcript import Transcript

if TYPE_CHECKING:
    from deploy_guard.session.run import Run

_OWN_IDS = ("decision", "why", "time", "plan", "notes", "steps", "gates", "search", "count")
_LEAD = 3
"""Lines of a reason that stand in the decision; all of them stand under Why."""

_NOTES = 4
"""Notes that stand in the decision, which is to fit on one screen; the rest are one click away."""


def write(run: Run, record: Record, transcript: Transcript | None = None) -> None:
    """Write ``gate-report.html``.

    :raises OSError: when it can't be written.
    """
    origin = origin_of(run, record, os.environ)
    page = render(record, transcript or Transcript(), origin, Writer(run.redactor.redact))
    write_atomically(run.folder / "gate-report.html", page)


def render(record: Record, transcript: Transcript, origin: Origin, write: Writer) -> str:
    """Return the page, in the order in which a reviewer reads it."""
    for name in _OWN_IDS:
        write.anchor(name)
    table = rows.arrange(record, write)
    telling = sections.telling(record, transcript)
    steps = {step.name: write.anchor(sections.node_id(step.name)) for step in telling}
    anchors = {**table.anchors, **{sections.node_id(name): anchor for name, anchor in steps.items()}}
    gates = {gate.id: gate for gate in record.gates}
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = f"{record.headline.partition(':')[0]}: {record.name} {record.version or ''} -> {record.env}"
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; ",
            f"img-src data:; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">',
            f"<title>{write(title)}</title>",
            f"<style>{_resource('page.css')}</style></head><body><main>",
            _decision(record, origin, write),
            sections.why(record.reasons, gates, anchors, write),
            sections.time(record, steps, write),
            sections.plan(record, write),
            sections.notes(record, write),
            sections.steps(telling, steps, transcript, write),
            rows.section(record, table, transcript, write),
            f"</main>{_footer(record, origin, write)}<script>{script}</script></body></html>\n",
        )
    )


def tone(record: Record) -> str:
    """Return how the decision is coloured: ``good``, ``calm`` where nothing was shipped, ``warn`` or ``bad``."""
    if record.exit_code == 0:
        return "good" if record.outcome in (Outcome.SHIPPED, Outcome.UNCHANGED) else "calm"
    return "warn" if record.exit_code == 1 else "bad"


def _decision(record: Record, origin: Origin, write: Writer) -> str:
    badge, _, said = record.headline.partition(": ")
    title = (
        f'<h1><span class="badge">{write(badge)}</span> {write(record.subject)} '
        f'<span class="to">→</span> {write(record.env)}</h1>'
    )
    when = f"{_moment(record.started, write)} <span>{rows.seconds(record.seconds)}</span>"
    parts = [
        f'<section id="decision" class="{tone(record)}" aria-label="Decision">{title}',
        f'<p class="when">{when} <span>exit code {record.exit_code}</span></p>',
        f'<p class="lead">{write(said)}.</p>',
        *(_lead(reason, write) for reason in _first_reasons(record)),
        f'<p class="next"><b>Next:</b> {write(record.next_step)}</p>',
    ]
    notes = [f'<p class="note">Note: {write(notice)}</p>' for notice in record.notices]
    parts += notes[:_NOTES]
    if more := notes[_NOTES:]:
        count = counted(len(more), "more note")
        parts.append(f'<details class="again"><summary>{count}</summary>{"".join(more)}</details>')
    parts.append(f'<p class="links">{_job(origin, write)}</p>{_reproduce(origin, write)}')
    parts.append(_facts(record, write))
    return "".join(parts) + "</section>"


def _first_reasons(record: Record) -> list[Reason]:
    blocking = [reason for reason in record.reasons if reason.severity is not Severity.WARN]
    return blocking[:2] or record.reasons[:1]


def _lead(reason: Reason, write: Writer) -> str:
    found = told(reason.text.strip())
    lines = [found.first] if found.rest else found.first.splitlines()
    shown = "\n".join(lines[:_LEAD]) + (" …" if found.rest or len(lines) > _LEAD else "")
    kind = "Warning, " if reason.severity is Severity.WARN else ""
    name = f"<b>{kind}{write(reason.id.rsplit('::', 1)[-1])}:</b> " if reason.id else ""
    return f'<p class="first {reason.severity}">{name}{write(cut(shown, 600))}</p>'


def _moment(started: str, write: Writer) -> str:
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return f"<span>{write(started)}</span>"
    zone = moment.tzname() or ""
    return f'<time datetime="{write(started)}">{moment.day} {moment:%b %Y %H:%M} {write(zone)}</time>'


def _job(origin: Origin, write: Writer) -> str:
    by = f"<span>run by {write(origin.who)}</span>" if origin.who else ""
    if not origin.job:
        return by
    job = write(origin.job)
    if origin.url:
        job = f'<a href="{write(origin.url)}" rel="noreferrer">{job}</a>'
    return f"{job} {by}"


def _reproduce(origin: Origin, write: Writer) -> str:
    if not origin.commands:
        return ""
    shown = "".join(f"<p>{write(what)}:</p><pre>{write(command)}</pre>" for what, command in origin.commands)
    if origin.needs:
        shown += f"<p>It needs in the environment: {write(', '.join(origin.needs))}.</p>"
    return f'<details class="again"><summary>Reproduce</summary>{shown}</details>'


def _facts(record: Record, write: Writer) -> str:
    facts = [
        ("gates", record.counts if record.gates else ""),
        ("commit", record.commit),
        ("branch", record.branch),
        ("target", record.target),
        ("was", record.previous),
        ("plan", record.digest),
        ("recovered", record.recovered),
        ("interrupted", record.interrupted),
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{write(value)}</dd></div>" for name, value in facts if value)
    return f'<dl class="facts">{shown}</dl>'


def _footer(record: Record, origin: Origin, write: Writer) -> str:
    files = " ".join(f'<a href="{name}">{name}</a>' for name in map(write, origin.files))
    return f"<footer>run {write(record.run)} {files}</footer>"


def _resource(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()
