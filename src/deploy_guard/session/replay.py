"""The second session of a run whose first one died: it shows what was recorded and runs no gate again."""

from __future__ import annotations

from typing import Any

import pytest

from deploy_guard.flow.model import Reason, Severity
from deploy_guard.session.marking import DATA
from deploy_guard.session.results import Results
from deploy_guard.session.run import Run


class Replay:
    """Shows each item as the dead session recorded it, the one it died in as died, the rest as not run."""

    def __init__(self, config: pytest.Config, run: Run, results: Results) -> None:
        assert run.death is not None
        self.death = run.death
        self._config = config
        self._results = results
        self._recorded: dict[str, list[dict[str, Any]]] = {}
        for entry in run.death.reports:
            self._recorded.setdefault(entry["n"], []).append(entry)

    @property
    def problem(self) -> Reason:
        """Why this run can't be a go, whatever the gates said."""
        where = f" in {self.death.item}" if self.death.item else ""
        text = f"the test session ended{where}: {self.death.text}"
        code = "timed-out" if self.death.timed_out else "died"
        if self.death.interrupted:
            code, text = "interrupted", f"the run was told to end by {self.death.interrupted}; {text}"
        return Reason(code, Severity.CRITICAL, text, self.death.item)

    def knows(self, item: pytest.Item) -> bool:
        """True when the dead session recorded something of this item, or died in it."""
        return item.nodeid == self.death.item or item.nodeid in self._recorded

    def show(self, item: pytest.Item) -> None:
        """Report one item without running it."""
        hook = self._config.hook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        if item.nodeid == self.death.item:
            report = new_report(item, "call", "failed", self.death.text)
            kind = "timed_out" if self.death.timed_out else "died"
            setattr(report, DATA, {kind: True, "raised": True, "message": self.death.text})
            return [new_report(item, "setup", "passed"), report, new_report(item, "teardown", "passed")]
        entries = self._recorded.get(item.nodeid)
        if not entries:
            return not_run_reports(item, "not run: the test session died before")
        reports = []
        for entry in entries:
            for when, seconds in entry.get("d", {}).items():
                reports.append(new_report(item, when, "passed", seconds=seconds))
            if "r" in entry:
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=entry["r"])
                if isinstance(report.longrepr, list):  # JSON has no tuples, and a skip's place is one
                    report.longrepr = tuple(report.longrepr)
                reports.append(report)
        return reports


def new_report(
    item: pytest.Item, when: Any, outcome: Any, longrepr: Any = None, seconds: float = 0.0
) -> pytest.TestReport:
    """Return a report of an item that pytest's runner did not make."""
    return pytest.TestReport(
        item.nodeid,
        item.location,
        {item.name: 1},
        outcome,
        longrepr,
        when,
        duration=seconds,
        user_properties=item.user_properties,
    )


def not_run_reports(item: pytest.Item, why: str, *, blocked: bool = False) -> list[pytest.TestReport]:
    """Return the reports of a row that says why an item was not run; they count as no result."""
    where = (str(item.location[0]), (item.location[1] or 0) + 1, f"Skipped: {why}")
    reports = [new_report(item, "setup", "skipped", where), new_report(item, "teardown", "passed")]
    for report in reports:
        setattr(report, DATA, {"not_run": why, "blocked": blocked})
    return reports
