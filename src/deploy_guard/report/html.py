"""The HTML gate report: pytest-html's page with the decision on top, in the order in which a reviewer reads it."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy_guard.flow.model import Evidence, GateResult, Phase
from deploy_guard.flow.record import Record
from deploy_guard.session.marking import DATA

if TYPE_CHECKING:
    from deploy_guard.session.run import Run

_COLOURS = {"ok": "#15803d", "warn": "#b45309", "fail": "#b91c1c", "no-data": "#b91c1c", "note": "#64748b"}


class GateReport:
    """Listens to pytest-html's hooks; every text that comes from outside is redacted and escaped."""

    def __init__(self, config: pytest.Config, run: Run, record: Record) -> None:
        self._run = run
        self._record = record
        if not run.own_html:
            self._add_own(config)

    def _add_own(self, config: pytest.Config) -> None:
        """The user has a --html of their own, which is written as they asked; ours is a second report."""
        import pytest_html
        from pytest_html.report_data import ReportData
        from pytest_html.selfcontained_report import SelfContainedReport
        from pytest_html.util import _process_css, _read_template

        resources = Path(pytest_html.__file__).parent / "resources"
        report = SelfContainedReport(
            str(self._run.folder / "gate-report.html"),
            config,
            ReportData(config),
            _read_template([resources]),
            _process_css(resources / "style.css", []),
        )
        config.pluginmanager.register(report, "deploy_guard_own_html")

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
                f'<li><b class="s">{self._text(r.severity)}</b> {self._text(r.id)}\n{self._text(r.text)}</li>'
                for r in record.reasons
            )
            parts.append(f'<h3>WHY</h3><ul id="reasons">{rows}</ul>')
        parts.append(self._evidence())
        parts.append(self._timeline())
        parts.append(self._plan())
        return "".join(parts) + "</section>"

    def _evidence(self) -> str:
        rows = [
            f"<tr><td>{self._text(gate.id.rsplit('::', 1)[-1])}</td><td>{self._text(entry.text)}</td>"
            f"<td>{_bar(entry)}</td></tr>"
            for gate in self._record.gates
            for entry in gate.evidence
            if entry.status in ("warn", "fail", "no-data") or len(self._record.gates) <= 50
        ]
        return f"<h3>EVIDENCE</h3><table>{''.join(rows)}</table>" if rows else ""

    def _timeline(self) -> str:
        gates: list[GateResult] = [g for g in self._record.gates if g.phase is Phase.GATE]
        rows = [("gates", "", sum(gate.seconds for gate in gates), self._record.counts)]
        rows += [(step.name, str(step.outcome), step.seconds, step.message) for step in self._record.steps]
        checks = [g for g in self._record.gates if g.phase is Phase.POST_CHECK]
        if checks:
            said = ", ".join(f"{g.id.rsplit('::', 1)[-1]} {g.outcome}" for g in checks)
            rows.append(("post-checks", "", sum(g.seconds for g in checks), said))
        body = "".join(
            f'<tr class="{outcome}"><td>{self._text(name)}</td><td>{self._text(said)}</td>'
            f'<td class="t">{seconds:.2f} s</td></tr>'
            for name, outcome, seconds, said in rows
        )
        return f"<h3>STEPS</h3><table>{body}</table>"

    def _plan(self) -> str:
        changes = [c for c in self._record.changes if c["action"] != "none"]
        if not changes:
            return ""
        rows = "".join(
            f"<tr><td>{self._text(c['action'])}</td><td>{self._text(c['object'])}"
            + (f"<pre>{self._text(c['diff'])}</pre>" if c["diff"] else "")
            + "</td></tr>"
            for c in changes
        )
        return f"<h3>PLAN</h3><table>{rows}</table>"

    def _text(self, value: object) -> str:
        return escape(self._run.redactor.redact(str(value)))


def _bar(entry: Evidence) -> str:
    """Draw a value against its limits, to scale; nothing where there is nothing to draw."""
    limits = [limit for limit in (entry.warn, entry.fail) if limit is not None]
    if not limits or isinstance(entry.value, (str, bool)) or entry.value is None:
        return ""
    top = 100.0 if entry.unit == "%" else max([entry.value, *limits]) * 1.15 or 1.0

    def place(value: float) -> float:
        return min(100.0, max(0.0, 100.0 * value / top))

    marks = "".join(f'<u style="left:{place(limit):.1f}%"></u>' for limit in limits)
    colour = _COLOURS.get(entry.status, "#64748b")
    return f'<span class="bar" style="--c:{colour}"><i style="width:{place(entry.value):.1f}%"></i>{marks}</span>'
