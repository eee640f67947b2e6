"""The way of a release over every combination of failing and interrupted steps, without pytest and without a target."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy_guard.flow.model import Mode, Outcome
from deploy_guard.flow.release import Interrupted, release


@dataclass
class FakeStage:
    """Fails or interrupts where it is told to, and writes down what it was asked."""

    faults: dict[str, str]
    state: FakeState
    done: list[str] = field(default_factory=list)

    def _do(self, name: str) -> bool:
        self.done.append(name)
        if name == "apply" and self.faults.get("apply") != "refused":
            self.state.applying = True
        if self.faults.get(name) == "interrupted":
            raise Interrupted
        return name not in self.faults

    def step(self, name: str, *, interruptible: bool = True) -> bool:
        assert interruptible == (name in ("plan", "snapshot", "apply", "wait", "tag"))
        return self._do(name)

    def skip(self, name: str, why: str) -> None:
        assert why
        self.done.append(f"skip {name}")

    def saves(self) -> bool:
        return self._do("saves")

    def post_checks(self) -> bool:
        return self._do("post-checks")

    def rollback_fixtures(self) -> bool:
        return self._do("fixtures")


@dataclass
class FakeState:
    unchanged: bool = False
    unfinished: bool = False
    applying: bool = False
    may_roll_back: bool = True
    full: bool = False
    finished: list[Outcome] = field(default_factory=list)

    def finish(self, outcome: Outcome) -> None:
        if self.full:
            self.full = False
            raise OSError("disk full")
        self.finished.append(outcome)


def play(
    faults: dict[str, str] | None = None, mode: Mode = Mode.DEPLOY, *, tag: bool = False, **state: Any
) -> tuple[Outcome, FakeStage]:
    fake = FakeState(**state)
    stage = FakeStage(faults or {}, fake)
    return release(stage, fake, mode, tag=tag), stage


STEPS = ("plan", "saves", "snapshot", "apply", "wait", "post-checks")


def test_all_goes_well() -> None:
    outcome, stage = play()
    assert outcome is Outcome.SHIPPED
    assert stage.done == list(STEPS)
    assert stage.state.finished == [Outcome.SHIPPED]


@pytest.mark.parametrize(("step", "how"), list(itertools.product(STEPS, ["failed", "interrupted"])))
def test_one_fault_anywhere(step: str, how: str) -> None:
    outcome, stage = play({step: how})
    if step in ("plan", "saves", "snapshot"):
        assert outcome is (Outcome.INTERRUPTED if how == "interrupted" else Outcome.WITHHELD)
        assert "apply" not in stage.done
        assert stage.state.finished == []
    else:
        assert outcome is Outcome.ROLLED_BACK
        assert stage.done[-3:] == ["fixtures", "rollback", "verify"]
        assert stage.state.finished == [Outcome.ROLLED_BACK]


@pytest.mark.parametrize("broken", ["fixtures", "rollback", "verify"])
def test_whatever_fails_on_the_way_back_the_rest_is_tried_and_nothing_is_called_finished(broken: str) -> None:
    outcome, stage = play({"wait": "failed", broken: "failed"})
    assert outcome is Outcome.ROLLBACK_FAILED
    assert stage.done[-3:] == ["fixtures", "rollback", "verify"]
    assert stage.state.finished == []


def test_an_apply_that_never_began_needs_no_way_back() -> None:
    outcome, stage = play({"apply": "refused"})
    assert outcome is Outcome.WITHHELD
    assert "rollback" not in stage.done


@pytest.mark.parametrize("fault", [None, "wait", "post-checks"])
def test_an_unchanged_release_is_checked_and_never_rolled_back(fault: str | None) -> None:
    outcome, stage = play({fault: "failed"} if fault else {}, unchanged=True)
    assert outcome is (Outcome.UNHEALTHY if fault else Outcome.UNCHANGED)
    assert not {"apply", "rollback", "snapshot"} & set(stage.done)


def test_a_plan_is_only_a_plan() -> None:
    outcome, stage = play(mode=Mode.PLAN, unfinished=True)
    assert (outcome, stage.done) == (Outcome.PLANNED, ["plan"])


def test_what_an_earlier_run_left_is_brought_back_first() -> None:
    outcome, stage = play(unfinished=True)
    assert outcome is Outcome.SHIPPED
    assert stage.done == ["fixtures", "recover", "verify", *STEPS]
    assert stage.state.finished == [Outcome.ROLLED_BACK, Outcome.SHIPPED]


@pytest.mark.parametrize("broken", ["fixtures", "recover", "verify"])
def test_nothing_new_ships_over_what_could_not_be_recovered(broken: str) -> None:
    outcome, stage = play({broken: "failed"}, unfinished=True)
    assert outcome is Outcome.ROLLBACK_FAILED
    assert "plan" not in stage.done


def test_without_rollback_nothing_unfinished_is_recovered_or_covered_up() -> None:
    outcome, stage = play(unfinished=True, may_roll_back=False)
    assert (outcome, stage.done) == (Outcome.ROLLBACK_FAILED, [])


def test_rollback_off_leaves_what_was_applied_and_says_so() -> None:
    outcome, stage = play({"wait": "failed"}, may_roll_back=False)
    assert outcome is Outcome.ROLLBACK_FAILED
    assert stage.done[-2:] == ["skip rollback", "skip verify"]


def test_an_interruption_after_the_last_check_still_rolls_back() -> None:
    state = FakeState()
    stage = FakeStage({}, state)
    assert release(stage, state, Mode.DEPLOY, keep_going=lambda: False) is Outcome.ROLLED_BACK


def test_a_release_whose_record_cannot_be_closed_is_undone_at_once() -> None:
    outcome, stage = play(full=True)
    assert outcome is Outcome.ROLLED_BACK
    assert stage.state.finished == [Outcome.ROLLED_BACK]


@pytest.mark.parametrize("unchanged", [False, True])
@pytest.mark.parametrize("fault", [None, "failed", "interrupted"])
def test_a_verified_release_is_tagged_last_and_no_trouble_with_that_takes_it_back(
    unchanged: bool, fault: str | None
) -> None:
    outcome, stage = play({"tag": fault} if fault else {}, tag=True, unchanged=unchanged)
    assert outcome is (Outcome.UNCHANGED if unchanged else Outcome.SHIPPED)
    assert stage.done[-2:] == ["post-checks", "tag"]
    assert stage.state.finished == ([] if unchanged else [Outcome.SHIPPED]), "the record is closed before the tag"


@pytest.mark.parametrize("fault", STEPS)
@pytest.mark.parametrize("unchanged", [False, True])
def test_what_is_not_verified_gets_no_tag(fault: str, unchanged: bool) -> None:
    if unchanged and fault in ("saves", "snapshot", "apply"):
        return
    _, stage = play({fault: "failed"}, tag=True, unchanged=unchanged)
    assert "tag" not in stage.done
    assert "tag" not in play(mode=Mode.PLAN, tag=True)[1].done
    assert "tag" not in play()[1].done, "nobody asked for it"
