"""Runs that are interrupted, killed or cut off from the cluster in the middle: the outcome is right, and said."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import kube
import pytest
from shop import Shop

NEVER_READY = ("path: /version", "path: /not-there")
READY_LATE = ("periodSeconds: 1", "periodSeconds: 1\n          initialDelaySeconds: 6")
OUTAGE = 10.0
"""Seconds that the API server stands still."""


@pytest.fixture
def shop(tmp_path: Path, namespace: kube.Namespace) -> Shop:
    """The shop with v1.0.0 serving; what is applied takes long enough to be met in the middle."""
    made = Shop.new(tmp_path, namespace)
    made.settings(250)
    return made.shipped()


def stuck_in_wait(shop: Shop) -> None:
    """What is released next never becomes ready, and is not given up soon."""
    shop.configure("dwell = { other = 300 }")
    shop.edit(*NEVER_READY)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", ["apply", "wait"])
def test_a_signal_in_the_middle_ends_with_the_old_release_serving(
    shop: Shop, place: str, number: signal.Signals
) -> None:
    before = shop.state()
    if place == "wait":
        stuck_in_wait(shop)
    process = shop.start("gates", env="prod", VERSION="v2.0.0")
    shop.until(place)
    if place == "wait":
        time.sleep(1)  # the watches are open by now
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it for Ctrl-C
    else:
        process.send_signal(number)
    result = shop.ended(process, env="prod", timeout=120)
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert result.verdict["interrupted"] == number.name
    assert result.step(place)["outcome"] == "failed", result.out
    assert shop.state() == before
    assert shop.kubectl_children() == {}


def test_after_a_sigkill_no_child_goes_on_and_the_next_run_recovers(shop: Shop) -> None:
    stuck_in_wait(shop)
    process = shop.start("gates", env="prod", VERSION="v2.0.0")
    shop.until("wait")
    assert kube.eventually(shop.kubectl_children), "the proxy works for the run"
    process.kill()
    process.communicate()
    kube.eventually(lambda: not shop.kubectl_children(), 10)
    assert shop.state()["ConfigMap/settings"]["data"]["greeting"] == "hello from v2.0.0"
    unfinished = json.loads((shop.root / ".deploy-guard/prod.unfinished.json").read_text())
    shop.edit(*reversed(NEVER_READY))
    result = shop.release("v1.0.0")
    assert (result.code, result.outcome) == (0, "unchanged"), result.out
    assert result.verdict["recovered"] == unfinished["run"]
    assert shop.state()["ConfigMap/settings"]["data"]["greeting"] == "hello from v1.0.0"


@pytest.mark.disruptive
@pytest.mark.parametrize("place", ["apply", "wait"])
def test_an_api_server_that_stands_still_for_ten_seconds_only_delays_a_release(shop: Shop, place: str) -> None:
    shop.edit(*READY_LATE)
    process = shop.start("gates", env="prod", VERSION="v2.0.0")
    shop.until(place)
    outage(kube.pause_api_server)
    result = shop.ended(process, env="prod", timeout=150)
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert result.step(place)["seconds"] > OUTAGE - 1, "it was met in the middle"
    parts = [name for name in shop.state() if name.startswith("ConfigMap/part-")]
    assert len(parts) == 250


@pytest.mark.disruptive
def test_an_api_server_that_stands_still_for_ten_seconds_only_delays_a_rollback(shop: Shop) -> None:
    before = shop.state()
    process = shop.start("gates", env="prod", VERSION="v2.0.0", CHECK="fails")
    shop.until("rollback")
    outage(kube.pause_api_server)
    result = shop.ended(process, env="prod", timeout=150)
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert result.step("rollback")["seconds"] > OUTAGE - 1, "it was met in the middle"
    assert shop.state() == before


def outage(stopped: Callable[[], AbstractContextManager[None]]) -> None:
    with stopped():
        time.sleep(OUTAGE)


@pytest.mark.parametrize("place", ["apply", "wait", "rollback"])
def test_an_address_that_refuses_for_ten_seconds_only_delays_it(shop: Shop, place: str, tmp_path: Path) -> None:
    """The API server is restarted: connections are cut, new ones refused, then all is well again."""
    before = shop.state()
    with kube.Relay(tmp_path) as relay:
        more = {"CHECK": "fails"} if place == "rollback" else {}
        shop.edit(*READY_LATE)
        process = shop.start("gates", env="prod", VERSION="v2.0.0", KUBECONFIG=str(relay.kubeconfig), **more)
        shop.until(place)
        relay.refuse()
        time.sleep(OUTAGE)
        relay.resume()
        result = shop.ended(process, env="prod", timeout=150)
    if place == "rollback":
        assert (result.code, result.outcome) == (2, "rolled-back"), result.out
        assert shop.state() == before
    else:
        assert (result.code, result.outcome) == (0, "shipped"), result.out


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_kubectl_that_is_frozen_or_killed_in_the_middle_does_not_decide_what_becomes_of_a_release(
    shop: Shop, number: signal.Signals
) -> None:
    shop.edit(*READY_LATE)
    process = shop.start("gates", env="prod", VERSION="v2.0.0")
    shop.until("wait")
    proxies = [pid for pid, line in kube.eventually(shop.kubectl_children).items() if "_guardian" not in line]
    assert proxies
    for pid in proxies:
        kube.stop(pid, number)
    result = shop.ended(process, env="prod", timeout=150)
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert shop.state()["ConfigMap/settings"]["data"]["greeting"] == "hello from v2.0.0"
    kube.eventually(lambda: not shop.kubectl_children(), 10)


def test_a_cluster_that_never_answers_is_told_at_the_plan(shop: Shop, tmp_path: Path) -> None:
    before = shop.quiet_versions()
    with kube.Relay(tmp_path) as relay:
        relay.refuse()
        result = shop.release("v2.0.0", KUBECONFIG=str(relay.kubeconfig))
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert relay.address.removeprefix("https://") in result.step("plan")["message"]
    assert shop.namespace.versions() == before
