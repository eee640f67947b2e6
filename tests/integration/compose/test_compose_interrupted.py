"""Cut off in the middle, in each phase: the old or the new release serves, and the next run knows what to do."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import compose
import psutil
import pytest
from compose import Cable, Shop, eventually

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Snapshot
from deploy_guard.errors import DeployGuardError, RolloutDoomed

engine, shop = compose.engine, compose.shop

OLD, NEW = "v1.0.0", "v2.0.0"


def shipped(shop: Shop) -> None:
    """The old release, with a second service and data."""
    shop.write({"web": shop.web(volumes=["/data"]), "worker": shop.worker(environment={"VERSION": "${VERSION}"})})
    shop.compose("up", "--detach", "--wait", version=OLD)
    shop.exec("web", "echo kept >/data/it")


def stored(shop: Shop) -> Snapshot:
    return Snapshot.from_json(json.loads((shop.folder / "snapshot.json").read_text()))


def composes(shop: Shop) -> list[psutil.Process]:
    """The processes of Compose that work on the project."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if shop.project in words and "up" in words and "_guardian.py" not in " ".join(words):
            found.append(process)
    return found


def is_back(shop: Shop) -> None:
    """The old release serves, with its data, and nothing else is there."""
    assert shop.served == OLD
    assert set(shop.ids) == {f"{shop.project}-web-1", f"{shop.project}-worker-1"}
    assert shop.exec("web", "cat /data/it") == "kept"
    assert shop.exec("worker", "echo $VERSION") == OLD


FORWARD = {
    "before anything is kept": "from deploy_guard.drivers.compose.keeping import Keeper\nKeeper.keep = die",
    "half of it is kept": "from deploy_guard.drivers.compose.keeping import Keeper\ndies_after(Keeper, '_hold')",
    "all is kept": "from deploy_guard.drivers.compose.keeping import Keeper\ndies_after(Keeper, 'keep')",
    "up has begun": "HOOKS.append(lambda line: 'Recreate' in line and die())",
    "up has replaced one": "HOOKS.append(lambda line: 'Recreated' in line and die())",
    "up is starting": "HOOKS.append(lambda line: 'Starting' in line and die())",
    "waiting": "HOOKS.append(lambda line: 'health: starting' in line and 'web' in line and (shop / 'up').exists() and die())",
}


@pytest.mark.parametrize("phase", FORWARD)
def test_a_run_that_is_killed_on_the_way_forward_is_taken_back_by_the_next(shop: Shop, phase: str) -> None:
    shipped(shop)
    process = shop.script(
        FORWARD[phase]
        + f"\nplan = begin({NEW!r})\ndriver.apply(plan)\n(shop / 'up').touch()\ndriver.wait(plan, Deadline.after(30))\n"
    )
    said, _ = process.communicate(timeout=60)
    assert (shop.folder / "died").exists(), said
    assert process.returncode == -signal.SIGKILL
    eventually(lambda: not composes(shop), 10)  # the guardian ends what the dead run had started
    shop.back(stored(shop))
    is_back(shop)


def test_a_task_that_runs_when_the_run_is_killed_is_removed(shop: Shop) -> None:
    shipped(shop)
    content = json.loads((shop.folder / "compose.yaml").read_text())
    content["services"]["migrate"] = {**compose.QUICK, **shop.worker("sleep 300", profiles=["tasks"])}
    (shop.folder / "compose.yaml").write_text(json.dumps(content))
    shop.config["before"] = ["migrate"]
    process = shop.script(f"driver.apply(begin({NEW!r}))")
    eventually(lambda: any("migrate" in name for name in shop.ids), 30)
    process.kill()
    process.communicate()
    shop.back(stored(shop))
    is_back(shop)


BACK = {
    "one is made": "dies_after(Restorer, '_make_one')",
    "all are made": "dies_after(Restorer, '_make')",
    "one is removed": "dies_after(Restorer, '_remove')",
    "names are given": "dies_after(Restorer, '_arrange')",
    "they are started": "dies_after(Restorer, '_start')",
}


@pytest.mark.parametrize("phase", BACK)
def test_a_way_back_that_is_killed_is_finished_by_the_next_run(shop: Shop, phase: str) -> None:
    shipped(shop)
    (shop.folder / "snapshot.json").write_text(json.dumps(shop.ship(NEW).to_json()))
    process = shop.script(
        "from deploy_guard.drivers.compose.restoring import Restorer\n"
        + BACK[phase]
        + "\ndriver.rollback(snapshot(), Deadline.after(30))\n"
    )
    said, _ = process.communicate(timeout=60)
    assert (shop.folder / "died").exists(), said
    shop.back(stored(shop))
    is_back(shop)


