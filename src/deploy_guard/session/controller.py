"""The session that decides: holds the rollout back until the gates are judged, then runs it from sessionfinish."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.flow import release as way
from deploy_guard.flow.model import Mode, Outcome, Reason, Severity, Verdict
from deploy_guard.flow.rollout import Rollout
from deploy_guard.flow.verdict import judge
from deploy_guard.ledger.journal import FileJournal
from deploy_guard.ledger.store import FileStore
from deploy_guard.marks import RollbackTag
from deploy_guard.report import plain
from deploy_guard.report.files import new_record
from deploy_guard.session import completeness, conclusion, waivers
from deploy_guard.session.gates import SPEC
from deploy_guard.session.items import LIMIT, StepItem
from deploy_guard.session.listening import Listener, Tally
from deploy_guard.session.marking import DATA, Marking
from deploy_guard.session.nouns import configured_driver, known_notes, known_release, tag_run
from deploy_guard.session.progress import display_for
from deploy_guard.session.remote import Remote
from deploy_guard.session.replay import Replay
from deploy_guard.session.results import Results, is_blocking, is_post_check
from deploy_guard.session.rollbacks import Rollbacks, StoredFixtures
from deploy_guard.session.rows import Rows
from deploy_guard.session.run import LOST, Run, Stage
from deploy_guard.session.signals import Signals
from deploy_guard.session.stage import PytestStage

SESSION = pytest.StashKey[pytest.Session]()


class Controller(Marking):
    """Registered once in a release session: in the only process, or in xdist's controller."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        super().__init__(config, run)
        self.record = new_record(run)
        self.results = Results(self.waivers)
        self.journal = FileJournal(
            run.folder / "audit.jsonl",
            run=run.id,
            env=run.env,
            version=run.version,
            redact=run.redactor.redact,
            echo=run.log,
        )
        self.listener = Listener(config, run, self.results, self.journal)
        self.rows = Rows(config, self.results, self.listener, self.warn)
        self.stage: PytestStage | None = None
        self.rollout: Rollout | None = None
        self._store = FileStore(run.state_folder, run.env)
        self._signals = Signals(self._told)
        self.stored = StoredFixtures()
        config.pluginmanager.register(self.stored, "deploy_guard_stored")
        self._rollbacks = Rollbacks(config)
        self._replay = Replay(config, run, self.results) if run.death is not None else None
        self._problems: list[Reason] = []
        self._files: dict[str, Path] = {}
        self._collected: set[Path] = set()
        self._hidden: list[Reason] = []
        self._gates: list[pytest.Item] = []
        self._blocking: list[pytest.Item] = []
        self._blocked: str | None = None
        self._held: set[pytest.Item] = set()
        self._open: pytest.Item | None = None
        self._current: pytest.Item | None = None
        self._loop_finished = False
        self._restart_capture = False
        self._start = time.monotonic()
        self._gates_seconds = 0.0

    # The start

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Take the signals, write the first event."""
        super().pytest_sessionstart(session)
        self._signals.install()
        logged = self.run.log is not None
        self.run.progress.display = display_for(self.config, self.run.screen, os.environ, logged=logged)
        if self._is_distributed:
            self.config.pluginmanager.register(Remote(self), "deploy_guard_remote")
        if self._replay is None:
            self.journal.event("run", state="started", mode=str(self.run.mode), arguments=list(self.run.arguments))
        else:
            self._problems.append(self._replay.problem)
            self.journal.event("run", state="taken over", because=self._replay.death.text, item=self._replay.death.item)

    def pytest_plugin_registered(self, plugin: object) -> None:
        """Find rollback fixtures in conftests and plugins."""
        self._rollbacks.look_into(plugin)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell an xdist worker what run it belongs to."""
        node.workerinput[DATA] = self.run.for_worker()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Hear from an xdist worker that a test of it forked."""
        if getattr(node, "workeroutput", {}).get(DATA):
            self.run.board.escape()

    # Collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Name all gate roots, but not before xdist has told its workers what the command line named."""
        if not self._is_distributed:
            self.name_roots()

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Remember which file a collector reads."""
        if isinstance(collector, pytest.File):
            self._files[collector.nodeid] = collector.path

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what was collected, and what could not be."""
        if report.outcome == "passed":
            if report.nodeid in self._files:
                self._collected.add(self._files[report.nodeid].resolve())
        elif report.outcome == "failed":
            lines = report.longreprtext.strip().splitlines()
            self._problem("collection-error", Severity.CRITICAL, lines[-1] if lines else "failed", report.nodeid)
        else:
            text = "was skipped while it was collected: its gates did not run"
            if isinstance(report.longrepr, tuple):
                text += f" ({str(report.longrepr[2]).removeprefix('Skipped: ')})"
            self._problem("collection-skipped", Severity.CRITICAL, text, report.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(  # type: ignore[override]  # pluggy hands each hook what it asks for
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None]:
        """Outermost: after everybody else has edited the list, put the held items at its end."""
        self._specify(items)
        result = yield
        self._adopt(items)
        self._settle(items)
        for item in self.seen:
            if SPEC in item.stash and self.run.mode is not Mode.BACK:
                self.results.expect(item)
        for name in sorted(self._specifications.unused):
            text = f"{self.run.config.path}: severities: {name!r} names no gate that was collected: mend or remove it"
            self._problem("unknown-severity", Severity.CRITICAL, text)
        self._hidden = completeness.hidden_tests(self.seen)
        left = set(items)
        gates = [item for item in items if not is_post_check(item)]
        self._gates = sorted(gates, key=lambda item: not is_blocking(item))  # stable: files keep their order
        self._blocking = [item for item in gates if is_blocking(item)]
        checks = [item for item in items if is_post_check(item)]
        if self.run.mode is Mode.BACK:
            self._gates, checks = [], []  # collected for their conftests and rollback fixtures only
        for item in self.seen:
            if item not in left and SPEC in item.stash and is_post_check(item):
                text = "a post-check was deselected: without it a rollout can't be trusted"
                self._problem("partial-post-check", Severity.RECOVERABLE, text, item.nodeid)
        self._rollbacks.place(session, self.seen)
        self.config.stash[SESSION] = session
        self.rollout = self._make_rollout()
        self.stage = PytestStage(self, session, self.rollout)
        self.rows.last = self.stage.verdict
        steps = conclusion.STEPS[self.run.mode] + ((way.TAG,) if self.run.tag else ())
        held = self.stage.hold(steps, checks)
        self._held = set(held)
        items[:] = [*self._gates, *held]
        self.run.resume_collector()
        return result

    def _adopt(self, items: list[pytest.Item]) -> None:
        """Items that another plugin made by hand are gates like any other."""
        known = set(self.seen)
        for item in items:
            if item not in known:
                self.seen.append(item)
        self._specify(items)

    # The gates

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Know whether the loop came to its end: an exit, a stop or an error in between did not pass the gates."""
        started = time.monotonic()
        if not self._is_distributed:
            self.refuse_waivers()
        try:
            result = yield
        finally:
            self._gates_seconds = time.monotonic() - started
        self._loop_finished = True
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> object:
        """Let gates run; walk past held items until the gate is open, then run them by pytest's own runner."""
        if item is self._open:
            self._current = item
            self.run.board.running(item.nodeid, self._limit(item))
            # Directly, so that no plugin repeats a step (reruns) or takes it elsewhere.
            runner: Any = self.config.pluginmanager.get_plugin("runner")
            return runner.pytest_runtest_protocol(item=item, nextitem=nextitem)
        if item in self._held:
            return True
        if self._replay is not None:
            self._replay.show(item)
            return True
        if self._signals.first:
            # Somebody swallowed the interruption; it still holds.
            raise KeyboardInterrupt(self._signals.first)
        if self._blocking and not is_blocking(item) and (why := self._blocked_by()):
            self.rows.skipped(item, why, blocked=True)
            return True
        self._current = item
        self.run.board.running(item.nodeid, self._limit(item))
        return None

    def refuse_waivers(self) -> None:
        """End the session before any gate runs when something is waived that can't be: ``pytest.UsageError``."""
        if self.waivers and self.stage is not None:
            waivers.refuse(self.waivers, self.seen)

    def _blocked_by(self) -> str:
        """Say which blocking gates failed; empty when all let the others run. They have all ended by now."""
        if self._blocked is None:
            ended = [self.results.of(item.nodeid) for item in self._blocking]
            failed = [result.id for result in ended if not result.outcome.lets_pass]
            self._blocked = f"not judged: {', '.join(failed)} failed" if failed else ""
        return self._blocked

    def run_blocking(self, items: list[pytest.Item]) -> bool:
        """In xdist's controller: run the blocking gates here; True when they keep the others from being run."""
        for item, nextitem in zip(self._blocking, items[1:], strict=False):  # they come first, and one is always held
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        self._current = None
        if not self._blocking or not self._blocked_by():
            return False
        for item in self._gates[len(self._blocking) :]:
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return True

    @property
    def is_open(self) -> bool:
        """A held item has its turn; at any other time a step must do nothing."""
        return self._open is not None

    @property
    def runs_an_item(self) -> bool:
        """An item runs in this process, whose own limit counts."""
        return self._current is not None

    def _limit(self, item: pytest.Item) -> float:
        spec = item.stash.get(SPEC, None)
        if spec is not None:
            return time.monotonic() + spec.timeout
        limit = item.stash.get(LIMIT, 0.0)
        return time.monotonic() + limit if limit else 0.0

    @property
    def _is_distributed(self) -> bool:
        return self.config.pluginmanager.has_plugin("dsession")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """First of all listeners."""
        self.listener.take(report)

    # The end of the gates, and all that follows

    def pytest_keyboard_interrupt(self) -> None:
        """pytest stops capturing for good now; the rows that follow need it."""
        self._restart_capture = True

    def pytest_internalerror(self) -> None:
        """The same after an error inside pytest or a plugin."""
        self._restart_capture = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Outermost: judge, roll out, then let the reports be written, whatever other plugins do."""
        self.end_copies()
        if session.exitstatus != pytest.ExitCode.USAGE_ERROR:  # nothing was run; pytest says why
            self._conclude(session)
            session.exitstatus = self.record.exit_code
        try:
            return (yield)
        except Exception as error:  # noqa: BLE001 - anybody's sessionfinish; the verdict and the reports stand anyway
            self.warn(f"a plugin failed at the session's end: {type(error).__name__}: {error}")
            self._write_reports(session)
            return None

    def _write_reports(self, session: pytest.Session) -> None:
        """Let the JUnit and HTML writers run alone, after another plugin kept them from it."""
        manager = self.config.pluginmanager
        writers = ("_pytest.junitxml", "pytest_html.")
        others = [p for p in manager.get_plugins() if not type(p).__module__.startswith(writers)]
        caller = manager.subset_hook_caller("pytest_sessionfinish", others)
        caller(session=session, exitstatus=session.exitstatus)

    def _conclude(self, session: pytest.Session) -> None:
        self._signals.interruptible = False
        self.run.resume_collector()
        capture: Any = self.config.pluginmanager.get_plugin("capturemanager")
        if self._restart_capture and capture is not None:
            capture.start_global_capturing()
            capture.suspend_global_capture()
        current, self._current = self._current, None
        if self.stage is None and (self._is_distributed or not self._loop_finished):
            self.collect(session)
        if current is not None and self._replay is None and not self._loop_finished:
            self.rows.finish(current, f"interrupted: {self._signals.first or 'the session was told to stop'}")
        if self._is_distributed and self._signals.first:
            self._problem("interrupted", Severity.CRITICAL, f"the run was told to end by {self._signals.first}")
        elif not self._loop_finished and not self._problems:
            why = str(session.shouldfail or session.shouldstop or self._signals.first or "it was told to stop")
            self._problem("interrupted", Severity.CRITICAL, f"the gates were not run to their end: {why}")
        verdict = self._judge()
        self._tell_waivers()
        self.record.reasons = list(verdict.reasons)
        self.record.interrupted = self._signals.first or (self._replay.death.interrupted if self._replay else "")
        self.journal.event(
            "verdict", go=verdict.go, exit_code=verdict.exit_code, reasons=[r.to_json() for r in verdict.reasons]
        )
        if self.stage is None or self.rollout is None:
            self.record.outcome = Outcome.WITHHELD
        else:
            self.config.option.maxfail = 0  # -x is for gates: after a failed post-check the rollback must go on
            self.record.outcome = self._act(verdict, self.stage, self.rollout)
        self._complete()

    def collect(self, session: pytest.Session) -> None:
        """In xdist's controller nothing is collected: do it, for the blocking gates, the post-checks and the count."""
        self.name_roots()
        try:
            session.perform_collect()
        except (pytest.UsageError, session.Interrupted, session.Failed) as error:
            self._problem("collection-error", Severity.CRITICAL, str(error))

    def _tell_waivers(self) -> None:
        for node_id, waiver in self.waivers.items():
            result = self.results.find(node_id)
            if result is None:
                continue  # nothing was collected
            if result.waiver is not None:
                self.journal.event("waived", id=node_id, by=waiver.by, reason=waiver.reason, said=result.message)
            elif result.outcome.lets_pass:
                self.warn(f"{node_id} was waived without need: it is {result.outcome}")

    def _judge(self) -> Verdict:
        self.await_copies()
        if self.run.board.escaped:
            text = "a test forked this process, and the copy went on as if it were the test session"
            self._problem("escaped-fork", Severity.CRITICAL, text)
        if self.run.mode is Mode.BACK:
            can_be_taken_back = self.rollout is not None and self.rollout.can_be_taken_back
            weighs, told = conclusion.way_back_problems(self.run, self._problems, can_be_taken_back=can_be_taken_back)
            self.record.notices += told
            return judge((), weighs, none_needed=True)
        problems = [*self._problems, *completeness.option_problems(self.config)]
        if self.stage is not None:
            text = "ran, and was not collected by the process that decides: its result does not count, so nothing ships"
            problems += [Reason("unknown-test", Severity.CRITICAL, text, name) for name in self.results.unknown()]
            problems += self._hidden
        with_tests = {path.resolve() for path in {item.path for item in self.seen}}
        loaded = {
            Path(file).resolve()
            for p in self.config.pluginmanager.get_plugins()
            if (file := getattr(p, "__file__", None))
        }
        if self.stage is not None and not any(p.code in ("interrupted", "partial-option") for p in problems):
            problems += completeness.file_problems(self.run.roots, self._collected, with_tests, loaded)
        return judge(self.results.all(), problems)

    def _roots(self) -> list[Path]:
        return [root.path.resolve() for root in self.run.roots]

    def _act(self, verdict: Verdict, stage: PytestStage, rollout: Rollout) -> Outcome:
        self.run.board.stage = Stage.GATES
        if self._replay is not None:
            stage.recall(self._replay)
        if self._replay is not None and rollout.adopt_unfinished_of(self.run.id):
            self.record.previous = rollout.previous
            self.run.board.stage = Stage.ROLLING_BACK
            outcome = way.roll_back(stage, rollout)
            stage.withhold("the process that ran the rollout died")
            return outcome
        if self._replay is not None and (last := self._store.last()).get("run") == self.run.id:
            stage.withhold("the process that ran the rollout died")
            self.record.previous = last.get("previous")
            return Outcome(last["outcome"])
        if self._replay is not None and self._replay.death.left_changes:
            text = LOST.format(folder=self.run.state_folder)
            self.record.reasons.append(Reason("rollback-failed", Severity.CRITICAL, text))
            stage.withhold("the process that ran the rollout died")
            return Outcome.ROLLBACK_FAILED
        if rollout.unfinished and self.run.mode is not Mode.BACK:
            text = f"run {rollout.unfinished_run} died after its apply began, and nobody has finished it since"
            self.warn(text + "; a run that may deploy goes back first")
        if not verdict.go and self.run.mode is not Mode.PLAN:
            stage.withhold("withheld: " + "; ".join(r.id or r.text for r in verdict.reasons[:3]))
            if self.record.interrupted and not self._loop_finished:
                return Outcome.INTERRUPTED
            return Outcome.CHECKED if self.run.mode is Mode.CHECK else Outcome.WITHHELD
        if self.run.mode is Mode.CHECK:
            if self.run.tag:
                way.tag_it(stage)
            stage.withhold("not deployed: --no-deploy")
            return Outcome.CHECKED
        try:
            if self.run.mode is Mode.BACK:
                outcome = way.go_back(stage, rollout)
            else:
                outcome = way.release(
                    stage, rollout, self.run.mode, keep_going=self._nothing_against_it, tag=self.run.tag
                )
        except Exception as error:
            if not rollout.applying:
                raise
            text = f"the rollout was broken by {type(error).__name__}: {error}"
            self.record.reasons.append(Reason("broken", Severity.CRITICAL, text))
            outcome = way.roll_back(stage, rollout)
        stage.withhold(conclusion.why_not_reached(outcome, stage.results, told_to_end=self.told_to_end()))
        return outcome

    def _complete(self) -> None:
        """Fill in the record from what the rollout left, and run the closing verdict."""
        record, stage, rollout = self.record, self.stage, self.rollout
        if stage is not None and rollout is not None:
            conclusion.describe(record, rollout, self.run)
            record.steps = stage.results
            record.reasons += self._later_reasons(stage)
        record.reasons.sort(key=lambda reason: -reason.severity.exit_code)  # the worst first, for every reader
        record.gates = self.results.all()
        record.sources = conclusion.sources(self.seen, self.run.roots)
        record.gates_seconds = self._gates_seconds if self._replay is None else 0.0
        self._note()
        record.seconds = time.monotonic() - self._start
        if stage is not None and not stage.close():
            text = "a fixture failed when the session was torn down: " + self.tally("rollout::verdict").message
            record.reasons.insert(0, Reason("teardown-failed", Severity.CRITICAL, text, "rollout::verdict"))
        if rollout is not None:  # after the last fixture, which may still have asked the driver
            record.notices += rollout.close()
        record.seconds = time.monotonic() - self._start

    def _note(self) -> None:
        """Attach the release notes; a release never fails for want of them."""
        self.record.notes, why_not = known_notes(self.run)
        if why_not:
            self.warn(f"the release notes could not be made: {why_not}")

    def _later_reasons(self, stage: PytestStage) -> list[Reason]:
        """Reasons that arose after the verdict on the gates: failed steps and post-checks, an interruption."""
        reasons = conclusion.later_reasons(self.results.all(), stage.results)
        if self.run.board.escaped and not any(r.code == "escaped-fork" for r in self.record.reasons):
            text = "a post-check forked this process, and the copy went on as if it were the test session"
            reasons.append(Reason("escaped-fork", Severity.CRITICAL, text))
        if self._signals.first and not any(r.code == "interrupted" for r in self.record.reasons):
            text = f"the run was told to end by {self._signals.first}"
            reasons.append(Reason("interrupted", Severity.CRITICAL, text))
            self.record.interrupted = self._signals.first
        elif self._stopped() and self._loop_finished:
            reasons.append(Reason("interrupted", Severity.CRITICAL, f"the run was told to end: {self._stopped()}"))
        if self.run.config.rollback == "off" and self.record.outcome is Outcome.ROLLBACK_FAILED:
            text = 'the configuration says rollback = "off": what was applied is still there'
            reasons.append(Reason("rollback-off", Severity.CRITICAL, text))
        return reasons

    def verdict_text(self) -> str:
        """What the closing row says; it fails when the run did."""
        text = plain.summary(self.record)
        if self.record.exit_code:
            pytest.fail(text, pytrace=False)
        return text

    def _make_rollout(self) -> Rollout:
        return Rollout(
            run=self.run.id,
            env=self.run.env,
            service=self.run.config.name,
            release=known_release(self.run),
            mode=self.run.mode,
            source=lambda: configured_driver(self.run),
            journal=self.journal,
            store=self._store,
            timeout=self.run.config.timeout,
            may_roll_back=self.run.config.rollback != "off",
            driver_name=self.run.config.driver or "",
            rollback_names=tuple(function.__name__ for function, _, _ in self.rollbacks()),
            on_applying=self._applying,
            tagger=lambda: tag_run(self.run),
        )

    def _applying(self) -> None:
        self.run.board.stage = Stage.APPLYING

    def end(self) -> None:
        """Give back what the session took: signals, the journal."""
        self._signals.restore()
        self.journal.event("run", state="ended", outcome=str(self.record.outcome), exit_code=self.record.exit_code)
        self.journal.close()

    # What the stage needs

    def gate_node(self) -> pytest.Collector:
        """Return the collector of the first gate root, whose conftest may bring a driver."""
        return self._rollbacks.node_for(self._roots())

    def tally(self, node_id: str) -> Tally:
        """Return what was reported of a held item."""
        return self.listener.tally(node_id)

    def rollbacks(self) -> list[tuple[Any, pytest.Collector, RollbackTag]]:
        """Return the rollback fixtures in order of definition, each with the node whose fixtures it sees."""
        return self._rollbacks.found

    def warn(self, text: str) -> None:
        """Put a notice into the record; it never changes the exit code."""
        self.record.notices.append(text)

    def told_to_end(self) -> bool:
        """True after a signal, a session timeout, or whatever else asks pytest to stop."""
        return bool(self._signals.first or self._stopped())

    def _nothing_against_it(self) -> bool:
        self.await_copies()
        return not self.told_to_end() and not self.run.board.escaped

    def _stopped(self) -> str:
        return str(self.config.stash[SESSION].shouldstop or self.config.stash[SESSION].shouldfail or "")

    def run_held(self, item: pytest.Item, nextitem: pytest.Item | None, *, interruptible: bool) -> bool:
        """Run one held item through pytest; True if it was interrupted."""
        self.tally(item.nodeid)
        self._open = item
        self._signals.interruptible = interruptible
        try:
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        except (KeyboardInterrupt, pytest.exit.Exception) as error:
            self._signals.interruptible = False
            self.rows.finish(item, f"interrupted: {error or type(error).__name__}")
            return True
        except Exception as error:
            # Not the item's own: pytest turns those into reports. A listener of another plugin broke the row.
            if self.stage is not None:
                self.rows.clear_stack(item, self.stage.verdict)
            if interruptible and item.name != way.TAG:  # what is verified is not undone for the sake of its tag
                raise
            self.warn(f"{item.nodeid}: a plugin failed: {type(error).__name__}: {error}")
            self._insist(item)
        finally:
            self._signals.interruptible = False
            self._open = self._current = None
            self.run.board.idle()
        return False

    def _insist(self, item: pytest.Item) -> None:
        """Do a step of the way back without pytest, if another plugin kept pytest from doing it."""
        tally = self.tally(item.nodeid)
        if isinstance(item, StepItem) and not item.begun:
            try:
                item.runtest()
                tally.called = True
            except Exception as error:  # noqa: BLE001 - a driver's; it is recorded, and the way back goes on
                tally.failed, tally.message = True, str(error)

    def _problem(self, code: str, severity: Severity, text: str, node_id: str = "") -> None:
        problem = Reason(code, severity, text, node_id)
        if problem not in self._problems:
            self._problems.append(problem)

    def _told(self, name: str, first: bool) -> None:
        if first:
            self.journal.event("interrupted", signal=name)
