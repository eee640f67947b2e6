"""Waiting for what a real cluster makes of a release: healthy, doomed, or on its way for longer than most."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kube
import pytest
import registry
from kube import Body, Namespace, config_map, deployment, job
from kube_fakes import ref_of

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import waiting
from deploy_guard.drivers.kubernetes.config import Dwells
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.health import moment
from deploy_guard.drivers.kubernetes.objects import Key, Ref
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import RolloutDoomed

DWELL = Dwells(unschedulable=5.0)
CRASH = ["sh", "-c", "echo starting; echo no database; exit 3"]
SLEEP = ["sleep", "1000"]


@pytest.fixture
def box() -> str:
    return kube.image("test.local/box:1")


@pytest.fixture
def api(namespace: Namespace) -> Iterator[Connection]:
    made = Connection.open(Target(kube.context(), namespace.name), os.environ)
    try:
        yield made
    finally:
        made.close()


class Waiter:
    """Applies objects with kubectl, and waits for them."""

    def __init__(self, api: Connection, namespace: Namespace) -> None:
        self.api = api
        self.namespace = namespace
        self.lines: list[str] = []
        self.took = 0.0

    def healthy(self, *bodies: Body, seconds: float = 90.0, dwell: Dwells = DWELL) -> float:
        """Apply, wait until all is healthy, and return for how long."""
        self.namespace.apply(*bodies)
        return self.wait(bodies, seconds, dwell)

    def doomed(self, *bodies: Body, seconds: float = 60.0, dwell: Dwells = DWELL) -> str:
        """Apply, and return what is said when it fails; ``took`` is for how long it was waited for."""
        self.namespace.apply(*bodies)
        with pytest.raises(RolloutDoomed) as caught:
            self.wait(bodies, seconds, dwell)
        return str(caught.value)

    def wait(
        self, bodies: Sequence[Body], seconds: float = 90.0, dwell: Dwells = DWELL, *, unblocks: bool = False
    ) -> float:
        begun = time.monotonic()
        try:
            refs = [ref_of(body, self.namespace.name) for body in bodies]
            waiting.wait(self.api, refs, Deadline.after(seconds), dwell, self.lines.append, unblocks=unblocks)
        finally:
            self.took = time.monotonic() - begun
        return self.took


@pytest.fixture
def release(api: Connection, namespace: Namespace) -> Waiter:
    return Waiter(api, namespace)


def later(seconds: float, act: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def changed(body: Body, **pod: Any) -> Body:
    """The same workload with more fields in its pods."""
    body["spec"]["template"]["spec"] |= pod
    return body


def as_kind(kind: str, body: Body, **spec: Any) -> Body:
    """A Deployment's body as another kind."""
    body["kind"] = kind
    del body["spec"]["progressDeadlineSeconds"]
    if kind == "StatefulSet":
        body["spec"]["serviceName"] = "none"
    else:
        del body["spec"]["replicas"]
    body["spec"] |= spec
    return body


def server_time(api: Connection) -> float:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    return moment(answer["metadata"]["creationTimestamp"]) or 0.0


def is_ready(pod: Body) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])


def probe(*command: str) -> Body:
    return {"exec": {"command": list(command)}, "periodSeconds": 1, "timeoutSeconds": 5}


# Healthy


