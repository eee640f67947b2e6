"""The end of a run: complete the files, then write the last screen."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from deploy_guard.flow.model import Outcome, Reason, Severity
from deploy_guard.flow.record import Record
from deploy_guard.ledger.files import write_json
from deploy_guard.report import page, plain, terminal
from deploy_guard.report.files import write_verdict
from deploy_guard.report.transcript import Transcript
from deploy_guard.session.run import Run


def finish(config: pytest.Config, run: Run, record: Record, transcript: Transcript | None = None) -> None:
    """Make sure that every file of the run is there, write ``verdict.json`` last, and tell people.

    A file that can't be written (a full disk) is a critical reason of its own: the record is part of the promise.
    """
    if transcript is not None and not (run.folder / "audit.jsonl").is_file():
        text = "audit.jsonl was removed while the run wrote it: what was done can't be proved"
        record.reasons.append(Reason("record-incomplete", Severity.CRITICAL, text))
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        _complete_junit(config, run, record)
        page.write(run, record, transcript)
    except OSError as error:
        record.reasons.append(Reason("record-incomplete", Severity.CRITICAL, f"a report can't be written: {error}"))
    try:
        if record.outcome is Outcome.PLANNED:
            plan = {
                "schema": 1,
                "run": record.run,
                "env": record.env,
                "version": record.version,
                "target": record.target,
            }
            plan |= {"digest": record.digest, "changes": record.changes}
            write_json(run.folder / "plan.json", run.redactor.redact_json(plan))
        write_verdict(run, record)
    except OSError as error:
        record.reasons.append(Reason("record-incomplete", Severity.CRITICAL, f"verdict.json can't be written: {error}"))
    _say(config, run, record)


def _complete_junit(config: pytest.Config, run: Run, record: Record) -> None:
    ours = run.folder / "junit.xml"
    if not run.own_junit and not ours.is_file():
        theirs = config.invocation_params.dir / Path(config.option.xmlpath)
        if theirs.is_file():
            # The user's own --junitxml is written as they asked; ours is the same under the suite name that Jenkins
            # keeps the history by.
            tree = ET.parse(theirs)  # noqa: S314 - written by pytest a moment ago
            for suite in tree.iter("testsuite"):
                suite.set("name", f"{record.name}.{record.env}")
            tree.write(ours, encoding="utf-8", xml_declaration=True)
            (run.folder / ".junit.xml").unlink(missing_ok=True)
    if not ours.is_file():
        plain.write_junit(run, record)


def _say(config: pytest.Config, run: Run, record: Record) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    # Above it pytest has shown the failures, unless it was asked not to.
    whole = reporter is None or config.getoption("no_summary") or config.getoption("tbstyle") == "no"
    shown = terminal.lines(run, record, whole=whole)
    if reporter is None:
        sys.stdout.write("\n".join(shown) + "\n")
        return
    colour = "green" if terminal.is_good(record) else "red" if record.exit_code == 2 else "yellow"
    writer = config.get_terminal_writer()
    writer.line()
    for line in shown:
        if line.startswith("=== "):
            writer.line(line, bold=True, **{colour: True})
        else:
            writer.line(line)
    writer.flush()
