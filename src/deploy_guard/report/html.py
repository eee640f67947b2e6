"""The page of pytest-html that a user asks for with --html: theirs, with our decision on top and two more columns."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy_guard.flow.model import Evidence
from deploy_guard.flow.record import Record
from deploy_guard.report.text import told, visible
from deploy_guard.session.marking import DATA

if TYPE_CHECKING:
    from deploy_guard.session.run import Run


class GateReport:
    """Listens to pytest-html's hooks; every text that comes from outside is redacted and escaped."""

    def __init__(self, run: Run, record: Record) -> None:
        self._run = run
        self._record = record

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the page after what it is about; the outcome follows in the headline."""
        report.title = f"{self._record.name} -> {self._record.env}: deployment gates"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Add the columns that a reviewer looks for."""
        # Not sortable: pytest-html takes such cells apart with two searches each, which many gates feel.
        cells.insert(2, '<th class="col-severity">Severity</th>')
        cells.insert(3, '<th class="col-evidence">Evidence</th>')

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        """Fill them in."""
        properties = getattr(report, "user_properties", [])
        severity = next((str(value) for name, value in properties if name in ("severity", "step")), "")
        data = getattr(report, DATA, None) or {}
        shown = "; ".join(Evidence(**entry).text for entry in data.get("evidence", ())) or data.get("message", "")
        cells.insert(2, f'<td class="col-severity">{severity}</td>')
        cells.insert(3, f'<td class="col-evidence">{self._text(shown)}</td>')

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Put the decision on top of the page."""
        css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
        prefix.append(f"<style>{css}</style>{self.decision()}")

    def decision(self) -> str:
        """Return the block that says what was decided, why, and what to do next."""
        record = self._record
        kind = "good" if record.exit_code == 0 else "bad" if record.exit_code == 2 else "warn"
        parts = [f'<section class="dg dg-{kind}" id="decision"><h2>{self._text(record.headline)}</h2>']
        parts.append(f"<p><b>Next:</b> {self._text(record.next_step)}</p>")
        facts = [
            ("environment", record.env),
            ("version", record.version or "unknown"),
            ("was", record.previous or ""),
            ("commit", " ".join(filter(None, (record.commit, record.branch)))),
            ("target", record.target),
            ("started", f"{record.started}, took {record.seconds:.1f} s, exit code {record.exit_code}"),
            ("gates", record.counts),
        ]
        parts.append(
            "<table>" + "".join(f"<tr><td>{k}</td><td>{self._text(v)}</td></tr>" for k, v in facts if v) + "</table>"
        )
        parts += [f"<p>note: {self._text(notice)}</p>" for notice in record.notices]
        if record.reasons:
            rows = "".join(
                f'<li><b class="s">{self._text(r.severity)}</b> {self._text(r.id)}\n{self._said(r.text)}</li>'
                for r in record.reasons
            )
            parts.append(f'<h3>WHY</h3><ul id="reasons">{rows}</ul>')
        parts.append(f"<p>The gate report: {self._text(self._run.folder / 'gate-report.html')}</p>")
        return "".join(parts) + "</section>"

    def _text(self, value: object) -> str:
        return escape(visible(self._run.redactor.redact(str(value))))

    def _said(self, text: str) -> str:
        found = told(text)
        rest = f"<details><summary>{found.count}</summary>{self._text(found.rest)}</details>" if found.rest else ""
        return self._text(found.first) + rest + (self._text(f"next: {found.following}") if found.following else "")
