"""How long it takes to plan and apply many objects, and how much memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from kube import objects
from kube.cluster import CONTEXT, Row, Run, Space, driver, interleaved, median, ratio
from kube.peers import Peers, timed

FORWARD = ("plan", "snapshot", "apply")
REACH = {100: 2.0, 500: 1.5}


def many(top: Path, peers: Peers, number: int, pairs: int, *, slow: int) -> list[Row]:
    """Return the rows for so many objects: pairs with the fastest peer, ``slow`` turns with the others."""
    with ExitStack() as stack:

        def space(label: str) -> Space:
            made = stack.enter_context(Space.new(top, label))
            made.write(*objects.config_maps(number, "v1"))
            return made

        own, fast = space("own"), space("fast")
        whole: list[float] = []

        def ours() -> float:
            own.empty()
            run = driver(own, FORWARD)
            whole.append(run.ended - run.began)
            return run.seconds("plan", "apply")

        def kubectl(place: Space, *options: str) -> Callable[[], float]:
            folder = str(place.folder / "k8s")
            argv = ["kubectl", "--context", CONTEXT, "-n", place.name, "apply", *options, "-f", folder]

            def act() -> float:
                place.empty()
                return timed([argv])

            return act

        quick = ["--server-side", "--validate=ignore"]
        found = interleaved(pairs, {"own": ours, "fast": kubectl(fast, *quick)})
        others: dict[str, Callable[[], float]] = {}
        if slow:
            others["`kubectl apply`"] = kubectl(space("plain"))
            for name in peers.programs:
                others[name] = _fresh(top, peers, name, number)
        more = interleaved(slow, others)
    said = [f"{name} {median(seconds):.2f} s" for name, seconds in more.items()]
    times = ratio(found["own"], found["fast"])
    mine, theirs = median(found["own"]), median(found["fast"])
    what = f"plan and apply of {number} objects, validated"
    measured = f"{mine:.2f} s, {times:.2f} times (the whole process, with Python's start: {median(whole):.2f} s)"
    beside = "; ".join([f"`kubectl apply --server-side --validate=ignore` {theirs:.2f} s", *said])
    return [(what, measured, beside, f"{REACH[number]:g} times")]


def _fresh(top: Path, peers: Peers, name: str, number: int) -> Callable[[], float]:
    """Return a first release with Helm or kapp, each in a namespace of its own, because they keep records."""

    def act() -> float:
        with Space.new(top, name) as place:
            place.write(*objects.config_maps(number, "v1"))
            return timed([peers.apply(name, place)])

    return act


def linear(top: Path, small: int, large: int) -> list[Row]:
    """Return the row that compares many objects with very many."""
    runs: dict[int, Run] = {}
    for number in (small, large):
        with Space.new(top, "linear") as space:
            space.write(*objects.config_maps(number, "v1"))
            driver(space, FORWARD)
            space.write(*objects.config_maps(number, "v2"))
            runs[number] = driver(space, FORWARD, version="v2")
    per = {number: run.seconds(*FORWARD) / number for number, run in runs.items()}
    memory = {number: run.memory / number for number, run in runs.items()}
    words = [f"{number:,}: {run.seconds(*FORWARD):.2f} s, peak {run.memory:.0f} MB" for number, run in runs.items()]
    each = f"for each object {per[large] / per[small]:.2f} and {memory[large] / memory[small]:.2f} times"
    return [(f"{small:,} and {large:,} objects changed: time and memory", f"{'; '.join(words)}; {each}", "", "linear")]
