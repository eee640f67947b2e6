"""Whether an object is healthy at its generation, and since when its containers have been running."""

from __future__ import annotations

import math

import pytest
from kube_fakes import pod, view, workload

from deploy_guard.drivers.kubernetes.health import Health, Starts, health, moment, unsettled
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import View


def of(body: Object | None, *pods: Object, kind: str = "") -> Health:
    return health(view(body, *pods, kind=kind))


def made(kind: str, spec: Object, generation: int = 2, **status: object) -> Object:
    return {
        "apiVersion": "example.org/v1" if kind == "Widget" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "uid": "web", "generation": generation},
        "spec": spec,
        "status": {"observedGeneration": 2} | status,
    }


# Deployments


def deployment(generation: int = 2, **status: int) -> Object:
    full = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    return made("Deployment", {"replicas": 3}, generation, **(full | status))


def test_a_deployment_is_healthy_when_all_its_pods_are_new_and_available() -> None:
    assert of(deployment()).healthy


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"updatedReplicas": 1}, "1 of 3 pods are of the new revision"),
        ({"replicas": 4}, "1 old pod is still there"),
        ({"replicas": 5}, "2 old pods are still there"),
        ({"availableReplicas": 2}, "2 of 3 pods are available"),
    ],
)
def test_a_deployment_says_what_is_missing(status: dict[str, int], why: str) -> None:
    assert of(deployment(**status)).why == why


def test_health_is_believed_only_at_the_current_generation() -> None:
    assert of(deployment(generation=3)).why == "its controller has not taken up the change yet"
    assert not of(workload("deployment new")).healthy


def test_a_deployment_counts_its_new_pods_as_ready() -> None:
    found = of(deployment(updatedReplicas=1), pod("ready"), pod("starting"))
    assert (found.ready, found.wanted) == (1, 3)


def test_what_is_scaled_to_zero_is_healthy() -> None:
    assert of(made("Deployment", {"replicas": 0})).healthy
    assert of(made("StatefulSet", {"replicas": 0})).healthy
    assert of(made("DaemonSet", {})).healthy
    assert not of(made("Deployment", {"replicas": 0}, replicas=1)).healthy


def test_one_replica_is_wanted_where_none_is_written() -> None:
    assert of(made("Deployment", {})).wanted == 1


# Stateful sets and daemon sets


def stateful_set(strategy: Object | None = None, **status: int) -> Object:
    full = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    return made("StatefulSet", {"replicas": 3, "updateStrategy": strategy or {}}, **(full | status))


def test_a_stateful_set_is_healthy_when_all_its_pods_are_new_and_available() -> None:
    assert of(stateful_set()).healthy
    assert not of(stateful_set(updatedReplicas=2)).healthy
    assert not of(stateful_set(availableReplicas=2)).healthy
    assert not of(stateful_set(readyReplicas=2)).healthy
    assert not of(stateful_set(replicas=4)).healthy


def test_a_partition_keeps_the_pods_below_it() -> None:
    partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    found = of(stateful_set(partition, updatedReplicas=1))
    assert (found.healthy, found.kept, found.ready) == (True, 2, 3)
    assert not of(stateful_set(partition, updatedReplicas=0)).healthy


def test_a_partition_above_all_pods_leaves_nothing_to_replace() -> None:
    assert of(stateful_set({"rollingUpdate": {"partition": 9}}, updatedReplicas=0)).healthy


def test_on_delete_waits_for_no_new_pods() -> None:
    assert of(stateful_set({"type": "OnDelete"}, updatedReplicas=0)).healthy
    assert not of(stateful_set({"type": "OnDelete"}, readyReplicas=2)).healthy
    full: Object = {"desiredNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2}
    assert of(made("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, **full)).healthy


def test_a_server_that_counts_no_available_pods_of_stateful_sets_is_believed_by_its_ready_ones() -> None:
    body = stateful_set()
    del body["status"]["availableReplicas"]
    assert of(body).healthy


def test_a_daemon_set_is_healthy_when_every_node_has_a_new_pod() -> None:
    full: Object = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2}
    assert of(made("DaemonSet", {}, **full)).healthy
    assert (
        of(made("DaemonSet", {}, **full | {"updatedNumberScheduled": 1})).why == "1 of 2 pods are of the new revision"
    )
    assert of(made("DaemonSet", {}, **full | {"numberAvailable": 1})).why == "1 of 2 pods are available"


def test_a_replica_set_of_nobodys_is_waited_for() -> None:
    assert of(made("ReplicaSet", {"replicas": 1}, replicas=1, availableReplicas=1)).healthy
    assert not of(made("ReplicaSet", {"replicas": 1}, replicas=2, availableReplicas=2)).healthy


# Jobs and pods


@pytest.mark.parametrize(
    ("name", "healthy", "ended"),
    [
        ("job done", True, True),
        ("job running", False, False),
        ("job failed", False, False),
        ("job suspended", True, False),
    ],
)
def test_a_job_is_healthy_when_complete_or_suspended_and_has_ended_only_when_complete(
    name: str, healthy: bool, ended: bool
) -> None:
    assert health(view(workload(name))).healthy is healthy
    assert health(view(workload(name)), to_end=True).healthy is ended


def test_a_pod_of_nobodys_is_ready_or_done() -> None:
    assert of(pod("ready")).healthy
    assert of(pod("job done")).healthy
    assert not of(pod("starting")).healthy


def test_what_is_gone_or_going_is_not_healthy() -> None:
    assert not of(None, kind="Deployment").healthy
    going = deployment()
    going["metadata"]["deletionTimestamp"] = "2026-11-28T05:00:00Z"
    assert not of(going).healthy


# Custom resources


def widget(*conditions: Object, **status: object) -> Object:
    body = made("Widget", {})
    body["status"] |= {"conditions": list(conditions)} | status
    return body


def condition(kind: str, status: str = "True", **more: object) -> Object:
    return {"type": kind, "status": status} | more


@pytest.mark.parametrize(
    "body",
    [
        widget(),
        widget(condition("Ready")),
        widget(condition("Available"), condition("Progressing")),
        widget(condition("Ready"), condition("Stalled", "False"), condition("Degraded", "False")),
        {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "uid": "w", "generation": 1}},
        {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w", "uid": "w"}, "status": "up"},
        widget(conditions="none of these"),
    ],
)
def test_a_custom_resource_is_healthy_by_convention_or_for_want_of_one(body: Object) -> None:
    assert of(body).healthy


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (widget(condition("Ready", "False", reason="Booting")), "it is not Ready: Booting"),
        (widget(condition("Ready", "Unknown")), "it is not known to be Ready"),
        (widget(condition("Available", "False")), "it is not Available"),
        (widget(condition("Ready"), condition("Reconciling")), "it is Reconciling"),
        (widget(condition("Ready"), condition("Stalled")), "it is Stalled"),
        (widget(condition("Ready"), condition("Degraded")), "it is Degraded"),
        (widget(condition("Ready"), observedGeneration=1), "its controller has not taken up the change yet"),
        (widget(condition("Ready", observedGeneration=1)), "its controller has not taken up the change yet"),
    ],
)
def test_a_custom_resource_says_what_is_missing(body: Object, why: str) -> None:
    assert of(body).why.startswith(why)


