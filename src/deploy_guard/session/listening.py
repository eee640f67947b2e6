"""The first of all listeners: what is reported is redacted, recorded, and kept where it outlives the session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy_guard import printable
from deploy_guard.flow.model import Phase
from deploy_guard.ledger.journal import FileJournal
from deploy_guard.report.text import cut
from deploy_guard.report.transcript import Transcript
from deploy_guard.session import spool
from deploy_guard.session.marking import DATA
from deploy_guard.session.results import Results
from deploy_guard.session.run import Run


@dataclass
class Tally:
    """What the reports of one held item said."""

    called: bool = False
    failed: bool = False
    teardown_failed: bool = False
    seconds: float = 0.0
    message: str = ""
    phases: set[str] = field(default_factory=set)

    @property
    def passed_so_far(self) -> bool:
        """Nothing went wrong yet."""
        return not self.failed

    @property
    def passed(self) -> bool:
        """It ran, and nothing went wrong."""
        return self.called and not self.failed


class Listener:
    """Takes each report in before anybody else sees it.

    In a session that replays a dead one, nothing is kept or written down again.
    """

    def __init__(self, config: pytest.Config, run: Run, results: Results, journal: FileJournal) -> None:
        self._config = config
        self._run = run
        self._results = results
        self._journal = journal
        self._first_hand = run.death is None
        self._tallies: dict[str, Tally] = {}
        self._quiet: dict[str, dict[str, float]] = {}
        self.transcript = Transcript()

    def tally(self, node_id: str) -> Tally:
        """Return what was reported of a held item; from now on it is counted."""
        return self._tallies.setdefault(node_id, Tally())

    def take(self, report: pytest.TestReport) -> None:
        """Redact, record and keep one report."""
        plain = report.outcome == "passed" and not report.sections and not hasattr(report, DATA)
        if not plain:
            self._redact(report)
            if any(name == "step" for name, _ in report.user_properties):
                self._clean(report)
            self.transcript.add(report)
        if report.nodeid in self._tallies:
            self._count(report)
        self._results.add(report)
        if self._first_hand:
            if self._run.spool >= 0:
                self._keep(report, plain=plain)
            if report.when == "teardown":
                self._tell(report.nodeid)

    def _tell(self, node_id: str) -> None:
        """Write down how a gate ended; what follows the gates writes its own events."""
        result = self._results.find(node_id)
        if result is not None and result.phase is Phase.GATE:
            said = {"message": result.message} if result.message else {}
            self._journal.event(
                "gate",
                id=result.id,
                severity=result.severity,
                outcome=result.outcome,
                seconds=round(result.seconds, 4),
                **said,
            )

    def _keep(self, report: pytest.TestReport, *, plain: bool) -> None:
        """Put a report into the spool; the phases of an item that passed and said nothing share one entry."""
        node_id = report.nodeid
        if plain:
            self._quiet.setdefault(node_id, {})[str(report.when)] = report.duration
            if report.when == "teardown":
                spool.write(self._run.spool, {"n": node_id, "d": self._quiet.pop(node_id)})
            return
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        data.pop("node", None)  # xdist's handle of the worker; the second session has no workers
        entry: dict[str, Any] = {"n": node_id, "r": data}
        if before := self._quiet.pop(node_id, None):
            entry["d"] = before
        spool.write(self._run.spool, entry)

    def _redact(self, report: pytest.TestReport) -> None:
        if not self._run.redactor:
            return
        hook = self._config.hook
        data = hook.pytest_report_to_serializable(config=self._config, report=report)
        again = hook.pytest_report_from_serializable(config=self._config, data=self._run.redactor.redact_json(data))
        report.__dict__.update(again.__dict__)

    def _clean(self, report: pytest.TestReport) -> None:
        """Take out of a step's report what moves a cursor or turns text round: a driver quotes events and logs.

        A secret that such characters stood in the middle of is one now: it is looked for again.
        """
        text = report.longreprtext
        if isinstance(report.longrepr, str) or printable.lines(text) != text:
            report.longrepr = printable.lines(text) or report.longrepr
        report.sections = [(title, printable.lines(text)) for title, text in report.sections]
        self._redact(report)

    def _count(self, report: pytest.TestReport) -> None:
        tally = self._tallies[report.nodeid]
        tally.seconds += report.duration
        tally.called |= report.when == "call"
        tally.phases.add(str(report.when))
        if report.outcome != "passed":
            tally.failed = True
            tally.teardown_failed |= report.when == "teardown"
            text = report.longreprtext.strip()
            own = getattr(report, DATA, {}).get("message", "")
            # A driver's own words are all told, the last lines of a log too; of a traceback, its end.
            said = cut(text) if isinstance(report.longrepr, str) else "\n".join(text.splitlines()[-20:])
            tally.message = tally.message or own or said
