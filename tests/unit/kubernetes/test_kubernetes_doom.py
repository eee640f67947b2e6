"""When a workload is doomed: which faults of which pods, and what of its own."""

from __future__ import annotations

import pytest
from kube_fakes import about, events, pod, view, workload

from deploy_guard.drivers.kubernetes.doom import Charge, charges
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import View


def against(found: View, age: float = 0.0) -> list[Charge]:
    return charges(found, lambda _pod, _status: age)


def reasons(found: View) -> list[str]:
    return [fault.reason for charge in against(found) for fault in charge.faults]


def named(one: Object, name: str) -> Object:
    one["metadata"] |= {"name": name, "uid": name}
    return one


def ending(one: Object) -> Object:
    one["metadata"]["deletionTimestamp"] = "2026-11-28T05:00:00Z"
    return one


def deployment() -> Object:
    return workload("deployment ready")


# Which pods count


def test_all_pods_of_a_deployment_doom_it_and_some_of_them_do_not() -> None:
    bad, worse, good = pod("crash loop"), named(pod("image not found"), "b"), pod("starting")
    assert against(view(deployment(), bad, good)) == []
    (charge,) = against(view(deployment(), bad, worse))
    assert [fault.reason for fault in charge.faults] == ["CrashLoopBackOff", "ErrImagePull"]
    assert len(charge.groups) == 2


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_any_pod_of_a_stateful_set_or_a_daemon_set_dooms_it(kind: str) -> None:
    body = workload("stateful set crashing") if kind == "StatefulSet" else workload("daemon set ready")
    assert reasons(view(body, pod("ready"), pod("crash loop"))) == ["CrashLoopBackOff"]


def test_old_pods_do_not_count() -> None:
    assert against(view(deployment(), pod("ready"), others=[pod("crash loop")])) == []
    assert against(view(deployment(), others=[pod("crash loop")])) == []


def test_a_failed_pod_that_is_replaced_does_not_count() -> None:
    failed = named(pod("ready"), "failed")
    failed["status"] |= {"phase": "Failed", "reason": "OutOfcpu"}
    assert against(view(deployment(), failed, pod("starting"))) == []
    assert reasons(view(deployment(), failed)) == ["OutOfcpu"]
    assert reasons(view(deployment(), failed, pod("crash loop"))) == ["CrashLoopBackOff"]


def test_nothing_is_judged_before_the_controller_has_taken_up_the_change() -> None:
    body = deployment()
    body["metadata"]["generation"] = 2
    assert against(view(body, pod("crash loop"))) == []


def test_an_unschedulable_pod_waits_for_the_room_that_old_pods_leave() -> None:
    assert reasons(view(deployment(), pod("unschedulable"))) == ["Unschedulable"]
    assert against(view(deployment(), pod("unschedulable"), others=[ending(pod("ready"))])) == []


# Creating pods


def test_pods_that_cannot_be_created_doom_a_deployment() -> None:
    body, replicas = workload("deployment without service account"), workload("deployment without service account, set")
    (charge,) = against(view(body, maker=replicas))
    (fault,) = charge.faults
    assert fault.kind == "other"
    assert 'serviceaccount "nobody" not found' in fault.message
    assert fault.hint == "add ServiceAccount/nobody to the release"


def test_pods_that_cannot_be_created_wait_for_the_room_that_old_pods_leave() -> None:
    body, replicas = workload("deployment without service account"), workload("deployment without service account, set")
    assert against(view(body, maker=replicas, others=[ending(pod("ready"))])) == []


def test_the_dwell_begins_anew_whenever_another_pod_could_be_created() -> None:
    body, replicas = workload("deployment without service account"), workload("deployment without service account, set")
    (before,) = against(view(body, maker=replicas))
    (then,) = against(view(body, pod("ready"), maker=replicas))
    assert before.faults[0].key != then.faults[0].key


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("stateful set without service account", "stateful set"),
        ("daemon set without service account", "daemon set"),
        ("job without service account", "job"),
    ],
)
def test_what_has_no_condition_for_it_tells_by_events_that_pods_cannot_be_created(body: str, told: str) -> None:
    assert reasons(view(workload(body), told=events(told))) == ["FailedCreate"]


