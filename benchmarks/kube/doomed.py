"""A release that can't succeed: from the moment when the API shows it to the verdict, and to the old version back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from kube import objects
from kube.cluster import Body, Failed, Row, Space, Watch, containers, differing, driver, median
from kube.peers import Peers, timed
from kube.registry import Registry

CAP = 60.0
"""Seconds after which tools with their default limits are ended: they would wait for 5 to 15 minutes."""
TUNED = 20
"""Seconds that the tools are given when they are told a limit."""
FORWARD = ("plan", "snapshot", "apply", "wait")


def _crashes(pod: Body) -> bool:
    return any(
        one["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        or (one["restartCount"] >= 1 and one["state"].get("terminated", {}).get("exitCode"))
        for one in containers(pod)
    )


def _image_is_missing(pod: Body) -> bool:
    waiting = [one["state"].get("waiting", {}) for one in containers(pod)]
    return any("Pull" in one.get("reason", "") and "not found" in one.get("message", "") for one in waiting)


def _config_is_bad(pod: Body) -> bool:
    return any(one["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError" for one in containers(pod))


@dataclass(frozen=True)
class Scenario:
    """A way to fail, how it shows in a pod, and the default dwell of deploy-guard for it."""

    name: str
    dwell: float
    spec: Body
    shows: Callable[[Body], bool]


def scenarios(registry: Registry) -> list[Scenario]:
    missing = {"valueFrom": {"configMapKeyRef": {"name": "not-there", "key": "x"}}}
    return [
        Scenario("crash loop", 0, objects.pod("echo no such table; exit 3"), _crashes),
        Scenario(
            "missing image",
            5,
            objects.pod(objects.SLEEP, image=registry.image("gone", "v2")),
            _image_is_missing,
        ),
        Scenario("bad config", 10, objects.pod(objects.SLEEP, env=[{"name": "X", **missing}]), _config_is_bad),
    ]


@dataclass(frozen=True)
class Verdict:
    """``after``: seconds from visible to verdict; ``total``: from the start of the command."""

    after: float
    total: float


def by_driver(space: Space, scenario: Scenario) -> Verdict:
    """Release what works, then what does not."""
    space.write(*objects.healthy("v1"))
    driver(space, FORWARD)
    space.write(*objects.shop("v2", scenario.spec))
    with Watch(space, scenario.shows) as watch:
        run = driver(space, FORWARD, version="v2", dooms=True)
    if run.failed != "wait" or not watch.seen.is_set():
        raise Failed(f"{scenario.name}: {run.failed} failed, seen: {watch.seen.is_set()}: {run.error}")
    verdict = run.steps["wait"][1]
    return Verdict(verdict - watch.at, verdict - run.began)


def by_peer(peers: Peers, name: str, space: Space, scenario: Scenario, limit: int | None) -> Verdict:
    """Do the same with another tool: ``limit`` seconds, or its own defaults up to the cap."""
    deadline = limit or 600
    space.write(*objects.healthy("v1"))
    timed(peers.release(name, space))
    space.write(*objects.shop("v2", scenario.spec, deadline=deadline))
    began = time.monotonic()
    with Watch(space, scenario.shows) as watch:
        cap = 4.0 * limit if limit else CAP
        seconds = timed(peers.release(name, space, f"{limit}s" if limit else ""), cap=cap, codes=None)
        if not watch.seen.wait(5):
            raise Failed(f"{scenario.name} with {name} was not seen in the API")
    return Verdict(began + seconds - watch.at, seconds)


def side_by_side(top: Path, peers: Peers, registry: Registry, rounds: int, *, short: bool) -> list[Row]:
    """Return the rows of the table; the short form has all ways to fail side by side, as they mostly wait."""
    with ThreadPoolExecutor(3 if short else 1) as pool:
        return list(pool.map(lambda one: _row(top, peers, one, rounds, short=short), scenarios(registry)))


def _row(top: Path, peers: Peers, scenario: Scenario, rounds: int, *, short: bool) -> Row:
    """Return the row of one way to fail."""
    own: list[Verdict] = []
    tuned: dict[str, list[Verdict]] = {name: [] for name in peers.names}
    default: dict[str, list[Verdict]] = {name: [] for name in peers.names}
    for turn in range(rounds):
        with ExitStack() as stack:

            def space(stack: ExitStack = stack) -> Space:
                return stack.enter_context(Space.new(top, "doom"))

            own.append(by_driver(space(), scenario))
            if short:
                continue
            asked: list[tuple[str, int | None, list[Verdict]]] = [(n, TUNED, tuned[n]) for n in peers.names]
            if turn == 0:
                asked += [(name, None, default[name]) for name in peers.names]
            _together([_recorded(peers, name, space(), scenario, limit, into) for name, limit, into in asked])
    after, total = median([one.after for one in own]), median([one.total for one in own])
    words = [f"{name} {_said(tuned[name], default[name])}" for name in peers.names if tuned[name]]
    return (
        f"{scenario.name}: visible in the API to verdict",
        f"{after:.2f} s (dwell {scenario.dwell:g}), in all {total:.1f} s",
        "; ".join(words),
        f"{2 + scenario.dwell:g} s",
    )


def _said(tuned: list[Verdict], default: list[Verdict]) -> str:
    """Return the figures of another tool; at the cap it was ended without a verdict."""
    words = []
    for label, found in ((f"limit {TUNED} s", tuned), ("defaults", default)):
        ended = max(one.total for one in found) >= CAP
        words.append(f"{median([one.after for one in found]):.1f} s{' and more' if ended else ''} ({label})")
    return ", ".join(words)


def _recorded(
    peers: Peers, name: str, space: Space, scenario: Scenario, limit: int | None, into: list[Verdict]
) -> Callable[[], None]:
    return lambda: into.append(by_peer(peers, name, space, scenario, limit))


def _together(runs: list[Callable[[], None]]) -> None:
    """Run those that mostly wait side by side."""
    errors: list[Exception] = []

    def guarded(run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001 - a thread hands on whatever it met
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# The way back


@dataclass
class Back:
    """Seconds from verdict to the old version restored, and verified; objects that differ then."""

    restored: list[float]
    verified: list[float]
    differ: list[list[str]]


def back(top: Path, peers: Peers, registry: Registry, pairs: int) -> tuple[list[Row], list[str]]:
    """Return the rows of the table, and what is wrong."""
    crash = scenarios(registry)[0]
    own, undo = Back([], [], []), Back([], [], [])
    checked, checked_undo = Back([], [], []), Back([], [], [])
    helm = Back([], [], [])
    for turn in range(pairs):
        acts: list[Callable[[], None]] = [
            lambda: _driver_back(top, crash, own),
            lambda: _undo(top, peers, crash, undo),
            lambda: _driver_back(top, None, checked),
            lambda: _undo(top, peers, None, checked_undo),
        ]
        for act in acts if turn % 2 else reversed(acts):
            act()
    if "helm" in peers.programs:
        _helm_back(top, peers, helm)
    rows: list[Row] = []
    for what, one, other in (
        ("crash loop: verdict to the old version, restored and verified", own, undo),
        ("failed post-check: the same", checked, checked_undo),
    ):
        mine, theirs = median(one.verified), median(other.restored)
        measured = f"{mine:.2f} s (restored after {median(one.restored):.2f} s)"
        rows.append((what, measured, f"`rollout undo` and `status` {theirs:.2f} s", f"{theirs:.2f} s + 1 s"))
    worst, undone = _worst([*own.differ, *checked.differ]), _worst([*undo.differ, *checked_undo.differ])
    beside = [f"`rollout undo` {len(undone)}{_listed(undone)}"]
    beside += [f"Helm's rollback {len(found)}{_listed(found)}" for found in helm.differ]
    rows.append(
        ("objects that differ after the way back, of 6", f"{len(worst)}{_listed(worst)}", "; ".join(beside), "0")
    )
    return rows, [f"after the rollback these differ: {', '.join(worst)}"] if worst else []


def _worst(found: list[list[str]]) -> list[str]:
    return max(found, key=len, default=[])


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)})" if names else ""


def _driver_back(top: Path, scenario: Scenario | None, into: Back) -> None:
    with Space.new(top, "back") as space:
        space.write(*objects.healthy("v1"))
        driver(space, FORWARD)
        before = space.state()
        space.write(*(objects.shop("v2", scenario.spec) if scenario else objects.healthy("v2")))
        run = driver(space, [*FORWARD, "rollback", "verify"], version="v2", dooms=scenario is not None)
        if run.failed not in ("", "wait"):
            raise Failed(f"{run.failed}: {run.error}")
        into.restored.append(run.seconds("rollback"))
        into.verified.append(run.seconds("rollback", "verify"))
        into.differ.append(differing(before, space.state()))


def _undo(top: Path, peers: Peers, scenario: Scenario | None, into: Back) -> None:
    with Space.new(top, "undo") as space:
        space.write(*objects.healthy("v1"))
        apply, status = peers.release("kubectl", space)
        timed([apply, status])
        before = space.state()
        if scenario is None:
            space.write(*objects.healthy("v2"))
            timed([apply, status])
        else:
            space.write(*objects.shop("v2", scenario.spec))
            with Watch(space, scenario.shows) as watch:
                timed([apply])
                watch.seen.wait(60)
        undo = ["undo" if word == "status" else word for word in status]
        into.restored.append(timed([undo, status]))
        into.differ.append(differing(before, space.state()))


def _helm_back(top: Path, peers: Peers, into: Back) -> None:
    with Space.new(top, "helm") as space:
        space.write(*objects.healthy("v1"))
        timed(peers.release("helm", space))
        before = space.state()
        space.write(*objects.healthy("v2"))
        timed(peers.release("helm", space))
        into.restored.append(timed([peers.helm(space, "rollback", "shop", "--wait")]))
        into.differ.append(differing(before, space.state()))
