"""One rollout: the steps of a driver, each written down before and after, and what a rollback needs made durable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Driver, Plan, Release, Snapshot
from deploy_guard.errors import PlanRejected, RollbackFailed
from deploy_guard.flow.model import Mode, Outcome


class Journal(Protocol):
    """Where events are written: intent before an act, outcome after it."""

    def event(self, name: str, **data: Any) -> None:
        """Write one event; it is with the operating system when this returns."""
        ...


class Store(Protocol):
    """Where an unfinished rollout is kept so that another process can finish it."""

    def save(self, record: Mapping[str, Any]) -> None:
        """Keep the record durably, in place of an earlier one."""
        ...

    def load(self) -> dict[str, Any] | None:
        """Return the unfinished record, or None."""
        ...

    def shipped(self) -> dict[str, Any] | None:
        """Return the record of the rollout whose release is there, or None."""
        ...

    def take_back(self, record: Mapping[str, Any]) -> None:
        """Make a record the unfinished one, in place of the one of what is there."""
        ...

    def clear(self, summary: Mapping[str, Any], *, stays: bool) -> None:
        """Nothing is unfinished any more; keep ``summary``, and the record too if the release stays."""
        ...


@dataclass
class Rollout:
    """The state of one rollout; satisfies ``flow.release.RolloutState``.

    :param source: gives the driver; called once, when the first step needs it.
    :param timeout: seconds for wait; rollback and verify have as much again, each.
    :param tagger: makes the release's tag and says what it did.
    """

    run: str
    env: str
    service: str
    release: Release
    mode: Mode
    source: Callable[[], Driver]
    journal: Journal
    store: Store
    timeout: float
    may_roll_back: bool = True
    driver_name: str = ""
    rollback_names: tuple[str, ...] = ()
    on_applying: Callable[[], None] = lambda: None
    tagger: Callable[[], str] = str
    plan_: Plan | None = None
    snapshot_: Snapshot | None = None
    saved: dict[str, Any] = field(default_factory=dict)
    applying: bool = False
    recovered: str = ""
    _driver: Driver | None = None
    _used: list[Driver] = field(default_factory=list)
    _stored: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self._stored = self.store.load()

    @property
    def driver(self) -> Driver:
        """The driver, made when it is first asked for."""
        return self._driver if self._driver is not None else self._take(self.source())

    @property
    def target(self) -> str:
        """What is deployed to, for people; empty while no driver has been made."""
        return self._driver.target if self._driver is not None else ""

    @property
    def previous(self) -> str | None:
        """The version that was there before, as the snapshot says."""
        return self.snapshot_.previous if self.snapshot_ is not None else None

    @property
    def unfinished(self) -> bool:
        """An earlier run died after its apply began."""
        return self._stored is not None

    @property
    def unfinished_run(self) -> str:
        """The id of the run that died, or an empty text."""
        return str(self._stored["run"]) if self._stored is not None else ""

    @property
    def unchanged(self) -> bool:
        """The plan holds no change."""
        return self.plan_ is not None and self.plan_.unchanged

    @property
    def has_driver(self) -> bool:
        """A driver has been made, or was handed over."""
        return self._driver is not None

    def use(self, driver: Driver) -> str:
        """Take this driver."""
        return self._take(driver).target

    def _take(self, driver: Driver) -> Driver:
        self._driver = driver
        if not any(driver is known for known in self._used):
            self._used.append(driver)
        return driver

    def close(self) -> list[str]:
        """The run is over: let the drivers end what they hold, once; returns what went wrong, for people."""
        used, self._used = self._used, []
        return [said for driver in used if (said := close_driver(driver))]

    def notices(self) -> list[str]:
        """What the driver wants said in the headline; optional in the protocol."""
        said = getattr(self._driver, "notices", None)
        try:
            return [str(line) for line in said()] if callable(said) else []
        except Exception as error:  # noqa: BLE001 - a driver's; what it has done is recorded without it
            return [f"the driver's notices could not be had: {type(error).__name__}: {error}"]

    def adopt_unfinished_of(self, run: str) -> bool:
        """Take over what the process that died in this same run had begun to apply; True if there was something."""
        if self._stored is None or self.unfinished_run != run:
            return False
        self.snapshot_ = Snapshot.from_json(self._stored["snapshot"])
        self.saved = dict(self._stored["saved"])
        self.applying = True
        return True

    @property
    def can_be_taken_back(self) -> bool:
        """There is a rollout to go back from: one that is unfinished, or the last that shipped."""
        return self._stored is not None or self.store.shipped() is not None

    # The steps. Each returns one line for people.

    def plan_with(self, driver: Driver) -> str:
        """Dry run with this driver; nothing is changed."""
        self.use(driver)
        return self.plan()

    def plan(self) -> str:
        """Dry run; nothing is changed."""
        plan: Plan = self._act("plan", lambda: self.driver.plan(self.release), lambda p: {"digest": p.digest})
        self.plan_ = plan
        return plan.summary

    def snapshot(self) -> str:
        """Describe what is there, and make the description durable before anything is changed."""
        plan = self._planned()

        def take() -> Snapshot:
            snapshot = self.driver.snapshot(plan)
            self.store.save(self._record(snapshot, begun=False))
            return snapshot

        self.snapshot_ = self._act("snapshot", take, lambda s: {"previous": s.previous})
        saved = ", ".join(self.saved)
        return f"was {self.previous or 'nothing'}" + (f"; saved {saved}" if saved else "")

    def apply(self) -> str:
        """Make the changes."""
        plan = self._planned()
        assert self.snapshot_ is not None
        self.store.save(self._record(self.snapshot_, begun=True))
        self.applying = True
        self.on_applying()
        self._act("apply", lambda: self.driver.apply(plan))
        return plan.summary

    def wait(self) -> str:
        """Wait until healthy or doomed."""
        plan = self._planned()
        self._act("wait", lambda: self.driver.wait(plan, Deadline.after(self.timeout)))
        return "healthy"

    def tag(self) -> str:
        """Tag the release, which is verified."""
        said: str = self._act("tag", self.tagger)
        return said

    def rollback(self) -> str:
        """Bring the snapshot back with the driver."""
        snapshot = self._restorable()
        self._act("rollback", lambda: self.driver.rollback(snapshot, Deadline.after(self.timeout)))
        return f"back to {snapshot.previous or 'nothing'}"

    def retrieve_with(self, driver: Driver) -> str:
        """Take up the record of what is there, to go back from it with this driver; the target is not touched."""
        self.use(driver)
        unfinished = self.unfinished_run
        record = self._stored or self.store.shipped()
        if record is None:
            raise RollbackFailed("there is no rollout to go back from")
        snapshot: Snapshot = self._act("retrieve", lambda: self._retrieve(record), lambda s: {"previous": s.previous})
        self.snapshot_, self.saved, self.applying = snapshot, dict(record["saved"]), True
        self._stored, self.recovered = None, unfinished
        what = f"run {unfinished} was left unfinished" if unfinished else f"shipped by run {record['run']}"
        return f"{what}; was {snapshot.previous or 'nothing'}"

    def _retrieve(self, record: dict[str, Any]) -> Snapshot:
        snapshot = _snapshot_of(record)
        if snapshot.target != self.target:
            raise RollbackFailed(
                f"it was shipped to {snapshot.target}, and {self.target} is configured now",
                hint="go back with the configuration that it was shipped with",
            )
        if gone := [name for name in record["rollback_fixtures"] if name not in self.rollback_names]:
            commit = record["release"]["commit"]
            raise RollbackFailed(
                f"rollback fixtures of that release are not here any more: {', '.join(gone)}",
                hint=f"check out {commit or 'the commit that was shipped'}, and go back from there",
            )
        keep = self.store.save if self.unfinished else self.store.take_back
        keep({**record, "run": self.run, "begun": True})
        self.on_applying()
        return snapshot

    def recover(self) -> str:
        """Bring back what an earlier run, which died, had left half-way."""
        snapshot = self._restorable()
        assert self._stored is not None
        run = str(self._stored["run"])
        self._act(
            "recover",
            lambda: self.driver.rollback(snapshot, Deadline.after(self.timeout)),
            lambda _: {"unfinished_run": run},
        )
        self.recovered = run
        return f"run {run} was left unfinished; back to {snapshot.previous or 'nothing'}"

    def verify(self) -> str:
        """Check that what was there before is there again."""
        snapshot = self._restorable()
        self._act("verify", lambda: self.driver.verify(snapshot, Deadline.after(self.timeout)))
        return f"{snapshot.previous or 'nothing'} verified"

    def stored_saves(self) -> dict[str, Any]:
        """The saved values that rollback fixtures get: this run's, or those of the run that died."""
        if self.saved or self._stored is None:
            return self.saved
        return dict(self._stored["saved"])

    def finish(self, outcome: Outcome) -> None:
        """Nothing is left to do; the store keeps a summary."""
        self.store.clear(
            {
                "run": self.run,
                "env": self.env,
                "service": self.service,
                "outcome": str(outcome),
                "version": self.release.version if outcome is Outcome.SHIPPED else self.previous,
            },
            # Where going back is switched off, what failed is still there.
            stays=outcome is not Outcome.ROLLED_BACK,
        )
        self._stored = None
        if outcome is not Outcome.SHIPPED and not self.applying:
            self.saved = {}

    def _planned(self) -> Plan:
        if self.plan_ is None:
            raise PlanRejected("there is no plan: the plan step did not pass")
        return self.plan_

    def _restorable(self) -> Snapshot:
        if self.snapshot_ is not None:
            return self.snapshot_
        if self._stored is not None:
            return _snapshot_of(self._stored)
        raise RollbackFailed("there is no snapshot to go back to", hint="restore the target by hand")

    def _record(self, snapshot: Snapshot, *, begun: bool) -> dict[str, Any]:
        return {
            "schema": 1,
            "run": self.run,
            "env": self.env,
            "service": self.service,
            "driver": self.driver_name,
            "release": {"version": self.release.version, "commit": self.release.commit},
            "snapshot": snapshot.to_json(),
            "saved": self.saved,
            "rollback_fixtures": list(self.rollback_names),
            "begun": begun,
        }

    def _act(
        self,
        name: str,
        act: Callable[[], Any],
        details: Callable[[Any], Mapping[str, Any]] = lambda _: {},
    ) -> Any:
        # Intent before the act and outcome after it: a record that ends with an intent tells where a run died.
        self.journal.event(name, state="intent")
        started = time.monotonic()
        try:
            result = act()
        except BaseException as error:  # every way out is written down, Ctrl-C included, and goes on to the caller
            said = f"{type(error).__name__}: {error}"
            self.journal.event(name, state="failed", seconds=_since(started), error=said)
            raise
        self.journal.event(name, state="passed", seconds=_since(started), **details(result))
        return result


def close_driver(driver: Driver) -> str:
    """Close a driver that can be closed, and say what went wrong; empty when nothing did."""
    close = getattr(driver, "close", None)
    if not callable(close):
        return ""
    try:
        close()
    except Exception as error:  # noqa: BLE001 - a driver's; what was rolled out or back is no other for it
        return f"the driver could not be closed: {type(error).__name__}: {error}"
    return ""


def _since(started: float) -> float:
    return round(time.monotonic() - started, 4)


def _snapshot_of(record: Mapping[str, Any]) -> Snapshot:
    try:
        return Snapshot.from_json(record["snapshot"])
    except (KeyError, TypeError) as error:
        raise RollbackFailed(
            f"the stored snapshot of run {record['run']} can't be read: {error!r}",
            hint="restore the target by hand, then remove the record (docs/architecture.md, 'Unfinished')",
        ) from error
