"""The plainest JUnit file: written only when no pytest session lived long enough to write its own."""

from __future__ import annotations

from html import escape  # quotes too, so that it serves XML attributes as well; xml.sax would load half a web client
from typing import TYPE_CHECKING

from deploy_guard.flow.record import Record
from deploy_guard.ledger.files import write_atomically
from deploy_guard.report.text import told

if TYPE_CHECKING:
    from deploy_guard.session.run import Run


def write_junit(run: Run, record: Record) -> None:
    """Write a suite with one failed test, the verdict, whose text says what is known."""
    text = run.redactor.redact(summary(record))
    suite = f"{record.name}.{record.env}"
    write_atomically(
        run.folder / "junit.xml",
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<testsuites><testsuite name="{escape(suite)}" tests="1" failures="1" errors="0" skipped="0">'
        f'<testcase classname="rollout" name="verdict" time="{record.seconds:.3f}">'
        f'<failure message="{escape(record.headline)}">{escape(_printable(text))}</failure>'
        "</testcase></testsuite></testsuites>\n",
    )


def summary(record: Record) -> str:
    """Return headline, target, reasons, notes and next step as text; what is long stands in its own row."""
    target = f"target: {record.target}" + (f", was {record.previous}" if record.previous else "")
    reasons = [f"{r.severity}: {r.id + ': ' if r.id else ''}{told(r.text).brief}" for r in record.reasons]
    notes = [f"note: {notice}" for notice in record.notices]
    shown = [record.headline, *([target] if record.target else []), *reasons, *notes, f"next: {record.next_step}"]
    return "\n".join(shown)


def _printable(text: str) -> str:
    return "".join(c if c in "\t\n" or c >= " " else "?" for c in text)
