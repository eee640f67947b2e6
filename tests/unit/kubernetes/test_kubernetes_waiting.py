"""The whole wait, against an API server in memory: how it ends, when, and what it asks on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from kube_fakes import Cluster, pod, ref, ref_of, workload

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import trial, waiting, watching
from deploy_guard.drivers.kubernetes.config import Dwells
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.errors import RolloutDoomed

QUICK = Dwells(image=0.4, unschedulable=0.4, other=0.4, settle=0.4)
LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAUSE", 0.05)
    monkeypatch.setattr(watching, "_REFUSED", 0.05)
    monkeypatch.setattr(trial, "PATIENCE", 0.2)
    monkeypatch.setattr(waiting, "PATIENCE", 0.2)
    monkeypatch.setattr(waiting, "_FRESH", 0.1)


def deployment(name: str = "web", ready: int = 1, replicas: int = 1, generation: int = 1, seen: int = 1) -> Object:
    counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready, "availableReplicas": ready}
    return {
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "uid": name,
            "generation": generation,
            "annotations": {"deployment.kubernetes.io/revision": "1"},
        },
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": seen, **counts},
    }


def replica_set(name: str = "web") -> Object:
    return {
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-1",
            "uid": f"{name}-1",
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"uid": name, "controller": True}],
        },
    }


def owned(state: str = "ready", of: str = "web", number: int = 0, started: str = LONG_AGO) -> Object:
    """A recorded pod, as one of a Deployment's."""
    one = pod(state)
    name = f"{of}-1-{number}"
    one["metadata"] |= {"name": name, "uid": name, "namespace": "shop"}
    one["metadata"]["ownerReferences"] = [{"uid": f"{of}-1", "controller": True}]
    for status in one["status"].get("containerStatuses", ()):
        if "running" in status["state"]:
            status["state"]["running"]["startedAt"] = started
    return one


def now(seconds: float = 0.0) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def wait(
    cluster: Cluster, *bodies: Object, seconds: float = 10.0, dwell: Dwells = QUICK, lines: list[str] | None = None
) -> float:
    """Wait for objects; returns how long it took."""
    begun = time.monotonic()
    progress: Callable[[str], None] = (lambda _line: None) if lines is None else lines.append
    waiting.wait(cluster, [ref_of(body) for body in bodies], Deadline.after(seconds), dwell, progress)
    return time.monotonic() - begun


def doomed(cluster: Cluster, *bodies: Object, seconds: float = 10.0, dwell: Dwells = QUICK) -> tuple[str, float]:
    """Wait for objects that are doomed; returns what is said of them, and how long it took."""
    begun = time.monotonic()
    with pytest.raises(RolloutDoomed) as caught:
        wait(cluster, *bodies, seconds=seconds, dwell=dwell)
    return str(caught.value), time.monotonic() - begun


@contextmanager
def later(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


# Healthy


def test_where_there_is_nothing_to_wait_for_nothing_is_asked() -> None:
    cluster = Cluster()
    bodies = [{"kind": kind, "metadata": {"name": "x"}} for kind in ("ConfigMap", "Service", "CronJob")]
    wait(cluster, *bodies)
    wait(cluster)
    assert cluster.requests == []


def test_what_has_been_healthy_for_long_is_done_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    took = wait(Cluster(deployment(), replica_set(), owned()), deployment(), dwell=Dwells())
    assert took < 2.5
    assert capsys.readouterr().out == "Deployment/web is healthy after 0 s\n"


def test_a_rollout_is_healthy_as_soon_as_a_watch_says_so() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("starting"))
    probed = owned()
    probed["spec"]["containers"][0]["readinessProbe"] = {}
    with later(0.5, lambda: cluster.put(probed, deployment())):
        assert 0.4 <= wait(cluster, deployment()) < 3.0


def test_the_old_status_is_not_believed() -> None:
    cluster = Cluster(deployment(generation=2, seen=1), replica_set(), owned())
    with later(0.5, lambda: cluster.put(deployment(generation=2, seen=2))):
        assert wait(cluster, deployment()) >= 0.4


def test_a_container_that_nothing_probes_must_run_for_a_while() -> None:
    cluster = Cluster(deployment(), replica_set(), owned(started=now()))
    assert 0.4 <= wait(cluster, deployment()) < 3.0


def test_the_servers_clock_tells_how_long_it_has_run() -> None:
    cluster = Cluster(deployment(), replica_set(), owned(started=now(3600)))
    cluster.answer = lambda _method, path, _body: (
        {"metadata": {"creationTimestamp": now(3660)}} if path.endswith("selfsubjectreviews") else None
    )
    assert wait(cluster, deployment(), dwell=Dwells()) < 2.5


def test_many_objects_are_waited_for_together() -> None:
    names = [f"web{number}" for number in range(40)]
    bodies = [body for name in names for body in (deployment(name), replica_set(name), owned(of=name))]
    cluster = Cluster(*bodies)
    assert wait(cluster, *(deployment(name) for name in names)) < 5.0
    assert cluster.counted("LIST", "deployments") == 1
    assert cluster.counted("LIST", "pods") == 1


