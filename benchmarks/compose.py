"""What the Compose driver costs and gains, beside plain Compose: medians of interleaved pairs, in one run.

``python benchmarks/compose.py [--pairs N] [--short]``. It needs an engine with Compose, and a busybox that is linked
statically or can be pulled. The driver and plain Compose ship the same files to projects of their own, in turns, so
that a machine that is busy shows in both. ``--short`` is for CI: two pairs, less than a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Release, Snapshot
from deploy_guard.errors import RolloutDoomed

DWELL = 2.0
SERVICES = ("web", "queue", "cache")


def harness() -> Any:
    """The tests' own harness, whose module has the name of this one."""
    path = Path(__file__).resolve().parent.parent / "tests/compose.py"
    spec = importlib.util.spec_from_file_location("compose_harness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write(shop: Any, **web: Any) -> None:
    """Three services with healthchecks, of which one serves; all of them change with each version."""
    quiet = {"healthcheck": {"test": ["CMD", "true"], "interval": "0.5s"}, "environment": {"VERSION": "${VERSION}"}}
    shop.write({"web": shop.web(**web), "queue": shop.worker(**quiet), "cache": shop.worker(**quiet)})


def plain(shop: Any, version: str) -> tuple[float, int]:
    """``docker compose up -d --wait``: seconds and exit code."""
    argv = ["docker", "compose", "-p", shop.project, "-f", str(shop.folder / "compose.yaml"), "up", "-d", "--wait"]
    started = time.monotonic()
    done = subprocess.run(argv, env={**HARNESS.os.environ, "VERSION": version}, capture_output=True, timeout=120)
    return time.monotonic() - started, done.returncode


def guarded(shop: Any, version: str) -> tuple[float, Snapshot, str, Any]:
    """Plan, snapshot, apply and wait: seconds, the snapshot, the verdict (empty when healthy), and the driver."""
    driver = shop.driver
    started = time.monotonic()
    with quietly():
        plan = driver.plan(Release(version, "c0ffee"))
        snapshot = driver.snapshot(plan)
        try:
            driver.apply(plan)
            driver.wait(plan, Deadline.after(60))
            verdict = ""
        except RolloutDoomed as error:
            verdict = error.what.splitlines()[-1 if "up failed" in error.what else 0]
    return time.monotonic() - started, snapshot, verdict, driver


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class Events:
    """The engine's own events of a project: when it knew what."""

    def __init__(self, project: str) -> None:
        label = f"label=com.docker.compose.project={project}"
        argv = ["docker", "events", "--filter", label, "--filter", "type=container", "--format", "{{json .}}"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.seen: list[tuple[float, str, str]] = []
        threading.Thread(target=self._read, daemon=True).start()
        time.sleep(0.3)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            code = event["Actor"]["Attributes"].get("exitCode", "")
            self.seen.append((event["timeNano"] / 1e9, event["Action"], code))

    def times(self, word: str, code: str = "") -> list[float]:
        """When it told of this, the first time first."""
        return [at for at, action, ended in self.seen if word in action and ended == code]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def until_served(shop: Any, version: str, act: Callable[[], object]) -> float:
    """Seconds until the version answers, while ``act`` works."""
    started = time.monotonic()
    other = threading.Thread(target=act)
    other.start()
    while shop.served != version:
        time.sleep(0.02)
    seconds = time.monotonic() - started
    other.join()
    return seconds


def shipping(ours: Any, theirs: Any, pairs: int) -> None:
    write(ours)
    write(theirs)
    guarded(ours, "v0")
    plain(theirs, "v0")
    with_, without = [], []
    for number in range(pairs):
        seconds, _, verdict, driver = guarded(ours, f"v1.{number}")
        driver.close()
        assert not verdict, verdict
        with_.append(seconds)
        without.append(plain(theirs, f"v1.{number}")[0])
    say("plan to healthy, three services", with_, without, f"+{median_of(with_, without):.2f} s (to reach: +1.5 s)")


def failing(ours: Any, theirs: Any, times: int) -> None:
    """An unhealthy release after the last good one: engine knows to verdict, and verdict to the old version serving."""
    knows, back, whole, again = [], [], [], []
    check = {"test": ["CMD", "false"], "interval": "0.5s", "retries": 2}
    old = ours.served
    for number in range(times):
        for shop in (ours, theirs):
            write(shop, healthcheck=check)
        events = Events(ours.project)
        _, snapshot, verdict, driver = guarded(ours, f"v4.{number}")
        told = time.time()
        assert "unhealthy" in verdict, verdict
        knows.append(told - events.times("health_status: unhealthy")[0])
        events.close()
        started = time.monotonic()
        with quietly():
            back.append(until_served(ours, old, lambda d=driver, s=snapshot: d.rollback(s, Deadline.after(60))))
            whole.append(time.monotonic() - started)
            driver.verify(snapshot, Deadline.after(10))
        driver.close()
        plain(theirs, f"v4.{number}")
        write(theirs)
        again.append(plain(theirs, old)[0])
    say("unhealthy: the engine knows to verdict", knows, [], "(to reach: 2 s)")
    say("verdict to the old version serving", back, again, f"{median_of(back, again):+.2f} s (to reach: +1 s)")
    say("  and until it is healthy and verified", whole, again, "")


def looping(ours: Any, theirs: Any, times: int) -> None:
    """A crash loop without a healthcheck: first crash to verdict, and what plain Compose calls it."""
    knows, since, plainly, codes = [], [], [], set()
    for shop in (ours, theirs):
        shop.write({"worker": shop.worker(environment={"VERSION": "${VERSION}"})})
    ours.config["dwell"] = DWELL
    guarded(ours, "v5.0")
    plain(theirs, "v5.0")
    for number in range(times):
        for shop in (ours, theirs):
            # It runs for a moment: long enough to be called up.
            shop.write({"worker": shop.worker("sleep 0.7; exit 3", restart="always")})
        events = Events(ours.project)
        _, snapshot, verdict, driver = guarded(ours, f"v6.{number}")
        told = time.time()
        assert "crashes again and again" in verdict, verdict
        crashes = [at for at in events.times("die", "3") if at <= told]
        knows.append(told - crashes[-1])
        since.append(told - crashes[0] - DWELL)
        events.close()
        with quietly():
            driver.rollback(snapshot, Deadline.after(60))
            driver.verify(snapshot, Deadline.after(10))
        driver.close()
        seconds, code = plain(theirs, f"v6.{number}")
        plainly.append(seconds)
        codes.add(code)
        shop = theirs
        shop.write({"worker": shop.worker(environment={"VERSION": "${VERSION}"})})
        plain(theirs, "v5.0")
    said = f"plain Compose: exit code {', '.join(map(str, sorted(codes)))} after {statistics.median(plainly):.2f} s"
    say("crash loop: first crash and dwell to verdict", since, [], f"(to reach: 2 s); {said}")
    say("  its last crash to verdict", knows, [], "")


def median_of(one: list[float], other: list[float]) -> float:
    return statistics.median(a - b for a, b in zip(one, other, strict=True))


def say(what: str, ours: list[float], theirs: list[float], note: str) -> None:
    beside = f"   docker compose {statistics.median(theirs):5.2f} s" if theirs else " " * 26
    print(f"{what:<46} {statistics.median(ours):5.2f} s{beside}   {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--short", action="store_true", help="two pairs, one failing release of each kind")
    arguments = parser.parse_args()
    pairs, times = (2, 1) if arguments.short else (arguments.pairs, max(1, arguments.pairs // 2))
    if why := HARNESS.absent():
        sys.exit(f"no engine to measure on: {why}")
    with tempfile.TemporaryDirectory() as name:
        shops = []
        for part in ("ours", "theirs"):
            (Path(name) / part).mkdir()
            shops.append(HARNESS.new_shop(Path(name) / part))
        try:
            shipping(*shops, pairs)
            failing(*shops, times)
            looping(*shops, times)
        finally:
            for shop in shops:
                shop.clean()


HARNESS = harness()

if __name__ == "__main__":
    main()