def test_a_good_release_is_healthy_and_the_same_again_is_done_at_once(
    release: Waiter, box: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = [config_map("settings", a="1"), deployment("web", box, replicas=2), deployment("none", box, replicas=0)]
    release.healthy(*bodies)
    assert "Deployment/web is healthy after" in capsys.readouterr().out
    assert any(line.startswith("web 2/2") for line in release.lines)
    time.sleep(2.0)
    assert release.wait(bodies) < 2.0


def test_a_container_must_have_run_for_three_seconds(release: Waiter, box: str) -> None:
    release.healthy(deployment("web", box, command=SLEEP))
    (pod,) = release.namespace.pods("app=web")
    started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert server_time(release.api) - (moment(started) or 0.0) >= 3.0


def test_all_kinds_of_workloads_are_waited_for(release: Waiter, box: str) -> None:
    cron = job("nightly", box, ["true"])
    cron = cron | {"kind": "CronJob", "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": cron["spec"]}}}
    suspended = job("later", box, ["true"])
    suspended["spec"]["suspend"] = True
    release.healthy(
        as_kind("StatefulSet", deployment("db", box, replicas=2, command=SLEEP), podManagementPolicy="Parallel"),
        as_kind("DaemonSet", deployment("agent", box, command=SLEEP)),
        job("once", box, ["true"]),
        suspended,
        cron,
    )
    assert release.namespace.get("job", "once")["status"]["succeeded"] == 1


def test_a_partition_and_on_delete_leave_old_pods_as_they_are(release: Waiter, box: str) -> None:
    def sets(version: str) -> list[Body]:
        partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        made = [
            as_kind("StatefulSet", deployment("db", box, replicas=2, command=SLEEP), updateStrategy=partition),
            as_kind("StatefulSet", deployment("log", box, command=SLEEP), updateStrategy={"type": "OnDelete"}),
            as_kind("DaemonSet", deployment("agent", box, command=SLEEP), updateStrategy={"type": "OnDelete"}),
        ]
        return [changed(body, hostname=f"host-{version}") for body in made]

    release.healthy(*sets("1"))
    release.healthy(*sets("2"))
    pods = release.namespace.pods()
    hashes = {pod["metadata"]["name"]: pod["metadata"]["labels"]["controller-revision-hash"] for pod in pods}
    assert len(hashes) == 4
    assert hashes["db-0"] != hashes["db-1"]


def test_minimum_ready_seconds_are_waited_for(release: Waiter, box: str) -> None:
    body = deployment("web", box, readinessProbe=probe("true"))
    body["spec"]["minReadySeconds"] = 6
    assert release.healthy(body) >= 6.0


def test_a_custom_resource_becomes_ready(release: Waiter) -> None:
    """Of what every cluster has, an APIService follows the conventions of custom resources; see the unit tests."""
    version = "apiregistration.k8s.io/v1"
    where = Ref(Key(version, "APIService", "", "v1.apps"), f"/apis/{version}/apiservices/v1.apps")
    waiting.wait(release.api, [where], Deadline.after(10), DWELL, release.lines.append)


# Doomed


def test_a_crash_loop_is_told_with_pod_container_events_and_log(release: Waiter, box: str) -> None:
    said = release.doomed(deployment("web", box, command=CRASH))
    assert said.startswith("Deployment/web can't become healthy: pod web-")
    assert "container main: crashed 2 times, the last time with exit code 3" in said
    assert "| starting\n  | no database" in said
    assert release.took < 20.0


def test_a_release_that_crashes_is_told_beside_old_pods_that_serve(release: Waiter, box: str) -> None:
    release.healthy(deployment("web", box, replicas=2, command=SLEEP))
    said = release.doomed(deployment("web", box, replicas=2, command=CRASH))
    assert "crashed 2 times" in said
    assert len([pod for pod in release.namespace.pods("app=web") if is_ready(pod)]) >= 1


