"""What is wrong with a pod, judged over pods and events that a cluster reported."""

from __future__ import annotations

import pytest
from kube_fakes import about, events, pod

from deploy_guard.drivers.kubernetes.faults import Fault, Missing, missing_in, pod_faults
from deploy_guard.drivers.kubernetes.objects import Object


def faults(one: Object, *told: Object, age: float = 0.0, counts: bool = False) -> list[Fault]:
    return list(pod_faults(one, told, lambda _pod, _status: age, counts=counts))


def only(one: Object, *told: Object, age: float = 0.0) -> Fault:
    (fault,) = faults(one, *told, age=age)
    return fault


def waiting(reason: str, message: str = "") -> Object:
    made = pod("starting")
    made["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": reason, "message": message}}
    return made


@pytest.mark.parametrize(
    "name",
    [
        "starting",
        "ready",
        "unready",
        "crashed once",
        "crashed once, then runs",
        "init container failed once",
        "no such command, once",
        "liveness, first restart",
        "registry away",
        "registry without address",
        "registry unavailable",
        "registry unavailable, backing off",
        "image rate limited",
        "image rate limited, backing off",
        "job done",
    ],
)
def test_what_may_pass_is_no_fault(name: str) -> None:
    assert faults(pod(name)) == []


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("crashed twice", "crash_loop", "crashed 2 times, the last time with exit code 3"),
        ("crash loop", "crash_loop", "with exit code 3"),
        ("ended well twice", "crash_loop", "crashed 2 times, the last time with exit code 0"),
        ("out of memory", "crash_loop", "with exit code 137 (OOMKilled)"),
        ("init container failed twice", "crash_loop", "crashed 2 times, the last time with exit code 7"),
        ("no such command, twice", "crash_loop", 'exec: "/nope": stat /nope: no such file or directory'),
        ("liveness, second restart", "crash_loop", "crashed 2 times, the last time with exit code 137"),
        ("image not found", "image", "127.0.0.1"),
        ("image not found, backing off", "image", "not found"),
        ("image unauthorized", "image", "401 Unauthorized"),
        ("image name invalid", "image", "must be lowercase"),
        ("image never pulled", "image", "pull policy of Never"),
        ("config map missing", "other", 'configmap "nope" not found'),
        ("key missing", "other", "couldn't find key nokey in Secret"),
        ("must not be root", "other", "image will run as root"),
        ("unschedulable", "unschedulable", "Insufficient cpu"),
    ],
)
def test_what_is_wrong_is_named_with_its_kind(name: str, kind: str, words: str) -> None:
    fault = only(pod(name))
    assert fault.kind == kind
    assert words in fault.message
    assert fault.pod == pod(name)["metadata"]["name"]
    assert fault.hint


def test_the_container_that_fails_is_named() -> None:
    assert only(pod("init container failed twice")).container == "setup"
    assert str(only(pod("crashed twice"))).startswith("pod crash-6898d66b-95d4v, container main: crashed 2 times")


def test_running_out_of_memory_is_the_reason() -> None:
    assert only(pod("out of memory")).reason == "OOMKilled"


# Crashes


def test_a_container_that_has_run_for_long_since_its_crashes_is_well() -> None:
    assert faults(pod("liveness, second restart"), age=9.0)
    assert faults(pod("liveness, second restart"), age=11.0) == []


def test_a_probe_that_says_ready_ends_a_crash_loop_at_once() -> None:
    well = pod("liveness, second restart")
    well["spec"]["containers"][0]["readinessProbe"] = {}
    assert faults(well, age=1.0) == []
    well["status"]["containerStatuses"][0]["ready"] = False
    assert faults(well, age=1.0)


@pytest.mark.parametrize(("hours", "found"), [("04", 1), ("01", 0)])
def test_a_crash_after_a_long_run_is_a_first_one(hours: str, found: int) -> None:
    one = pod("crashed twice")
    one["status"]["containerStatuses"][0]["state"]["terminated"]["startedAt"] = f"2026-11-28T{hours}:46:00Z"
    assert len(faults(one)) == found


