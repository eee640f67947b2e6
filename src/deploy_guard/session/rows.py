"""Rows that pytest's runner does not make: of items that were not run, or were interrupted in the middle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deploy_guard.session.listening import Listener
from deploy_guard.session.replay import new_report, not_run_reports
from deploy_guard.session.results import Results


class Rows:
    """Shows items through pytest's own hooks, so that every report has them.

    :param warn: takes a notice for the record.
    """

    def __init__(
        self, config: pytest.Config, results: Results, listener: Listener, warn: Callable[[str], None]
    ) -> None:
        self._config = config
        self._results = results
        self._listener = listener
        self._warn = warn
        self.last: pytest.Item | None = None
        """The closing row; what an interrupted item left set up is torn down to what this one needs."""

    def skipped(self, item: pytest.Item, why: str, *, blocked: bool = False) -> None:
        """Report an item as skipped without running it."""
        for report in not_run_reports(item, why, blocked=blocked):
            self._emit(item, report)

    def finish(self, item: pytest.Item, text: str) -> None:
        """Give an item that was interrupted its missing reports, so that it has a row that says so."""
        seen = self._results.phases(item.nodeid) or self._listener.tally(item.nodeid).phases
        if "teardown" in seen:
            return
        self._show(item, "call" if "setup" in seen else "setup", "failed", text)
        self._show(item, "teardown", "passed", None)
        if self.last is not None:
            self.clear_stack(item, self.last)

    def clear_stack(self, item: pytest.Item, nextitem: pytest.Item) -> None:
        """Tear down what a failed or interrupted item left set up, down to what ``nextitem`` shares."""
        runner: Any = self._config.pluginmanager.get_plugin("runner")
        try:
            runner.pytest_runtest_teardown(item=item, nextitem=nextitem)
        except Exception as error:  # noqa: BLE001 - a user's fixture; what follows is more important than why
            self._warn(f"{item.nodeid}: a fixture failed when it was torn down: {type(error).__name__}: {error}")

    def _show(self, item: pytest.Item, when: Any, outcome: Any, longrepr: Any) -> None:
        self._emit(item, new_report(item, when, outcome, longrepr))

    def _emit(self, item: pytest.Item, report: pytest.TestReport) -> None:
        when = report.when
        if when == "setup":
            self._config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._config.hook.pytest_runtest_logreport(report=report)
        if when == "teardown":
            self._config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
