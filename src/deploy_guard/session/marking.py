"""The part of the session that runs where the tests run: in the controller, or in each xdist worker."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deploy_guard import roots
from deploy_guard.errors import DeployGuardError
from deploy_guard.flow.model import Severity
from deploy_guard.session.gates import EVIDENCE, SPEC, BadMark, Specifications, limit_all, prepare, settle
from deploy_guard.session.run import Run
from deploy_guard.session.waivers import waivers_of

if TYPE_CHECKING:
    import psutil

PATIENCE = 2.0
"""Seconds in which a copy of the session, made by a fork inside a test, comes to where it is ended."""
DATA = "deploy_guard"
"""The attribute of a report that carries what the record needs; plain data, so that it travels from a worker."""


class Marking:
    """Reads the marks of every collected item and puts what a gate's result needs on its reports."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self.config = config
        self.run = run
        self.seen: list[pytest.Item] = []
        self._by_id: dict[str, pytest.Item] = {}
        self.waivers = waivers_of(config.option)
        self._timer = math.inf
        self._forks = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=self._forked)
        self._packages = [root for root in run.roots if root.package]
        self._specifications = Specifications(run)
        limit_all(config, run.config.gate_timeout)
        if not config.getoption("usepdb", False):
            # A debugger's module that was merely imported must not switch the gates' timeouts off.
            config.option.timeout_disable_debugger_detection = True

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Remember every item before anybody can deselect it."""
        self.seen.append(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Collect every gate root, whether the command line names it or not."""
        self.name_roots()

    def name_roots(self) -> None:
        """Put the gate roots that nobody named to what pytest collects."""
        args = self.config.args
        if not self.run.named:
            args.clear()
        args.extend(root for root in self.run.unnamed if root not in args)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """Let ids of packaged gates begin with the package, not with the place where it happens to be installed."""
        if not self._packages:
            return None
        root = roots.holding(self._packages, module_path)
        if root is None:
            return None
        module: pytest.Module = pytest.Module.from_parent(parent, path=module_path, nodeid=root.id_of(module_path))
        return module

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        """Judge the marks of all items seen, then let everybody else edit the list."""
        self._specify(items)
        result = yield
        self._settle(items)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Make a gate that returns what it should assert fail: it can't fail otherwise, and pytest only warns of it."""
        # On the session: pytest applies its marks last, so that they hold over those of tests and modules.
        session.add_marker(pytest.mark.filterwarnings("error::pytest.PytestReturnNotNoneWarning"))

    def _settle(self, items: list[pytest.Item]) -> None:
        func_only = bool(self.config.getini("timeout_func_only"))
        for item in items:
            if SPEC in item.stash:
                settle(item, func_only=func_only)

    def _specify(self, items: list[pytest.Item]) -> None:
        bad: list[tuple[str, str]] = []
        for item in self.seen:
            if self._by_id.setdefault(item.nodeid, item) is not item:
                bad.append((item.nodeid, "is the id of two tests: rename one, or its file, so that results are told"))
            if SPEC in item.stash:
                continue
            try:
                spec = self._specifications.of(item)
            except BadMark as error:
                bad.append((item.nodeid, str(error)))
            else:
                prepare(item, spec, self.run)
        for node_id, text in bad:
            report = pytest.CollectReport(node_id, "failed", f"{node_id} {text}", [])
            self.config.hook.pytest_collectreport(report=report)
        if bad:
            items[:] = [item for item in items if SPEC in item.stash]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note on the report what others may change later, and turn the failure of a ``warn`` into no failure."""
        self.end_copies()
        report = yield
        spec = item.stash.get(SPEC, None)
        if spec is None:
            return report
        data: dict[str, Any] = {}
        if call.excinfo is not None:
            data["raised"] = True
            data["message"] = message_of(call.excinfo, report)
            if timed_out(call.excinfo):
                self._timer = math.inf
                data["timed_out"] = True
        elif (took := time.monotonic() - self._timer) >= spec.timeout and report.outcome == "passed":
            # The limit's failure was raised inside, and swallowed there; phases added up may look as if in time.
            self._timer = math.inf
            text = f"it took {took:.1f} s, its limit is {spec.timeout:g} s, and it did not end when it was told to"
            report.outcome, report.longrepr = "failed", text
            data |= {"timed_out": True, "message": text}
        if data:
            if spec.severity is Severity.WARN and report.outcome == "failed":
                # Neither pytest nor Jenkins may count it as a failure; pytest's word for that is xfail.
                report.outcome = "skipped"
                report.wasxfail = f"warn {spec.phase}: {data['message']}"
                data["warned"] = True
            elif item.nodeid in self.waivers and report.outcome == "failed":
                waiver = self.waivers[item.nodeid]
                report.outcome = "skipped"
                report.wasxfail = f"waived by {waiver.by}: {waiver.reason}; it said: {data['message']}"
                report.user_properties.append(("waived", f"by {waiver.by}: {waiver.reason}"))
                data["waived"] = True
        if call.when == "teardown" and (evidence := item.stash.get(EVIDENCE, None)):
            data["evidence"] = [entry.to_json() for entry in evidence]
            report.user_properties.extend(("evidence", entry.text) for entry in evidence)
            report.user_properties.extend(
                ("warning", entry.text) for entry in evidence if entry.status in ("warn", "no-data")
            )
        if data:
            setattr(report, DATA, data)
        return report

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self) -> None:
        """Note when pytest-timeout's timer starts: whatever ends later than its limit has not ended in time."""
        self._timer = time.monotonic()

    def end_copies(self) -> None:
        """End a copy of this process, made by a fork inside a test that returned in both: it must not go on."""
        if os.getpid() != self.run.pid:
            self.run.board.escape()
            os._exit(70)

    def _forked(self) -> None:
        self._forks += 1

    def await_copies(self) -> None:
        """After a fork inside a test: let copies of this process come to where they are ended and told of.

        One that does not come there in time does its own work, as the workers of a pool do.
        """
        if not self._forks:
            return
        self._forks = 0
        import psutil

        own, until = psutil.Process().cmdline(), time.monotonic() + PATIENCE
        while time.monotonic() < until and not self.run.board.escaped:
            if not any(_is_copy(child, own) for child in psutil.Process().children()):
                return
            time.sleep(0.01)

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Call a warning a warning in the terminal, and what was waived waived."""
        data = getattr(report, DATA, None)
        if data and data.get("warned"):
            return "warned", "w", ("WARNED", {"yellow": True})
        if data and data.get("waived"):
            return "waived", "W", ("WAIVED", {"yellow": True})
        return None


def _is_copy(process: psutil.Process, command: list[str]) -> bool:
    import psutil

    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.cmdline() == command
    except psutil.Error:  # it ended just now
        return False


def timed_out(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """True for the failure that pytest-timeout's signal method raises."""
    return isinstance(excinfo.value, pytest.fail.Exception) and str(excinfo.value).startswith("Timeout (>")


def message_of(excinfo: pytest.ExceptionInfo[BaseException], report: pytest.TestReport) -> str:
    """Return the failure in its own words, without the traceback; at most 20 lines."""
    value = excinfo.value
    if isinstance(value, (DeployGuardError, pytest.fail.Exception, pytest.skip.Exception)):
        text = str(value)
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash is not None else excinfo.exconly(tryshort=True)
    lines = text.strip().splitlines()
    return "\n".join(lines[:20] + (["…"] if len(lines) > 20 else []))