# Containers that nothing probes


def rest(found: View, ages: float = 0.0, settle: float = 3.0) -> float:
    return unsettled(found, health(found), lambda _pod, _status: ages, settle)


def one_pod(name: str) -> View:
    body = made("Deployment", {"replicas": 1}, replicas=1, updatedReplicas=1, readyReplicas=1, availableReplicas=1)
    return view(body, pod(name))


def test_a_container_that_nothing_probes_counts_when_it_has_run_for_a_while() -> None:
    assert rest(one_pod("ready"), 1.0) == pytest.approx(2.0)
    assert rest(one_pod("ready"), 3.5) == 0.0


def test_after_a_restart_it_must_run_for_longer_than_the_kubelets_first_pause() -> None:
    assert rest(one_pod("crashed once, then runs"), 3.5) == pytest.approx(6.5)
    assert rest(one_pod("crashed once, then runs"), 10.0) == 0.0


def test_a_container_with_a_readiness_probe_counts_at_once() -> None:
    found = one_pod("ready")
    found.pods[0]["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 80}}
    assert rest(found) == 0.0


def test_settling_can_be_switched_off() -> None:
    assert rest(one_pod("ready"), settle=0.0) == 0.0


def test_a_workload_ahead_of_its_pods_is_not_believed() -> None:
    body = one_pod("ready").body
    assert rest(view(body)) == math.inf
    assert rest(view(body, pod("crashed once"))) == math.inf


def test_enough_pods_are_enough() -> None:
    found = one_pod("ready")
    assert rest(view(found.body, pod("ready"), pod("crashed once")), 5.0) == 0.0


def test_old_pods_count_only_where_they_may_stay() -> None:
    partition = stateful_set({"rollingUpdate": {"partition": 2}}, updatedReplicas=1)
    old = [pod("ready"), pod("ready")]
    assert rest(view(partition, pod("ready"), others=old), 5.0) == 0.0
    assert rest(view(stateful_set(), pod("ready"), others=old), 5.0) == math.inf


def test_sidecars_must_run_too() -> None:
    found = one_pod("ready")
    one = found.pods[0]
    one["spec"]["containers"][0]["readinessProbe"] = {}
    one["spec"]["initContainers"] = [{"name": "proxy", "restartPolicy": "Always"}, {"name": "setup"}]
    one["status"]["initContainerStatuses"] = [
        {"name": "proxy", "restartCount": 0},
        {"name": "setup", "restartCount": 0},
    ]
    assert rest(found, 1.0) == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["job done", "job suspended"])
def test_jobs_need_not_settle(name: str) -> None:
    assert rest(view(workload(name))) == 0.0


# Time


def running(started: str = "2026-11-28T04:00:00Z", restarts: int = 0) -> Object:
    return {"name": "main", "restartCount": restarts, "state": {"running": {"startedAt": started}}}


def test_ages_are_counted_from_when_a_container_was_first_seen() -> None:
    clock = [100.0]
    starts = Starts(lambda: clock[0], None)
    assert starts.age("p", running()) == 0.0
    clock[0] += 4.0
    assert starts.age("p", running()) == 4.0
    assert starts.age("p", running(restarts=1)) == 0.0
    assert starts.age("other", running()) == 0.0
    assert starts.age("p", {"name": "main", "state": {"waiting": {}}}) == 0.0


def test_what_ran_before_it_was_seen_is_told_by_the_servers_clock_a_second_short() -> None:
    server = moment("2026-11-28T04:01:00Z")
    assert server is not None
    assert Starts(lambda: 100.0, server).age("p", running()) == pytest.approx(59.0)


def test_a_start_in_the_servers_future_is_a_start_now() -> None:
    server = moment("2026-11-28T03:00:00Z")
    assert Starts(lambda: 100.0, server).age("p", running()) == 0.0


def test_a_time_stamp_that_is_none_is_no_time() -> None:
    assert moment(None) is None
    assert moment("soon") is None