@pytest.mark.parametrize(
    ("name", "container", "pod", "words"),
    [
        ("command", {"command": ["/nope"]}, {}, "stat /nope: no such file or directory"),
        ("completed", {"command": ["true"]}, {}, "with exit code 0"),
        (
            "memory",
            {
                "command": ["sh", "-c", "x=aaaaaaaa; while true; do x=$x$x; done"],
                "resources": {"limits": {"memory": "16Mi"}},
            },
            {},
            "with exit code 137 (OOMKilled)",
        ),
        ("init", {}, {"initContainers": ["sh", "-c", "echo bad schema; exit 7"]}, "container setup: crashed 2 times"),
        (
            "liveness",
            {
                "command": SLEEP,
                "livenessProbe": probe("false") | {"failureThreshold": 1},
                "readinessProbe": probe("false"),
            },
            {},
            "the kubelet ended it (Liveness probe failed)",
        ),
    ],
)
def test_whatever_ends_a_container_again_and_again_is_named(
    release: Waiter, box: str, name: str, container: Body, pod: Body, words: str
) -> None:
    if "initContainers" in pod:
        pod = {"initContainers": [{"name": "setup", "image": box, "command": pod["initContainers"]}]}
    said = release.doomed(changed(deployment(name, box, **container), **pod))
    assert words in said


def test_an_image_that_does_not_exist_is_told_after_its_dwell_time(release: Waiter) -> None:
    with registry.answering(404) as address:
        needs_the_registry_of_this_machine()
        said = release.doomed(deployment("web", f"{address}/shop/web:9"))
    assert f"the image {address}/shop/web:9 can't be used" in said
    assert "not found" in said
    assert 5.0 <= release.took < 20.0


def needs_the_registry_of_this_machine() -> None:
    if not (kube.SERVICES / "pid/kube-apiserver").exists():
        kube.missing("the cluster's node is another machine, which can't reach a registry of this one")


def test_an_image_that_is_never_pulled_is_told(release: Waiter) -> None:
    said = release.doomed(deployment("web", "test.local/nothing:9", imagePullPolicy="Never"))
    assert "is not present with pull policy of Never" in said


def test_a_config_map_that_is_missing_is_told_with_its_name(release: Waiter, box: str) -> None:
    variable = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}
    said = release.doomed(deployment("web", box, env=[variable]))
    assert 'CreateContainerConfigError: configmap "settings" not found' in said
    assert "next: add ConfigMap/settings to the release" in said
    assert release.took >= 10.0


def test_a_volume_from_a_secret_that_is_missing_is_told(release: Waiter, box: str) -> None:
    body = deployment("web", box, volumeMounts=[{"name": "keys", "mountPath": "/keys"}])
    said = release.doomed(changed(body, volumes=[{"name": "keys", "secret": {"secretName": "keys"}}]))
    assert 'secret "keys" not found' in said


def test_a_pod_that_no_node_takes_is_told(release: Waiter, box: str) -> None:
    said = release.doomed(deployment("web", box, resources={"requests": {"cpu": "1000"}}))
    assert "no node takes it: Unschedulable" in said
    assert "Insufficient cpu" in said
    assert 5.0 <= release.took < 20.0


def test_a_readiness_that_never_comes_is_told_at_the_deadline(release: Waiter, box: str) -> None:
    command = ["sh", "-c", "echo waiting for the database; sleep 1000"]
    said = release.doomed(deployment("web", box, command=command, readinessProbe=probe("false")), seconds=8.0)
    assert said.startswith("not healthy after 8 s: Deployment/web: 0 of 1 pods are available; pod web-")
    assert "runs, and is not ready: Readiness probe failed (" in said
    assert "| waiting for the database" in said
    assert 8.0 <= release.took < 11.0


def test_of_two_deployments_the_doomed_one_is_told_and_the_other_named(release: Waiter, box: str) -> None:
    slow = deployment("worker", box, command=SLEEP, readinessProbe=probe("false"))
    said = release.doomed(slow, deployment("web", box, command=CRASH))
    assert said.startswith("Deployment/web can't become healthy")
    assert "not healthy yet besides: Deployment/worker" in said


