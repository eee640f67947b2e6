"""The stage of a rollout: runs each step, post-check and rollback fixture as a pytest item."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from deploy_guard.errors import DeployGuardError
from deploy_guard.flow.model import StepOutcome, StepResult
from deploy_guard.flow.release import PLAN, RETRIEVE, TAG, Interrupted
from deploy_guard.flow.rollout import Rollout
from deploy_guard.session.gates import SPEC
from deploy_guard.session.items import (
    LIMIT,
    NO_ERRORS,
    NO_TIMEOUT,
    DriverFunction,
    NextItem,
    RollbackFunction,
    RolloutNode,
    SaveFunction,
    StepItem,
    driven,
    saver,
)
from deploy_guard.session.run import Stage

if TYPE_CHECKING:
    from deploy_guard.session.controller import Controller
    from deploy_guard.session.replay import Replay


class PytestStage:
    """Satisfies ``flow.release.Stage``. Knows the order of the held items and how to tear down between them."""

    def __init__(self, controller: Controller, session: pytest.Session, rollout: Rollout) -> None:
        self._controller = controller
        self._session = session
        self._rollout = rollout
        # Two parents of one name: steps stand beside nothing, so that nothing of the users' stays set up for them;
        # what asks for the driver stands inside the gate root, where its conftest is seen.
        self._top = RolloutNode.from_parent(session, name="rollout", nodeid="rollout")
        self._inside = RolloutNode.from_parent(controller.gate_node(), name="rollout", nodeid="rollout")
        self.verdict = self._item("verdict", controller.verdict_text)
        self._pending: dict[str, pytest.Item] = {}
        self.checks: list[pytest.Item] = []
        self.results: list[StepResult] = []

    # What the controller holds back.

    def hold(self, steps: tuple[str, ...], checks: list[pytest.Item]) -> list[pytest.Item]:
        """Make the items that follow the gates, in order, the closing verdict last."""
        self._pending = {name: self._step_item(name) for name in steps}
        self.checks = list(checks)
        return [*self._ahead(), self.verdict]

    def withhold(self, why: str) -> None:
        """Show everything that did not get its turn as skipped."""
        for name in [name for name in self._pending if name != TAG]:
            self.skip(name, why)
        while self.checks:
            self._controller.rows.skipped(self.checks.pop(0), why)
        if TAG in self._pending:
            self.skip(TAG, why)

    def recall(self, replay: Replay) -> None:
        """Show what another process, which died, had done of this: its rows come before those of the way back."""
        for name, item in list(self._pending.items()):
            if replay.knows(item):
                del self._pending[name]
                tally = self._controller.tally(item.nodeid)
                self._recall(replay, item)
                outcome = StepOutcome.PASSED if tally.passed else StepOutcome.FAILED
                self.results.append(StepResult(name, outcome, tally.seconds, tally.message))
        for item in [check for check in self.checks if replay.knows(check)]:
            self.checks.remove(item)
            self._controller.tally(item.nodeid)
            self._recall(replay, item)

    def _recall(self, replay: Replay, item: pytest.Item) -> None:
        try:
            replay.show(item)
        except Exception as error:  # noqa: BLE001 - a listener of another plugin; the way back matters more than a row
            self._controller.warn(f"{item.nodeid} can't be shown: {type(error).__name__}: {error}")

    # flow.release.Stage

    def step(self, name: str, *, interruptible: bool = True) -> bool:
        """Run one step; True if it passed."""
        item = self._pending.pop(name, None) or self._step_item(name)
        following = self._next()
        if not interruptible:
            self._controller.run.board.stage = Stage.ROLLING_BACK
            following = self.verdict
            if not self._rollout.has_driver:
                # Another process died: this one has made no driver yet. Where the fixture fails, the
                # configuration alone must do.
                self._perform(self._driver_item("driver", self._rollout.use), following, interruptible=False)
        return self._perform(item, following, interruptible=interruptible)

    def skip(self, name: str, why: str) -> None:
        """Show a step that was not needed, or not reached."""
        item = self._pending.pop(name, None) or self._item(name, str)
        self._controller.rows.skipped(item, why)
        self.results.append(StepResult(name, StepOutcome.SKIPPED, 0.0, why))

    def saves(self) -> bool:
        """Evaluate what rollback fixtures want saved."""
        passed = True
        for function, parent, tag in self._controller.rollbacks():
            if tag.saves:
                keep: Callable[[str, Any], None] = self._rollout.saved.__setitem__
                item = SaveFunction.from_parent(
                    parent, name=f"save[{function.__name__}]", callobj=saver(tag.saves, keep)
                )
                item.add_marker(NO_TIMEOUT)
                passed = self._perform(item, self._next(), interruptible=True) and passed
        return passed

    def post_checks(self) -> bool:
        """Run the post-checks; the first that fails ends them, because every second counts before the way back."""
        while self.checks:
            item = self.checks.pop(0)
            self._run(item, self._next(), interruptible=True)
            if not self._controller.results.of(item.nodeid).outcome.lets_pass:
                return False
        return True

    def rollback_fixtures(self) -> bool:
        """Run the users' rollback fixtures, the last defined first."""
        self._controller.run.board.stage = Stage.ROLLING_BACK
        passed = True
        stored = self._rollout.stored_saves()
        for function, parent, tag in reversed(self._controller.rollbacks()):
            item = RollbackFunction.from_parent(parent, name=function.__name__, callobj=function)
            item.add_marker(NO_ERRORS)
            item.stash[LIMIT] = self._controller.run.config.timeout
            missing = [name for name in tag.saves if name not in stored]
            item.add_marker(pytest.mark.timeout(self._controller.run.config.timeout, method="signal"), append=False)
            if missing and stored:
                self._controller.warn(f"{function.__name__}: nothing was saved for {', '.join(missing)}")
            self._controller.stored.values = {name: stored[name] for name in tag.saves if name in stored}
            passed = self._perform(item, self.verdict, interruptible=False) and passed
            self._controller.stored.values = {}
        return passed

    def close(self) -> bool:
        """Run the verdict item, which tears everything down; True unless a teardown failed."""
        self._run(self.verdict, None, interruptible=False)
        return not self._controller.tally(self.verdict.nodeid).teardown_failed

    # How an item is run.

    def _item(self, name: str, act: Callable[[], str]) -> StepItem:
        return StepItem.from_parent(self._top, name=name, act=act)

    def _step_item(self, name: str) -> pytest.Item:
        if name in (PLAN, RETRIEVE):
            return self._driver_item(name, self._in_turn(name, getattr(self._rollout, f"{name}_with")))
        return self._item(name, self._in_turn(name, getattr(self._rollout, name)))

    def _in_turn(self, name: str, act: Callable[..., str]) -> Callable[..., str]:
        """Let a step act only when it is given its turn: without the controller's hooks pytest runs it as a test."""

        def act_in_turn(*args: Any) -> str:
            if not self._controller.is_open:
                raise DeployGuardError(
                    "nothing was done: the step was started before the gates were judged",
                    hint="find the test or plugin that unregisters deploy_guard_session, and remove it",
                )
            with self._controller.run.progress.during(name):
                return act(*args)

        return act_in_turn

    def _driver_item(self, name: str, act: Callable[[Any], str]) -> DriverFunction:
        def remember(driver: Any) -> str:
            item.said = act(driver)
            return item.said

        item = DriverFunction.from_parent(self._inside, name=name, callobj=driven(remember))
        item.add_marker(NO_TIMEOUT)
        item.add_marker(NO_ERRORS)
        item.user_properties.append(("step", name))
        return item

    def _ahead(self) -> list[pytest.Item]:
        """Return what is still to be run, in order; the tag comes after the checks."""
        steps = [item for name, item in self._pending.items() if name != TAG]
        return [*steps, *self.checks, *([self._pending[TAG]] if TAG in self._pending else [])]

    def _next(self) -> pytest.Item:
        """Return what follows while all goes well."""
        return next(iter(self._ahead()), self.verdict)

    def _perform(self, item: pytest.Item, following: pytest.Item, *, interruptible: bool) -> bool:
        """Run a step and write down its result."""
        own = isinstance(item, (StepItem, DriverFunction))
        name = item.name if own else item.nodeid
        try:
            self._run(item, following, interruptible=interruptible)
        finally:
            tally = self._controller.tally(item.nodeid)
            outcome = StepOutcome.PASSED if tally.passed else StepOutcome.FAILED
            said = getattr(item, "said", "") if tally.passed else tally.message
            self.results.append(StepResult(name, outcome, tally.seconds, said))
        return tally.passed

    def _run(self, item: pytest.Item, following: pytest.Item | None, *, interruptible: bool) -> None:
        if interruptible and self._controller.told_to_end():
            raise Interrupted
        self._controller.rows.clear_stack(item, item)
        nextitem = following
        if following is not None and following is not self.verdict:
            nextitem = NextItem.from_parent(self._top, name="next", act=str)
            nextitem.passing, nextitem.otherwise = following, self.verdict
            nextitem.failed = lambda: not self._controller.tally(item.nodeid).passed_so_far
        row = isinstance(item, (StepItem, DriverFunction))  # the steps of the driver write their own events
        kind = "" if row else "check" if SPEC in item.stash else "rollback-fixture"
        if kind:
            self._rollout.journal.event(kind, id=item.nodeid, state="intent")
        interrupted = self._controller.run_held(item, nextitem, interruptible=interruptible)
        if kind:
            tally = self._controller.tally(item.nodeid)
            state, seconds = "passed" if tally.passed else "failed", round(tally.seconds, 4)
            self._rollout.journal.event(kind, id=item.nodeid, state=state, seconds=seconds)
        if not self._controller.tally(item.nodeid).passed and following is not None:
            self._controller.rows.clear_stack(item, self.verdict)
        if interruptible and (interrupted or self._controller.told_to_end()):
            raise Interrupted