def test_a_custom_resource_is_waited_for_by_its_conditions() -> None:
    def widget(status: str) -> Object:
        conditions = [{"type": "Ready", "status": status}]
        return {"kind": "Widget", "metadata": {"name": "w", "generation": 1}, "status": {"conditions": conditions}}

    cluster = Cluster(widget("False"))
    with later(0.3, lambda: cluster.put(widget("True"))):
        assert 0.2 <= wait(cluster, widget("True")) < 3.0
    assert cluster.counted("LIST", "pods") == 0


def test_a_custom_resource_without_conditions_is_healthy_once_it_exists() -> None:
    body = {"kind": "Widget", "metadata": {"name": "w"}}
    assert wait(Cluster(body), body) < 3.0


def test_a_job_that_is_removed_as_soon_as_it_has_completed_has_completed() -> None:
    other = {"kind": "Widget", "metadata": {"name": "w"}, "status": {"conditions": [{"type": "Ready"}]}}
    other["metadata"]["generation"] = 1  # type: ignore[index]
    ready = other | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    cluster = Cluster(workload("job running"), other)

    def complete() -> None:
        cluster.put(workload("job done"))
        time.sleep(0.2)
        cluster.delete(workload("job done"))
        time.sleep(0.2)
        cluster.put(ready)

    with later(0.1, complete):
        wait(cluster, workload("job running"), other)


def test_progress_names_each_workload() -> None:
    lines: list[str] = []
    cluster = Cluster(deployment(ready=0, replicas=2), replica_set(), owned(), owned("starting", number=1))
    cluster.put(deployment("worker"), replica_set("worker"), owned(of="worker"))
    with later(1.3, lambda: cluster.put(deployment(ready=2, replicas=2), owned(number=1))):
        wait(cluster, deployment(), deployment("worker"), lines=lines)
    assert "web 1/2 ready, 0 s; worker 1/1" in lines
    assert "web 1/2 ready, 1 s; worker 1/1" in lines
    assert lines[-1] == "web 2/2; worker 1/1"


# Doomed


def test_a_crash_loop_is_told_at_once_with_the_end_of_its_log() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("crashed once"))
    cluster.logs["web-1-0"] = "no database\n"
    with later(0.5, lambda: cluster.put(owned("crashed twice"))):
        said, took = doomed(cluster, deployment())
    assert took < 3.0
    assert said.startswith("Deployment/web can't become healthy: pod web-1-0, container main: crashed 2 times")
    assert "| no database" in said
    assert "next: read its log" in said


def test_what_may_pass_must_stand_for_its_dwell_time(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("image not found"))
    said, took = doomed(cluster, deployment())
    assert 0.4 <= took < 3.0
    assert "the image 127.0.0.1" in said
    assert "given up if that stands for 0.4 s" in capsys.readouterr().out


def test_what_heals_in_time_is_no_failure() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("image not found"))
    dwell = Dwells(image=1.5, settle=0.0)
    with later(0.5, lambda: cluster.put(owned(), deployment())):
        wait(cluster, deployment(), dwell=dwell)


def test_a_failure_that_comes_again_begins_anew() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("config map missing"))

    def comes_and_goes() -> None:
        cluster.put(owned("starting"))
        time.sleep(0.2)
        cluster.put(owned("config map missing"))

    with later(0.4, comes_and_goes):
        _, took = doomed(cluster, deployment(), dwell=Dwells(other=0.7))
    assert took >= 1.1


def test_of_two_workloads_the_doomed_one_is_told_and_the_other_named() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("crash loop"))
    cluster.put(deployment("worker", ready=0), replica_set("worker"), owned("starting", of="worker"))
    said, _ = doomed(cluster, deployment("worker"), deployment())
    assert said.startswith("Deployment/web can't become healthy")
    assert "not healthy yet besides: Deployment/worker: 0 of 1 pods are available" in said


def test_other_pods_that_fail_alike_are_counted() -> None:
    cluster = Cluster(deployment(ready=0, replicas=3), replica_set())
    cluster.put(*(owned("crash loop", number=number) for number in range(3)))
    said, _ = doomed(cluster, deployment())
    assert "(and 2 more of its pods)" in said.splitlines()[0]


def test_a_deployment_that_is_deleted_meanwhile_is_doomed() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("starting"))
    with later(0.3, lambda: cluster.delete(deployment())):
        said, took = doomed(cluster, deployment())
    assert took < 3.0
    assert "somebody deleted it" in said


def test_what_is_not_there_in_the_first_place_is_doomed() -> None:
    said, _ = doomed(Cluster(), deployment())
    assert "it is gone" in said


def test_what_the_kubelet_misses_may_be_there_by_now(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("config map missing"))
    cluster.put({"kind": "ConfigMap", "metadata": {"name": "nope"}, "data": {}})
    with later(1.5, lambda: cluster.put(owned(), deployment())):
        assert wait(cluster, deployment()) >= 1.4
    assert capsys.readouterr().out.count("ConfigMap/nope is there by now") == 1


