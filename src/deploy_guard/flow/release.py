"""The way of a release after a go: which step follows which, and when what was there before comes back.

Ordinary Python over two small protocols, so that it is tested without pytest and without a target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from deploy_guard.flow.model import Mode, Outcome

PLAN, SNAPSHOT, APPLY, WAIT = "plan", "snapshot", "apply", "wait"
RECOVER, ROLLBACK, VERIFY = "recover", "rollback", "verify"
TAG = "tag"
RETRIEVE = "retrieve"


class Interrupted(Exception):  # a fact about the run, not an error of the program
    """The run was told to end (a signal, a session timeout); raised by the stage before or out of a step."""


class Stage(Protocol):
    """Where the steps are run and shown; the pytest side makes each of them an item."""

    def step(self, name: str, *, interruptible: bool = True) -> bool:
        """Run one step; True if it passed. Raises :class:`Interrupted`, but never when not interruptible."""
        ...

    def skip(self, name: str, why: str) -> None:
        """Show a step that was not needed."""
        ...

    def saves(self) -> bool:
        """Evaluate what the rollback fixtures want saved; True if all of it could be."""
        ...

    def post_checks(self) -> bool:
        """Run the post-checks; True if none failed (a ``warn`` never fails). Raises :class:`Interrupted`."""
        ...

    def rollback_fixtures(self) -> bool:
        """Run the users' rollback fixtures, all of them; True if all passed."""
        ...


class RolloutState(Protocol):
    """What the sequence must know of the rollout's own data."""

    @property
    def unfinished(self) -> bool:
        """An earlier run died after its apply began, and nobody has cleaned up since."""
        ...

    @property
    def unchanged(self) -> bool:
        """The plan holds no change."""
        ...

    @property
    def applying(self) -> bool:
        """Apply has begun: from here on, ending means going back."""
        ...

    @property
    def may_roll_back(self) -> bool:
        """False where the configuration says ``rollback = "off"``."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """Write durably that nothing is left to do for this rollout."""
        ...


def release(
    stage: Stage,
    state: RolloutState,
    mode: Mode,
    *,
    keep_going: Callable[[], bool] = lambda: True,
    tag: bool = False,
) -> Outcome:
    """Take a release from go to its end.

    :param keep_going: asked once, after the last check passed: False when the run was interrupted meanwhile.
    :param tag: a release that is verified, or was there and is healthy, gets its tag.
    """
    try:
        outcome = _forward(stage, state, mode, keep_going)
    except Interrupted:
        if state.applying:
            return roll_back(stage, state)
        return Outcome.INTERRUPTED
    if tag and outcome in (Outcome.SHIPPED, Outcome.UNCHANGED):
        tag_it(stage)
    return outcome


def _forward(stage: Stage, state: RolloutState, mode: Mode, keep_going: Callable[[], bool]) -> Outcome:
    if mode is Mode.DEPLOY and state.unfinished and not _recovered(stage, state):
        return Outcome.ROLLBACK_FAILED
    if not stage.step(PLAN):
        return Outcome.WITHHELD
    if mode is Mode.PLAN:
        return Outcome.PLANNED
    if state.unchanged:
        for name in (SNAPSHOT, APPLY):
            stage.skip(name, "nothing to change")
        healthy = stage.step(WAIT) and stage.post_checks()
        return Outcome.UNCHANGED if healthy else Outcome.UNHEALTHY
    if not (stage.saves() and stage.step(SNAPSHOT)):
        return Outcome.WITHHELD
    if stage.step(APPLY) and stage.step(WAIT) and stage.post_checks() and keep_going() and _finished(state):
        return Outcome.SHIPPED
    if not state.applying:
        return Outcome.WITHHELD
    return roll_back(stage, state)


def tag_it(stage: Stage) -> None:
    """Tag the release; whether that works changes nothing else."""
    # The release is verified and its record is closed: neither a tag that fails nor an interruption takes it back.
    with contextlib.suppress(Interrupted):
        stage.step(TAG)


def go_back(stage: Stage, state: RolloutState) -> Outcome:
    """Take back what is there because somebody asked for it: a release that serves, or one that was left unfinished."""
    try:
        stage.step(RETRIEVE)
    except Interrupted:
        if not state.applying:
            return Outcome.INTERRUPTED
    return roll_back(stage, state) if state.applying else Outcome.WITHHELD


def roll_back(stage: Stage, state: RolloutState) -> Outcome:
    """Bring back what was there before, and verify it; whatever fails, the rest is still tried."""
    if not state.may_roll_back:
        stage.skip(ROLLBACK, 'the configuration says rollback = "off"')
        stage.skip(VERIFY, 'the configuration says rollback = "off"')
        state.finish(Outcome.ROLLBACK_FAILED)
        return Outcome.ROLLBACK_FAILED
    if not _restored(stage, ROLLBACK):
        return Outcome.ROLLBACK_FAILED
    state.finish(Outcome.ROLLED_BACK)
    return Outcome.ROLLED_BACK


def _finished(state: RolloutState) -> bool:
    # A release whose record can't be closed would be taken for an unfinished one, and undone, by the next run:
    # undo it now, while somebody is looking.
    try:
        state.finish(Outcome.SHIPPED)
    except OSError:
        return False
    return True


def _recovered(stage: Stage, state: RolloutState) -> bool:
    if not state.may_roll_back:
        return False
    if _restored(stage, RECOVER):
        state.finish(Outcome.ROLLED_BACK)
        return True
    return False


def _restored(stage: Stage, step: str) -> bool:
    # No short cuts: a rollback fixture that failed must not keep the driver from going back, nor hide what differs.
    fixtures = stage.rollback_fixtures()
    driver = stage.step(step, interruptible=False)
    verified = stage.step(VERIFY, interruptible=False)
    return fixtures and driver and verified