def test_compose_that_is_killed_in_the_middle_ends_the_rollout_and_all_is_taken_back(shop: Shop) -> None:
    shipped(shop)
    snapshot = shop.begin(NEW)

    def kill() -> None:
        eventually(lambda: any("Recreate" in line for line in shop.progress), 30, 0.005)
        for process in composes(shop):
            process.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RolloutDoomed, match="up"):
        shop.finish()
    killer.join()
    shop.back(snapshot)
    is_back(shop)


def half_recreated(shop: Shop) -> None:
    """What a plain `docker compose up` leaves that is killed between the old container's end and the new one's name."""
    container = shop.container("web")
    name = container["Name"].removeprefix("/")
    body = {**container["Config"], "HostConfig": container["HostConfig"]}
    shop._engine.post("/containers/create", body, query={"name": f"{container['Id'][:12]}_{name}"})
    shop.docker("stop", name)


@pytest.mark.parametrize("left", ["both", "new only"])
def test_what_plain_compose_left_half_way_is_recognised_and_healed(
    shop: Shop, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped(shop)
    half_recreated(shop)
    if left == "new only":
        shop.docker("rm", f"{shop.project}-web-1")
    plan = shop.plan(OLD)
    (change,) = (one for one in plan.changes if one.object == "service web")
    assert "left by a recreate that was interrupted, is healed" in change.diff
    snapshot = shop.ship(NEW)
    healed = "removed" if left == "both" else f"renamed to {shop.project}-web-1"
    assert f"left by a recreate that was interrupted, {healed}" in capsys.readouterr().out
    assert shop.served == NEW
    assert set(shop.ids) == {f"{shop.project}-web-1", f"{shop.project}-worker-1"}
    shop.back(snapshot)
    assert shop.served == OLD, "it had served before somebody's `up` was cut off"
    assert shop.exec("web", "cat /data/it") == "kept" if left == "both" else True


@pytest.fixture
def cable(shop: Shop, tmp_path: Path) -> Iterator[Cable]:
    """The shop's engine behind a socket that can be cut."""
    if os.environ.get("DOCKER_HOST", "unix://").removeprefix("unix://") not in ("", "/var/run/docker.sock"):
        pytest.skip("the engine is not the one of this machine")
    folder = Path("/tmp") / shop.project  # a socket's path must be short
    folder.mkdir()
    made = Cable(folder)
    shop.environ.update(made.environ)
    yield made
    made.cut()
    shop.environ.clear()
    folder.rmdir()


def test_an_engine_that_goes_away_during_up_ends_the_rollout_and_the_way_back_waits_for_it(
    shop: Shop, cable: Cable
) -> None:
    shipped(shop)
    snapshot = shop.begin(NEW)

    def cut() -> None:
        eventually(lambda: any("Recreate" in line for line in shop.progress), 30, 0.005)
        cable.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(RolloutDoomed):
        shop.finish()
    cutter.join()
    threading.Timer(2.0, cable.mend).start()
    shop.back(snapshot)
    is_back(shop)


def test_an_engine_that_goes_away_while_waiting_and_comes_again_is_waited_for(shop: Shop, cable: Cable) -> None:
    check = {**compose.HEALTHY, "start_period": "20s"}
    shop.write({"web": shop.web(command=[f"sleep 3; {compose.SERVE}"], healthcheck=check)})
    shop.begin(OLD)
    assert shop._plan is not None
    driver = shop._drivers[-1]
    driver.apply(shop._plan)
    cable.cut()
    threading.Timer(1.0, cable.mend).start()
    driver.wait(shop._plan, Deadline.after(30))
    assert shop.served == OLD


@pytest.mark.parametrize("phase", ["made", "removed", "started"])
def test_an_engine_that_goes_away_on_the_way_back_is_waited_for(
    shop: Shop, cable: Cable, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploy_guard.drivers.compose.restoring import Restorer

    shipped(shop)
    snapshot = shop.ship(NEW)
    name = {"made": "_make", "removed": "_remove", "started": "_start"}[phase]
    real = getattr(Restorer, name)
    times: list[float] = []

    def then_cut(*args: object) -> object:
        result = real(*args)
        if not times:
            times.append(time.monotonic())
            cable.cut()
            threading.Timer(1.0, cable.mend).start()
        return result

    monkeypatch.setattr(Restorer, name, then_cut)
    shop.back(snapshot)
    assert times
    is_back(shop)


def test_an_engine_that_stays_away_is_told_at_the_deadline(shop: Shop, cable: Cable) -> None:
    shipped(shop)
    snapshot = shop.ship(NEW)
    cable.cut()
    started = time.monotonic()
    with pytest.raises(DeployGuardError, match="the Docker engine can't be reached"):
        shop.back(snapshot, 2)
    assert 1.5 < time.monotonic() - started < 6
    cable.mend()
    shop.back(snapshot)
    is_back(shop)