def test_a_job_that_fails_is_told(release: Waiter, box: str) -> None:
    said = release.doomed(job("once", box, ["sh", "-c", "echo cannot migrate; exit 4"]))
    assert said.startswith("Job/once failed: BackoffLimitExceeded")
    assert "| cannot migrate" in said


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_one_pod_that_crashes_dooms_what_has_different_pods(release: Waiter, box: str, kind: str) -> None:
    said = release.doomed(as_kind(kind, deployment("db", box, command=CRASH)))
    assert said.startswith(f"{kind}/db can't become healthy: pod db-")
    assert "| no database" in said


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_quota_that_leaves_no_room_is_told(release: Waiter, box: str, kind: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    release.namespace.apply(quota)
    kube.eventually(lambda: "used" in release.namespace.get("resourcequota", "small").get("status", {}))
    body = deployment("web", box, replicas=2, command=SLEEP)
    said = release.doomed(body if kind == "Deployment" else as_kind(kind, body))
    assert "pods can't be created" in said
    assert "exceeded quota: small" in said


def test_a_service_account_that_is_missing_is_told(release: Waiter, box: str) -> None:
    said = release.doomed(changed(deployment("web", box), serviceAccountName="shop"))
    assert 'serviceaccount "shop" not found' in said
    assert "next: add ServiceAccount/shop to the release" in said


def test_a_paused_deployment_is_told(release: Waiter, box: str) -> None:
    body = deployment("web", box)
    body["spec"]["paused"] = True
    assert "it is paused" in release.doomed(body, dwell=Dwells(other=2.0))


def test_a_deployment_that_somebody_deletes_is_told(release: Waiter, box: str) -> None:
    timer = later(3.0, lambda: release.namespace.kubectl("delete", "deployment", "web", "--wait=false"))
    said = release.doomed(deployment("web", box, command=SLEEP, readinessProbe=probe("false")))
    timer.join()
    assert "somebody delete" in said


# What passes


def test_a_container_that_crashes_once_is_no_failure(release: Waiter, box: str) -> None:
    command = ["sh", "-c", "[ -e /kept/began ] && exec sleep 1000; touch /kept/began; exit 1"]
    body = deployment("web", box, command=command, volumeMounts=[{"name": "kept", "mountPath": "/kept"}])
    assert release.healthy(changed(body, volumes=[{"name": "kept", "emptyDir": {}}])) >= 10.0


def test_a_registry_that_stumbles_is_no_failure(release: Waiter, box: str) -> None:
    """The image arrives late: the kubelet asks a registry that is busy, and then finds it on the node."""
    with registry.answering(503) as address:
        needs_the_registry_of_this_machine()
        late = f"{address}/late:1"
        timer = later(7.0, lambda: kube.image(late))
        assert release.healthy(deployment("web", late)) >= 7.0
        timer.join()


@pytest.mark.parametrize("how", ["variable", "volume"])
def test_a_config_map_that_comes_late_is_no_failure(release: Waiter, box: str, how: str) -> None:
    if how == "variable":
        variable = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}
        body = deployment("web", box, env=[variable])
    else:
        body = deployment("web", box, volumeMounts=[{"name": "v", "mountPath": "/v"}])
        body = changed(body, volumes=[{"name": "v", "configMap": {"name": "settings"}}])
    timer = later(8.0, lambda: release.namespace.apply(config_map("settings", a="1")))
    assert release.healthy(body) >= 8.0
    timer.join()