def test_many_restarts_in_a_long_life_are_no_loop() -> None:
    one = pod("liveness, second restart")
    one["status"]["containerStatuses"][0]["restartCount"] = 57
    one["status"]["containerStatuses"][0]["lastState"]["terminated"]["startedAt"] = "2026-11-27T04:00:00Z"
    assert faults(one, age=1.0) == []


def test_a_pause_of_another_container_tells_nothing_of_this_one() -> None:
    one = pod("no such command, once")
    told = [about(event, one) for event in events("no such command")]
    for event in told:
        event["involvedObject"]["fieldPath"] = "spec.containers{another}"
    assert faults(one, *told) == []


def test_a_job_counts_its_crashes_itself() -> None:
    assert faults(pod("crashed twice"), counts=True) == []
    assert faults(pod("image not found"), counts=True)


def test_a_pod_that_may_end_is_judged_by_the_kubelets_word_only() -> None:
    one = pod("crashed twice")
    one["spec"]["restartPolicy"] = "OnFailure"
    assert faults(one) == []
    looping = pod("crash loop")
    looping["spec"]["restartPolicy"] = "OnFailure"
    assert faults(looping)


def test_an_init_container_that_runs_again_in_a_new_sandbox_is_no_crash() -> None:
    one = pod("init container failed twice")
    one["status"]["initContainerStatuses"][0]["state"]["terminated"] |= {"exitCode": 0, "reason": "Completed"}
    assert faults(one) == []


def test_a_sidecar_that_ends_is_a_crash_whatever_its_exit_code() -> None:
    one = pod("init container failed twice")
    one["spec"]["initContainers"][0]["restartPolicy"] = "Always"
    one["status"]["initContainerStatuses"][0]["state"]["terminated"] |= {"exitCode": 0, "reason": "Completed"}
    assert only(one).container == "setup"


def test_the_event_of_the_pause_tells_a_loop_that_the_status_does_not_tell_yet() -> None:
    one = pod("no such command, once")
    told = [about(event, one) for event in events("no such command")]
    assert only(one, *told).kind == "crash_loop"


def test_an_event_of_an_earlier_pause_tells_nothing_of_a_new_crash() -> None:
    one = pod("no such command, once")
    told = [about(event, one) for event in events("no such command")]
    one["status"]["containerStatuses"][0]["lastState"]["terminated"]["finishedAt"] = "2026-11-28T09:00:00Z"
    assert faults(one, *told) == []


def test_a_liveness_probe_that_fails_is_named_as_the_cause() -> None:
    one = pod("liveness, second restart")
    assert "the kubelet ended it (Liveness probe failed)" in only(one, *events("liveness")).message


# Images


def test_where_an_older_kubelet_keeps_the_cause_to_itself_its_event_tells() -> None:
    one = pod("image not found, backing off")
    one["status"]["containerStatuses"][0]["state"]["waiting"]["message"] = (
        'Back-off pulling image "127.0.0.1:5000/shop:9"'
    )
    assert faults(one) == []
    fault = only(one, *events("image not found"))
    assert fault.kind == "image"
    assert "not found" in fault.message


@pytest.mark.parametrize(
    "said",
    [
        "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope",
        "manifest for nginx:nope not found: manifest unknown: manifest unknown",
        "reading manifest 9 in quay.io/shop/web: manifest unknown",
        "no match for platform in manifest: not found",
    ],
)
def test_registries_say_in_many_ways_that_an_image_is_not_to_be_had(said: str) -> None:
    assert only(waiting("ErrImagePull", f"rpc error: code = Unknown desc = {said}")).kind == "image"


@pytest.mark.parametrize(
    "said",
    [
        "failed to do request: Head: dial tcp: lookup registry.local: i/o timeout",
        "toomanyrequests: You have reached your pull rate limit",
        "unexpected EOF",
        "net/http: TLS handshake timeout",
    ],
)
def test_a_registry_that_stumbles_is_tolerated(said: str) -> None:
    assert faults(waiting("ErrImagePull", said)) == []


# Starting


@pytest.mark.parametrize(
    "said",
    ["failed to sync configmap cache: timed out waiting for the condition", "failed to sync secret cache: timed out"],
)
def test_a_kubelet_whose_cache_is_behind_is_tolerated(said: str) -> None:
    assert faults(waiting("CreateContainerConfigError", said)) == []


