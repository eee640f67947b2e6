"""What is quoted of pods that fail: state, events, log; and what is left out when it can't be read."""

from __future__ import annotations

import threading
import time

import pytest
from kube_fakes import Cluster, about, events, pod, view, workload

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes.lastwords import chosen, last_words, obstacle
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.views import View


def words(cluster: Cluster, found: View, *names: str, seconds: float = 5.0) -> str:
    return "\n".join(last_words(cluster, found, Deadline.after(seconds), names))


def crashing() -> tuple[Cluster, View, str]:
    one = pod("crash loop")
    return Cluster(), view(workload("deployment ready"), one), one["metadata"]["name"]


def test_the_pod_its_state_its_events_and_the_end_of_its_log_are_quoted() -> None:
    cluster, found, name = crashing()
    (event, *_) = [one for one in events("no such command") if one["reason"] == "BackOff"]
    cluster.put(about(event, found.pods[0]) | {"count": 4})
    cluster.logs[name] = "".join(f"line {number}\n" for number in range(100))
    told = words(cluster, found)
    assert f"pod {name}: container main waits: CrashLoopBackOff" in told
    assert "Warning BackOff (4 times): Back-off restarting failed container main" in told
    assert "the last 25 lines of container main (its last run)" in told
    assert "line 74\n" not in told
    assert "| line 75" in told
    assert told.endswith("| line 99")


def test_a_container_that_runs_again_is_quoted_from_the_run_before() -> None:
    one = pod("liveness, second restart")
    cluster, found = Cluster(), view(workload("deployment ready"), one)
    cluster.logs[f"{one['metadata']['name']} before"] = "the run that was ended\n"
    assert "(the run before):\n  | the run that was ended" in words(cluster, found, one["metadata"]["name"])


def test_where_the_run_before_is_gone_this_one_is_quoted() -> None:
    one = pod("liveness, second restart")
    cluster, found = Cluster(), view(workload("deployment ready"), one)
    cluster.logs[one["metadata"]["name"]] = "this one\n"
    assert "the last line of container main (this run):\n  | this one" in words(cluster, found, one["metadata"]["name"])


def test_a_container_that_never_ran_has_no_log() -> None:
    cluster, found = Cluster(), view(workload("deployment ready"), pod("image not found"))
    told = words(cluster, found)
    assert "log" not in told
    assert cluster.counted("TEXT", "/log") == 0


def test_missing_rights_hide_nothing_else() -> None:
    cluster, found, _ = crashing()
    cluster.forbidden = {"/log", "/events"}
    told = words(cluster, view(found.body, *found.pods, told=[about(events("no such command")[0], found.pods[0])]))
    assert "waits: CrashLoopBackOff" in told
    assert "BackOff" in told
    assert "the log of container main can't be read: " in told
    assert "is forbidden" in told


def test_an_api_server_that_hangs_takes_a_bounded_time() -> None:
    cluster, found, name = crashing()
    cluster.frozen.set()
    begun = time.monotonic()
    told = words(cluster, found, seconds=0.3)
    assert time.monotonic() - begun < 1.5
    assert f"pod {name}: container main waits" in told
    assert "could not be read within 0.3 s" in told


def test_pods_are_read_side_by_side() -> None:
    both = threading.Barrier(2, timeout=5)
    cluster = Cluster()

    def meet(method: str, _path: str) -> None:
        if method == "LIST":
            both.wait()

    cluster.on_request = meet
    first, second = pod("crash loop"), pod("crashed twice")
    second["metadata"] |= {"name": "second", "uid": "second"}
    words(cluster, view(workload("deployment ready"), first, second))


def test_control_characters_and_endless_lines_do_not_reach_the_report() -> None:
    cluster, found, name = crashing()
    cluster.logs[name] = "\x1b[31mred\x1b[0m\r\n\x07bell\x00\n" + "x" * 10_000
    told = words(cluster, found)
    assert "| red\n  | bell\n" in told
    assert "\x1b" not in told
    assert "x" * 500 in told
    assert "x" * 501 not in told