def test_a_key_that_is_missing_still_is_missing() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("key missing"))
    cluster.put({"kind": "Secret", "metadata": {"name": "there"}, "data": {"another": "eA=="}})
    said, _ = doomed(cluster, deployment())
    assert "next: add Secret/there, key nokey to the release" in said


def test_a_wait_that_sees_no_more_than_the_old_state_looks_again_before_it_gives_up() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("image not found"))

    def heal_unheard() -> None:
        cluster.frozen.set()  # the watches tell nothing of it
        cluster.put(owned("starting"))
        cluster.frozen.clear()

    with later(0.2, heal_unheard):
        said, took = doomed(cluster, deployment(), seconds=2.0)
    assert took >= 2.0
    assert said.startswith("not healthy after 2 s")


# The API server


def test_an_api_server_that_is_away_for_a_while_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("starting"))

    def come_back() -> None:
        cluster.put(owned(), deployment())
        cluster.away.clear()

    with later(0.2, cluster.go_away), later(1.0, come_back):
        assert wait(cluster, deployment()) >= 0.9
    out = capsys.readouterr().out
    assert out.count("waiting for the API server") == 1
    assert out.count("the API server answers again") == 1


def test_nothing_is_given_up_while_the_api_server_is_away() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("image not found"))

    def come_back() -> None:
        cluster.put(owned(), deployment())
        cluster.away.clear()

    with later(0.2, cluster.go_away), later(1.5, come_back):
        assert wait(cluster, deployment()) >= 1.4


def test_a_failure_that_still_stands_when_the_api_server_is_back_is_told_then() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("image not found"))
    with later(0.2, cluster.go_away), later(1.5, cluster.away.clear):
        _, took = doomed(cluster, deployment())
    assert 1.4 <= took < 4.0


@pytest.mark.parametrize("before", [0.0, 0.3])
def test_a_frozen_connection_ends_at_the_deadline(before: float) -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("starting"))
    with later(before, cluster.frozen.set):
        if not before:
            cluster.frozen.set()
        said, took = doomed(cluster, deployment(), seconds=1.0)
    assert 1.0 <= took < 3.0
    assert said.startswith("not healthy after 1 s, and the API server does not answer: no answer")
    assert "Deployment/web" in said


def test_what_the_watches_did_not_tell_is_found_at_the_deadline() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("starting"))

    def heal_unheard() -> None:
        cluster.frozen.set()
        cluster.put(owned(), deployment())
        cluster.frozen.clear()

    with later(0.2, heal_unheard):
        assert wait(cluster, deployment(), seconds=1.0) >= 1.0


def test_nothing_is_asked_again_and_again() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("unready"))
    doomed(cluster, deployment(), seconds=3.0)
    at_the_end = 4 + 2  # a last look at each collection; events and log of the pod
    assert len(cluster.requests) <= 1 + 2 * 4 + at_the_end


# Rights


@pytest.mark.parametrize("collection", ["/pods", "/replicasets"])
def test_without_the_right_to_see_pods_the_workload_tells(collection: str, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(deployment(), replica_set(), owned())
    cluster.forbidden = {collection}
    assert wait(cluster, deployment()) >= 0.4
    assert f"{collection[1:]} can't be read" in capsys.readouterr().out


def test_without_the_right_to_see_events_the_rest_is_judged() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("crash loop"))
    cluster.forbidden = {"/events", "/log"}
    said, _ = doomed(cluster, deployment())
    assert "crashed" in said
    assert "can't be read" in said


def test_without_the_right_to_see_the_workload_nothing_can_be_waited_for() -> None:
    cluster = Cluster(deployment())
    cluster.forbidden = {"/deployments"}
    said, took = doomed(cluster, deployment())
    assert took < 3.0
    assert "deployments can't be watched" in said


def test_a_server_that_refuses_at_its_start_is_asked_again() -> None:
    cluster = Cluster(deployment(), replica_set(), owned())
    cluster.forbidden = {"/deployments"}
    cluster.on_request = lambda _method, _path: cluster.forbidden.clear() if len(cluster.requests) > 4 else None
    wait(cluster, deployment())


# The deadline


def test_the_deadline_names_what_is_not_ready_and_why() -> None:
    cluster = Cluster(deployment(ready=0), replica_set(), owned("unready"))
    cluster.put(deployment("worker", ready=0), replica_set("worker"), owned("registry away", of="worker"))
    said, took = doomed(cluster, deployment(), deployment("worker"), seconds=1.0)
    assert 1.0 <= took < 3.0
    first = said.splitlines()[0]
    assert first.startswith(
        "not healthy after 1 s: Deployment/web: 0 of 1 pods are available; pod web-1-0: container main"
    )
    assert "Deployment/worker: 0 of 1 pods are available; pod worker-1-0" in first
    assert "connection refused" in first


def test_a_job_must_end_where_its_end_is_waited_for() -> None:
    cluster = Cluster(workload("job suspended"))
    with pytest.raises(RolloutDoomed) as caught:
        waiting.wait_for_end(cluster, ref("Job", "susp"), Deadline.after(0.5), QUICK, lambda _line: None)
    assert str(caught.value).startswith("not finished after 0.5 s: Job/susp: it is suspended")
