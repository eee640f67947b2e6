"""Which pods keep a StatefulSet from going on, and that nothing else is deleted."""

from __future__ import annotations

from typing import Any

import pytest
from kube_fakes import Cluster, pod, view, workload

from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.unblocking import blocking, unblock
from deploy_guard.drivers.kubernetes.views import View


def made(state: str = "crash loop", number: int = 1, **meta: str) -> Object:
    one = pod(state)
    one["metadata"] |= {"name": f"sts-{number}", "uid": f"sts-{number}"} | meta
    return one


def stuck(*others: Object, **spec: Any) -> View:
    body = workload("stateful set crashing")
    body["spec"] |= spec
    return view(body, others=others or [made()])


def names(found: View) -> list[str]:
    return [one["metadata"]["name"] for one in blocking(found)]


def test_an_old_pod_that_is_not_ready_blocks() -> None:
    assert names(stuck(made(), made("ready", 0), made("starting", 2))) == ["sts-1", "sts-2"]


def test_nothing_blocks_what_starts_its_pods_side_by_side_or_is_left_to_people() -> None:
    assert names(stuck(podManagementPolicy="Parallel")) == []
    assert names(stuck(updateStrategy={"type": "OnDelete"})) == []
    assert names(view(workload("deployment ready"), others=[made()])) == []
    assert names(view(None, kind="StatefulSet")) == []


def test_pods_below_the_partition_stay() -> None:
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    assert names(stuck(updateStrategy=partition)) == []
    assert names(stuck(made(number=2), updateStrategy=partition)) == ["sts-2"]
    assert names(stuck(made(number=2), updateStrategy=partition, ordinals={"start": 1})) == []


def test_nothing_is_known_before_the_controller_has_taken_up_the_change() -> None:
    found = stuck()
    assert found.body is not None
    found.body["metadata"]["generation"] = 9
    assert names(found) == []


def test_a_pod_that_is_going_already_is_left() -> None:
    assert names(stuck(made(deletionTimestamp="2026-11-28T05:00:00Z"))) == []


def accepting(_method: str, _path: str, _body: Any) -> Object:
    return {"kind": "Pod"}


def test_each_pod_is_deleted_once_and_no_other_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    cluster, done = Cluster(), set[str]()
    cluster.answer = accepting
    unblock(cluster, stuck(), done)
    unblock(cluster, stuck(), done)
    (sent,) = cluster.sent
    assert sent[:2] == ("DELETE", "/api/v1/namespaces/shop/pods/sts-1")
    assert sent[4] == {"preconditions": {"uid": "sts-1"}}
    assert "deleted its pod sts-1" in capsys.readouterr().out


def test_a_missing_right_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    cluster, done = Cluster(), set[str]()

    def refuse(_method: str, _path: str, _body: Any) -> Object | None:
        raise ApiError(403, "Forbidden", "pods is forbidden")

    cluster.answer = refuse
    unblock(cluster, stuck(), done)
    unblock(cluster, stuck(), done)
    assert capsys.readouterr().out.count("can't be deleted: pods is forbidden") == 1


def test_an_api_server_that_is_away_is_asked_again() -> None:
    cluster, done = Cluster(), set[str]()

    def fail(_method: str, _path: str, _body: Any) -> Object | None:
        raise Unreachable("away")

    cluster.answer = fail
    unblock(cluster, stuck(), done)
    cluster.answer = accepting
    unblock(cluster, stuck(), done)
    assert len(cluster.sent) == 2