def test_an_empty_log_is_said() -> None:
    cluster, found, name = crashing()
    cluster.logs[name] = ""
    assert "container main logged nothing (its last run)" in words(cluster, found)


def test_the_init_container_that_failed_is_quoted_and_no_other() -> None:
    one = pod("init container failed twice")
    cluster, found = Cluster(), view(workload("deployment ready"), one)
    cluster.logs[one["metadata"]["name"]] = "bad schema\n"
    told = words(cluster, found)
    assert "the last line of container setup (its last run):\n  | bad schema" in told
    assert "container main" not in told


def test_what_has_no_pods_is_explained_by_its_own_events() -> None:
    found = view(workload("daemon set without service account"), told=events("daemon set"))
    assert 'serviceaccount "nobody" not found' in words(Cluster(), found)


def test_events_that_every_pod_has_are_left_out() -> None:
    cluster, found, _ = crashing()
    usual = about(events("no such command")[0], found.pods[0]) | {"reason": "Scheduled"}
    cluster.put(usual)
    assert "events" not in words(cluster, found)


# Which pods


def named(name: str, state: str, **meta: str) -> Object:
    one = pod(state)
    one["metadata"] |= {"name": name, "uid": name} | meta
    return one


def test_the_three_pods_that_fared_worst_are_quoted() -> None:
    pods = [named("a", "starting"), named("b", "crash loop"), named("c", "ready"), named("d", "crashed twice")]
    pods += [named("e", "starting")]
    found = chosen(view(workload("deployment ready"), *pods))
    assert [one["metadata"]["name"] for one in found] == ["b", "d", "a"]


def test_pods_that_are_named_are_quoted_first_and_only() -> None:
    found = chosen(view(workload("deployment ready"), named("a", "starting"), named("b", "crash loop")), ["a", "gone"])
    assert [one["metadata"]["name"] for one in found] == ["a"]


def test_of_a_job_the_last_pod_that_failed_is_quoted_even_while_it_is_being_deleted() -> None:
    first = named("first", "job failed", creationTimestamp="2026-11-28T04:00:00Z")
    second = named("second", "job failed", creationTimestamp="2026-11-28T05:00:00Z")
    second["metadata"]["deletionTimestamp"] = "2026-11-28T05:00:00Z"
    found = chosen(view(workload("job failed"), first, others=[second]))
    assert [one["metadata"]["name"] for one in found] == ["second"]
    running = named("running", "ready")
    assert chosen(view(workload("job running"), running)) == [running]


# Why a pod is not ready


@pytest.mark.parametrize(
    ("state", "told", "why"),
    [
        ("ready", "", ""),
        ("starting", "", "container main waits: ContainerCreating"),
        ("volume missing", "volume missing", 'configmap "nope" not found'),
        ("unready", "unready", "container main runs, and is not ready: Readiness probe failed ("),
        ("unready", "", "container main runs, and is not ready"),
        ("crashed once", "", "container main ended with exit code 3"),
        ("unschedulable", "", "no node takes it: Unschedulable: 0/1 nodes are available"),
        ("init container failed once", "", "container setup ended with exit code 7"),
        ("registry away", "", "container main waits: ImagePullBackOff"),
    ],
)
def test_a_pod_says_why_it_is_not_ready(state: str, told: str, why: str) -> None:
    one = pod(state)
    said = obstacle(one, [about(event, one) for event in events(told)] if told else [])
    assert why in said if why else said == ""


def test_a_running_init_container_is_what_a_pod_waits_for() -> None:
    one = pod("init container failed once")
    one["status"]["initContainerStatuses"][0]["state"] = {"running": {"startedAt": "2026-11-28T04:00:00Z"}}
    assert obstacle(one, []) == "container setup still runs"


def test_a_readiness_gate_that_nobody_opened_is_told() -> None:
    one = pod("ready")
    for condition in one["status"]["conditions"]:
        condition["status"] = "False" if condition["type"] == "Ready" else "True"
    one["status"]["conditions"].append({"type": "example.org/registered", "status": "False"})
    assert "example.org/registered is False" in obstacle(one, [])
