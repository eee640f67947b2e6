"""An engine that is stopped, started and pruned: one of the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import compose
import pytest
from compose import OwnEngine, Shop, eventually

from deploy_guard.errors import RollbackFailed, RolloutDoomed

engine = compose.engine


@pytest.fixture(scope="module")
def own(engine: None) -> Iterator[OwnEngine]:
    """An engine that tests may stop; one that can't be had is a reason to skip everywhere but in CI."""
    if why := OwnEngine.absent():
        compose.missing(why)
    made = OwnEngine()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def shop(own: OwnEngine, tmp_path: Path) -> Iterator[Shop]:
    """A project on that engine, shipped as v1.0.0; its port is not to be reached from here."""
    made = compose.new_shop(tmp_path, own.environ)
    web = made.web(ports=[], restart="unless-stopped", volumes=["data:/data"])
    made.write({"web": web, "worker": made.worker(environment={"VERSION": "${VERSION}"})}, volumes={"data": {}})
    made.ship("v1.0.0")
    made.exec("web", "echo kept >/data/it")
    yield made
    made.clean()


def is_back(shop: Shop) -> None:
    assert shop.exec("web", "wget -qO- http://127.0.0.1/version") == "v1.0.0"
    assert shop.exec("worker", "echo $VERSION") == "v1.0.0"
    assert shop.exec("web", "cat /data/it") == "kept"
    assert len(shop.ids) == 2


def test_an_engine_that_is_restarted_in_the_middle_of_up(shop: Shop, own: OwnEngine) -> None:
    snapshot = shop.begin("v2.0.0")

    def restart() -> None:
        eventually(lambda: any("Recreate" in line for line in shop.progress), 30, 0.005)
        own.stop()
        own.start()

    other = threading.Thread(target=restart)
    other.start()
    with pytest.raises(RolloutDoomed):
        shop.finish()
    shop.back(snapshot)
    other.join()
    is_back(shop)


def test_an_engine_that_was_restarted_since(shop: Shop, own: OwnEngine) -> None:
    snapshot = shop.ship("v2.0.0")
    own.stop()
    own.start()
    shop.back(snapshot)
    is_back(shop)
    own.stop()
    own.start()
    plan = shop.plan("v1.0.0")
    diffs = {change.object: change.diff for change in plan.changes if change.action == "change"}
    assert list(diffs) == ["service worker"], "it is not started again by the engine"
    shop.ship("v1.0.0")
    is_back(shop)


def test_the_usual_prunes_take_nothing_that_is_needed(shop: Shop) -> None:
    shop.write(
        {"web": shop.web("two", ports=[], environment={"VERSION": "${VERSION}"}, volumes=["data:/data"])},
        volumes={"data": {}},
    )
    snapshot = shop.ship("v2.0.0")
    shop.docker("rmi", compose.image("one", shop.environ))  # the old image has no other name any more
    shop.docker("image", "prune", "--all", "--force")
    shop.docker("volume", "prune", "--force")
    shop.docker("system", "prune", "--force")
    shop.back(snapshot)
    is_back(shop)


def test_a_prune_of_everything_is_told_and_nothing_is_touched(shop: Shop) -> None:
    shop.write({"web": shop.web("three", ports=[])})
    snapshot = shop.ship("v2.0.0")
    ids = shop.ids
    shop.docker("system", "prune", "--all", "--force")
    with pytest.raises(RollbackFailed, match=r"gone from the engine .* nothing was touched"):
        shop.back(snapshot)
    assert shop.ids == ids