def test_a_service_account_that_comes_late_is_no_failure(release: Waiter, box: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shop"}}
    timer = later(8.0, lambda: release.namespace.apply(account))
    assert release.healthy(changed(deployment("web", box), serviceAccountName="shop")) >= 8.0
    timer.join()


def test_a_slow_readiness_is_no_failure(release: Waiter, box: str) -> None:
    command = ["sh", "-c", "sleep 12; touch /tmp-ready; sleep 1000"]
    assert (
        release.healthy(deployment("web", box, command=command, readinessProbe=probe("test", "-e", "/tmp-ready")))
        >= 12.0
    )


def test_a_quota_that_is_raised_in_time_is_no_failure(release: Waiter, box: str) -> None:
    def quota(pods: str) -> Body:
        meta = {"name": "small"}
        return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": {"pods": pods}}}

    release.namespace.apply(quota("0"))
    kube.eventually(lambda: "used" in release.namespace.get("resourcequota", "small").get("status", {}))
    timer = later(4.0, lambda: release.namespace.apply(quota("5")))
    release.healthy(deployment("web", box, command=SLEEP), dwell=Dwells(other=20.0))
    timer.join()


def test_a_rollout_under_a_quota_waits_for_the_room_of_old_pods(release: Waiter, box: str) -> None:
    """The old pod ends slowly, and the new one can't be created before: longer than the dwell time."""
    command = ["sh", "-c", "trap 'sleep 5; exit 0' TERM; while true; do sleep 0.2; done"]

    def body(version: str) -> Body:
        made = deployment("web", box, command=command, env=[{"name": "V", "value": version}])
        made["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
        return changed(made, terminationGracePeriodSeconds=20)

    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    release.namespace.apply(quota)
    kube.eventually(lambda: "used" in release.namespace.get("resourcequota", "one").get("status", {}))
    release.healthy(body("1"))
    release.healthy(body("2"), dwell=Dwells(other=2.0))


# Broken pods of a release that was taken back


def test_a_stateful_set_that_waits_for_a_broken_pod_is_unblocked_on_the_way_back(release: Waiter, box: str) -> None:
    def body(*command: str) -> Body:
        return as_kind("StatefulSet", deployment("db", box, replicas=2, command=command))

    good = body("sleep", "1000")
    release.healthy(good)
    release.doomed(body(*CRASH))
    said = release.doomed(good, seconds=5.0)
    assert "it waits until its old pod db-1 is ready: kubectl delete pod db-1" in said
    release.wait([good], unblocks=True)


# The API server, kubectl, rights


@pytest.mark.parametrize("how", ["refuse", "stall"])
def test_an_api_server_that_is_away_for_ten_seconds_changes_nothing(
    namespace: Namespace, box: str, tmp_path: Path, how: str
) -> None:
    command = ["sh", "-c", "sleep 6; touch /ready; sleep 1000"]
    body = deployment("web", box, command=command, readinessProbe=probe("test", "-e", "/ready"))
    with kube.Relay(tmp_path) as relay:
        environ = os.environ | {"KUBECONFIG": str(relay.kubeconfig)}
        api = Connection.open(Target(kube.context(), namespace.name), environ)
        timers = [later(2.0, getattr(relay, how)), later(12.0, relay.resume)]
        try:
            assert Waiter(api, namespace).healthy(body) >= 10.0
        finally:
            for timer in timers:
                timer.join()
            api.close()


def test_an_api_server_that_stays_away_is_told_at_the_deadline(namespace: Namespace, box: str, tmp_path: Path) -> None:
    body = deployment("web", box, command=SLEEP, readinessProbe=probe("false"))
    with kube.Relay(tmp_path) as relay:
        environ = os.environ | {"KUBECONFIG": str(relay.kubeconfig)}
        api = Connection.open(Target(kube.context(), namespace.name), environ)
        timer = later(2.0, relay.stall)
        waiter = Waiter(api, namespace)
        try:
            said = waiter.doomed(body, seconds=8.0)
        finally:
            timer.join()
            relay.resume()
            api.close()
    assert said.startswith("not healthy after 8 s, and the API server does not answer")
    assert "last known: Deployment/web" in said
    assert waiter.took < 12.0


def test_missing_rights_for_logs_and_events_do_not_hide_the_verdict(
    namespace: Namespace, box: str, tmp_path: Path
) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list", "watch"]},
    ]
    file = namespace.account(rules, tmp_path)
    api = Connection.open(Target(kube.context(), namespace.name), os.environ | {"KUBECONFIG": str(file)})
    try:
        said = Waiter(api, namespace).doomed(deployment("web", box, command=CRASH))
    finally:
        api.close()
    assert "crashed 2 times" in said
    assert "the log of container main can't be read" in said
