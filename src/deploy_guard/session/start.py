"""The way into a release session and its last word."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deploy_guard.flow.model import Mode, Outcome, Reason, Severity
from deploy_guard.flow.rollout import Rollout
from deploy_guard.report.files import new_record
from deploy_guard.roots import Root
from deploy_guard.session import supervisor
from deploy_guard.session.controller import Controller
from deploy_guard.session.marking import DATA
from deploy_guard.session.run import Run, Stage
from deploy_guard.session.worker import Worker

_RUN = pytest.StashKey[Run]()
_CONTROLLER = pytest.StashKey[Controller]()


def configure(config: pytest.Config) -> None:
    """Register the session's plugins; called once, at the end of pytest's own configuration."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        run = _run_of_worker(worker[DATA])
        config.stash[_RUN] = run
        config.pluginmanager.register(_fixtures(), "deploy_guard_fixtures")
        config.pluginmanager.register(Worker(config, run), "deploy_guard_session")
        return
    run = _active()
    config.stash[_RUN] = run
    if config.option.xmlpath is None:
        # No parent added the record's files to the command line (--pdb); pytest's own writers have not started yet.
        run.own_junit = False
        config.option.xmlpath = str(run.folder / ".junit.xml")
    controller = Controller(config, run)
    config.stash[_CONTROLLER] = controller
    config.pluginmanager.register(_fixtures(), "deploy_guard_fixtures")
    config.pluginmanager.register(controller, "deploy_guard_session")
    if getattr(config.option, "htmlpath", None) is not None:
        from deploy_guard.report.html import GateReport

        config.pluginmanager.register(GateReport(run, controller.record), "deploy_guard_html")


def last_word(config: pytest.Config, code: int, error: BaseException | None) -> int:
    """Return the exit code of the session, from the record; whatever others made of it since does not count."""
    run = _active()
    controller = config.stash.get(_CONTROLLER, None)
    record = controller.record if controller is not None else new_record(run)
    if error is not None and record.outcome is Outcome.INCOMPLETE and run.board.stage is not Stage.GATES:
        # Something of another plugin's broke a rollout in the middle. The process that watches this one starts a
        # session that goes back; to end here as if all were said would leave the target half changed.
        raise error
    if controller is not None:
        controller.end()
    if record.outcome is Outcome.INCOMPLETE:
        if code == int(pytest.ExitCode.USAGE_ERROR):
            return code
        severity = Severity.RECOVERABLE if error is None and code == 0 else Severity.CRITICAL
        text = f"{type(error).__name__}: {error}" if error else "pytest was asked to show something, not to run gates"
        record.reasons.append(Reason("no-session", severity, text))
        record.outcome = Outcome.WITHHELD
    if error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        record.notices.append(f"an error escaped from pytest: {type(error).__name__}: {error}")
    from deploy_guard.report import finish

    finish.finish(config, run, record, controller.listener.transcript if controller is not None else None)
    run.board.done(record.exit_code)
    return record.exit_code


def run_of(config: pytest.Config) -> Run:
    """Return the run of this session; ``KeyError`` in a plain one."""
    return config.stash[_RUN]


def rollout_of(config: pytest.Config) -> Rollout | None:
    """Return the rollout under way; None in a worker, or before the collection has ended."""
    controller = config.stash.get(_CONTROLLER, None)
    return controller.rollout if controller is not None else None


def _active() -> Run:
    if supervisor.active is None:
        # Only when somebody calls pytest's configuration without its command line.
        raise pytest.UsageError("--deploy-env works through pytest's command line only")
    return supervisor.active


def _fixtures() -> ModuleType:
    from deploy_guard.session import fixtures

    return fixtures


def _run_of_worker(data: dict[str, Any]) -> Run:
    import os

    from deploy_guard import config as configuration
    from deploy_guard.redact import Redactor

    path = Path(data["config"]) if data["config"] else None
    settings = configuration.load(path, directory=Path(data["directory"])).for_env(data["env"])
    return Run(
        id=data["id"],
        env=data["env"],
        mode=Mode(data["mode"]),
        version=data["version"] or None,
        config=settings,
        folder=Path(data["folder"]),
        roots=tuple(Root(Path(path), name, package) for path, name, package in data["roots"]),
        unnamed=tuple(data["unnamed"]),
        named=data["named"],
        started=datetime.now(UTC),
        redactor=Redactor.from_environment(os.environ, settings.hidden),
    )
