"""What the parent does for a session that did not finish."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Snapshot
from deploy_guard.errors import DeployGuardError, RollbackFailed
from deploy_guard.flow.model import Outcome, Reason, Severity, StepOutcome, StepResult
from deploy_guard.flow.record import Record
from deploy_guard.flow.rollout import close_driver
from deploy_guard.ledger.store import FileStore
from deploy_guard.report import page, plain
from deploy_guard.report.files import ReportFolder, new_record, write_verdict
from deploy_guard.session.nouns import configured_driver
from deploy_guard.session.run import LOST, Death, Run


def refused(run: Run, _folder: ReportFolder) -> int:
    """Record that pytest refused its arguments before anything ran; the exit code is pytest's own, 4."""
    record = new_record(run)
    record.outcome = Outcome.WITHHELD
    record.usage_error = True
    record.reasons.append(
        Reason("usage", Severity.CRITICAL, "pytest refused its options or could not load a conftest; it said why")
    )
    plain.write_junit(run, record)
    page.write(run, record)
    write_verdict(run, record)
    return record.exit_code


def quiet_options(arguments: Sequence[str]) -> list[str]:
    """Return options that keep the second session in one process, where the first one had workers."""
    distributed = any(a.startswith(("-n", "--numprocesses", "--dist", "--tx")) for a in arguments)
    return ["-n0", "--dist=no"] if distributed else []


def kill_family(pid: int) -> None:
    """End a session that hangs, and what it started in its own process session.

    Processes in a session of their own are left: the guardian ends those that belong to the run, and a service that
    was rolled out must live on.
    """
    import psutil

    with contextlib.suppress(psutil.Error, ProcessLookupError):
        family = psutil.Process(pid).children(recursive=True)
        own = os.getsid(pid)
        os.kill(pid, signal.SIGKILL)
        for process in family:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == own:
                    process.kill()


def without_pytest(run: Run, _folder: ReportFolder, death: Death) -> int:
    """Finish a run whose second session died too: go back with the driver alone, and write the plainest reports."""
    record = new_record(run)
    where = f" in {death.item}" if death.item else ""
    record.reasons.append(
        Reason(
            "died",
            Severity.CRITICAL,
            f"the test session ended{where}: {death.text}; so did the one that reports",
            death.item,
        )
    )
    record.interrupted = death.interrupted
    record.outcome = _go_back(run, record, death)
    plain.write_junit(run, record)
    page.write(run, record)
    write_verdict(run, record)
    from deploy_guard.report import terminal

    sys.stdout.write("\n".join(terminal.lines(run, record)) + "\n")
    return record.exit_code


def _go_back(run: Run, record: Record, death: Death) -> Outcome:
    store = FileStore(run.state_folder, run.env)
    try:
        unfinished = store.load()
        if unfinished is None or unfinished["run"] != run.id:
            last = store.last()
            if last.get("run") == run.id:
                return Outcome(last["outcome"])
            if death.left_changes:
                raise RollbackFailed(LOST.format(folder=run.state_folder))
            return Outcome.WITHHELD
        snapshot = Snapshot.from_json(unfinished["snapshot"])
        record.previous = snapshot.previous
        driver = configured_driver(run)
        record.target = driver.target
        try:
            for name, act in (("rollback", driver.rollback), ("verify", driver.verify)):
                act(snapshot, Deadline.after(run.config.timeout))
                record.steps.append(StepResult(name, StepOutcome.PASSED))
        finally:
            record.notices += filter(None, [close_driver(driver)])
        record.notices.append("rollback fixtures did not run: no test session could be started")
        if unfinished["rollback_fixtures"]:
            raise DeployGuardError(f"rollback fixtures did not run: {', '.join(unfinished['rollback_fixtures'])}")
        store.clear({"run": run.id, "outcome": str(Outcome.ROLLED_BACK), "version": snapshot.previous}, stays=False)
    except Exception as error:  # noqa: BLE001 - the last line of defence: whatever it is, it is said and recorded
        text = f"going back failed: {type(error).__name__}: {error}"
        record.reasons.append(Reason("rollback-failed", Severity.CRITICAL, text))
        return Outcome.ROLLBACK_FAILED
    return Outcome.ROLLED_BACK
