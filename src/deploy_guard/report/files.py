"""The folder of a run's files: locked while the run lasts, emptied of the last run's files at its start."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from deploy_guard.flow.model import Outcome, Reason, Severity
from deploy_guard.flow.record import Record
from deploy_guard.ledger.files import write_json

if TYPE_CHECKING:
    from deploy_guard.session.run import Run

FILES = ("junit.xml", "gate-report.html", "audit.jsonl", "verdict.json", "plan.json")
"""All that a run writes; a dead run must not leave yesterday's green ones for Jenkins."""


def new_record(run: Run) -> Record:
    """Return the record of a run that has only begun."""
    return Record(
        run=run.id,
        name=run.config.name,
        env=run.env,
        mode=run.mode,
        version=run.version,
        driver=run.config.driver or "",
        started=run.started.isoformat(timespec="seconds"),
    )


def write_verdict(run: Run, record: Record) -> None:
    """Replace ``verdict.json``, with every text redacted."""
    write_json(run.folder / "verdict.json", run.redactor.redact_json(record.to_json()))


class ReportFolder:
    """The reports folder of one run.

    The lock is ``flock`` on a file in it, held by the process that outlives the session; the kernel drops it with
    that process, however it ends.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = -1

    def open(self) -> None:
        """Lock the folder, remove the last run's files, write the verdict that says ``incomplete``.

        :raises BlockingIOError: when another run holds the lock; its files are untouched.
        :raises OSError: when the folder can't be made or written to.
        """
        folder = self._run.folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._lock)
        except OSError:
            os.close(self._lock)
            raise
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        write_verdict(self._run, new_record(self._run))

    def forget(self) -> None:
        """In a fork: leave the lock to the parent alone."""
        os.close(self._lock)

    def close(self) -> None:
        """Give the folder free."""
        os.close(self._lock)

    def interrupted(self, signal_name: str) -> None:
        """Put on disk at once that the run was told to end; the end of the run replaces it."""
        path = self._run.folder / "verdict.json"
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if data["outcome"] != Outcome.INCOMPLETE:
                return
            reason = Reason("interrupted", Severity.CRITICAL, f"the run was told to end by {signal_name}")
            data["interrupted"] = signal_name
            data["reasons"] = [reason.to_json()]
            write_json(path, data)
        except (OSError, ValueError):
            # A disk that is full, or a verdict being replaced this moment: the session writes the same at its end.
            return


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: gates only, and no second run is expected to share a folder there
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