@pytest.mark.parametrize("reason", ["RunContainerError", "CreateContainerError", "PostStartHookError"])
def test_a_container_that_cannot_be_started_is_a_fault(reason: str) -> None:
    assert only(waiting(reason, "no command specified")).reason == reason


@pytest.mark.parametrize("said", ["context deadline exceeded", 'name "web" is reserved for "abc"'])
def test_a_runtime_that_stumbles_is_tolerated(said: str) -> None:
    assert faults(waiting("CreateContainerError", said)) == []


@pytest.mark.parametrize(("code", "found"), [(127, 1), (128, 0)])
def test_a_container_that_cannot_run_is_a_fault_unless_the_code_is_128(code: int, found: int) -> None:
    one = pod("crashed once")
    one["status"]["containerStatuses"][0]["state"]["terminated"] |= {"reason": "ContainerCannotRun", "exitCode": code}
    assert len(faults(one)) == found


def test_a_missing_object_is_known_by_name_and_key() -> None:
    assert only(pod("config map missing")).missing == Missing("ConfigMap", "nope")
    assert only(pod("key missing")).missing == Missing("Secret", "there", "nokey")
    assert missing_in('error looking up service account shop/x: serviceaccount "x" not found') == Missing(
        "ServiceAccount", "x"
    )
    assert missing_in('0/1 nodes: persistentvolumeclaim "data" not found.') == Missing("PersistentVolumeClaim", "data")
    assert missing_in("nothing of the kind") is None


# Volumes


def test_a_volume_from_something_missing_is_told_by_its_event() -> None:
    fault = only(pod("volume missing"), *events("volume missing"))
    assert (fault.kind, fault.missing) == ("other", Missing("ConfigMap", "nope"))


def test_an_old_event_of_a_volume_says_nothing_once_the_container_runs() -> None:
    one = pod("ready")
    assert faults(one, *(about(event, one) for event in events("volume missing"))) == []


def test_a_key_missing_in_a_volume_is_found_by_the_volumes_name() -> None:
    said = 'MountVolume.SetUp failed for volume "v" : references non-existent config key: app.conf'
    assert missing_in(said, pod("volume missing")) == Missing("ConfigMap", "nope", "app.conf")


def test_a_mount_that_may_still_come_is_tolerated() -> None:
    (event, *_) = events("volume missing")
    event["message"] = "Unable to attach or mount volumes: timed out waiting for the condition"
    assert faults(pod("volume missing"), event) == []


# Pods as a whole


@pytest.mark.parametrize("reason", ["Evicted", "Preempting", "NodeShutdown", "Terminated"])
def test_a_pod_that_failed_for_its_nodes_sake_is_no_fault(reason: str) -> None:
    one = pod("ready")
    one["status"] |= {"phase": "Failed", "reason": reason, "message": "The node was low on resource: memory."}
    assert faults(one) == []


def test_a_pod_that_was_preempted_is_no_fault() -> None:
    one = pod("ready")
    one["status"] |= {"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert faults(one) == []


def test_any_other_failed_pod_is_a_fault() -> None:
    one = pod("ready")
    one["status"] |= {"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}
    fault = only(one)
    assert (fault.kind, fault.reason) == ("other", "OutOfcpu")


def scaling(reason: str, at: str) -> Object:
    (event, *_) = events("unschedulable")
    return event | {"reason": reason, "eventTime": at, "series": None}


def test_an_unschedulable_pod_waits_for_the_node_that_an_autoscaler_adds() -> None:
    one = pod("unschedulable")
    adds = scaling("TriggeredScaleUp", "2026-11-28T05:00:00Z")
    assert faults(one, adds) == []
    assert faults(one, adds, scaling("NotTriggerScaleUp", "2026-11-28T05:01:00Z"))
    assert faults(one, scaling("Nominated", "2026-11-28T05:00:00Z")) == []


def test_a_fault_is_the_same_while_only_its_words_change() -> None:
    first, then = only(pod("image not found")), only(pod("image not found, backing off"))
    assert first.message != then.message
    assert first.key == then.key