def test_a_pod_that_was_created_after_all_takes_that_back() -> None:
    body, told = workload("stateful set without service account"), events("stateful set")
    success = told[-1] | {"reason": "SuccessfulCreate", "lastTimestamp": "2026-11-28T05:00:00Z"}
    assert against(view(body, told=[*told, success])) == []


def test_an_old_failure_to_create_pods_is_nothing_when_none_is_lacking() -> None:
    body = workload("stateful set crashing")
    assert against(view(body, told=[about(event, body) for event in events("stateful set")])) == []


# The workload's own words


def test_a_deadline_for_progress_that_is_over_is_a_fault_with_a_dwell() -> None:
    body = workload("deployment past its deadline")
    found = [fault for charge in against(view(body, maker=deployment())) for fault in charge.faults]
    assert [(fault.reason, fault.kind) for fault in found] == [("ProgressDeadlineExceeded", "other")]


def test_a_paused_deployment_is_told() -> None:
    (charge,) = against(view(workload("deployment paused")))
    assert "paused" in charge.faults[0].message
    assert "kubectl rollout resume deployment/paused" in charge.faults[0].hint


def test_a_paused_deployment_that_has_all_its_pods_is_none() -> None:
    body = deployment()
    body["spec"]["paused"] = True
    assert against(view(body, pod("ready"))) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("job failed", "BackoffLimitExceeded"),
        ("job about to fail", "BackoffLimitExceeded"),
        ("job past its deadline", "DeadlineExceeded"),
    ],
)
def test_a_job_that_has_failed_is_final(name: str, reason: str) -> None:
    (charge,) = against(view(workload(name)))
    assert (charge.faults[0].kind, charge.faults[0].reason) == ("final", reason)


@pytest.mark.parametrize("name", ["job done", "job running", "job suspended"])
def test_a_job_on_its_way_is_not_doomed(name: str) -> None:
    assert against(view(workload(name))) == []


def test_crashes_of_a_jobs_pods_are_its_own_affair_and_what_never_starts_is_not() -> None:
    assert against(view(workload("job running"), pod("crash loop"))) == []
    assert reasons(view(workload("job running"), pod("image not found"))) == ["ErrImagePull"]
    assert against(view(workload("job running"), pod("job failed"))) == []


def test_what_somebody_deleted_is_final() -> None:
    (gone,) = against(view(None, kind="Deployment"))
    assert gone.faults[0].kind == "final"
    (going,) = against(view(ending(deployment())))
    assert going.faults[0].kind == "final"
    (job,) = against(view(None, kind="Job"))
    assert "ttlSecondsAfterFinished" in job.faults[0].hint


# Custom resources


def widget(*conditions: Object, **status: object) -> Object:
    return {
        "apiVersion": "example.org/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "uid": "w", "generation": 2},
        "status": {"observedGeneration": 2, "conditions": list(conditions)} | status,
    }


@pytest.mark.parametrize("kind", ["Stalled", "Failed", "Degraded"])
def test_a_custom_resource_says_itself_that_it_failed(kind: str) -> None:
    told = {"type": kind, "status": "True", "reason": "NoQuorum", "message": "two of three are away"}
    (charge,) = against(view(widget(told)))
    assert charge.faults[0].kind == "other"
    assert charge.faults[0].message == f"it is {kind}: NoQuorum: two of three are away"


def test_what_a_custom_resource_says_of_an_older_generation_is_not_heard() -> None:
    told = {"type": "Stalled", "status": "True", "observedGeneration": 1}
    assert against(view(widget(told))) == []
    assert against(view(widget({"type": "Stalled", "status": "True"}, observedGeneration=1))) == []


def test_a_custom_resource_that_is_not_ready_may_become_so() -> None:
    assert against(view(widget({"type": "Ready", "status": "False"}))) == []
