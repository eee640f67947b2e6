"""Jobs of a phase on a real cluster: replaced, waited for, left alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence

import kube
import pytest
from kube import Body, Namespace
from kube_fakes import ref_of

from deploy_guard.drivers.kubernetes import jobs
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.objects import Planned
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import RolloutDoomed


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


def migration(box: str, command: Sequence[str], **spec: object) -> Body:
    body = kube.job("migrate", box, command, phase="before")
    body["spec"] |= spec
    return body


def run(api: Connection, namespace: Namespace, body: Body, timeout: float = 60.0) -> list[str]:
    """Run a Job as applying does; returns the lines of progress."""
    lines: list[str] = []
    desired = body | {"metadata": body["metadata"] | {"namespace": namespace.name}}
    planned = Planned(ref_of(body, namespace.name), "create", desired, None, None, phase="before")
    jobs.run(api, planned, timeout, lines.append)
    return lines


def test_a_job_runs_to_its_end_and_belongs_to_deploy_guard(api: Connection, namespace: Namespace, box: str) -> None:
    lines = run(api, namespace, migration(box, ["sleep", "2"]))
    found = namespace.get("job", "migrate")
    assert found["status"]["succeeded"] == 1
    assert "deploy-guard" in {entry["manager"] for entry in found["metadata"]["managedFields"]}
    assert any(line.startswith("migrate 0/1 done") for line in lines)


def test_a_job_that_has_ended_is_replaced_although_its_template_changed(
    api: Connection, namespace: Namespace, box: str
) -> None:
    run(api, namespace, migration(box, ["true"]))
    first = namespace.get("job", "migrate")
    run(api, namespace, migration(box, ["sh", "-c", "echo again"]))
    second = namespace.get("job", "migrate")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert second["status"]["succeeded"] == 1
    owners = {pod["metadata"]["ownerReferences"][0]["uid"] for pod in namespace.all("pods")}
    assert owners == {second["metadata"]["uid"]}  # pods of the first one went with it


def test_a_job_that_failed_is_told_with_its_log_and_replaced_by_the_next_release(
    api: Connection, namespace: Namespace, box: str
) -> None:
    with pytest.raises(RolloutDoomed) as caught:
        run(api, namespace, migration(box, ["sh", "-c", "echo column exists already; exit 4"]))
    said = str(caught.value)
    assert said.startswith("Job/migrate failed: BackoffLimitExceeded")
    assert "ended with exit code 4" in said
    assert "| column exists already" in said
    run(api, namespace, migration(box, ["true"]))


def test_a_running_job_of_the_same_template_is_waited_for(api: Connection, namespace: Namespace, box: str) -> None:
    body = migration(box, ["sleep", "4"])
    namespace.apply(body, manager="deploy-guard")
    before = namespace.get("job", "migrate")
    run(api, namespace, body)
    after = namespace.get("job", "migrate")
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert after["status"]["succeeded"] == 1


def test_a_running_job_of_another_template_is_not_touched(api: Connection, namespace: Namespace, box: str) -> None:
    namespace.apply(migration(box, ["sleep", "100"]), manager="deploy-guard")
    before = namespace.get("job", "migrate")
    with pytest.raises(RolloutDoomed, match="with another template: it is not touched"):
        run(api, namespace, migration(box, ["true"]))
    after = namespace.get("job", "migrate")
    assert before["metadata"]["uid"] == after["metadata"]["uid"]
    assert after["spec"] == before["spec"]


def test_a_job_past_its_own_deadline_is_told_with_what_it_did(api: Connection, namespace: Namespace, box: str) -> None:
    command = ["sh", "-c", "echo copying; sleep 100"]
    with pytest.raises(RolloutDoomed) as caught:
        run(api, namespace, migration(box, command, activeDeadlineSeconds=4))
    assert "Job/migrate failed: DeadlineExceeded" in str(caught.value)
    assert "| copying" in str(caught.value)


def test_a_job_whose_image_is_missing_is_told_before_its_deadline(
    api: Connection, namespace: Namespace, box: str
) -> None:
    body = migration(box, ["true"])
    body["spec"]["template"]["spec"]["containers"][0] |= {"image": "test.local/nothing:9", "imagePullPolicy": "Never"}
    with pytest.raises(RolloutDoomed, match="is not present with pull policy of Never"):
        run(api, namespace, body)


def test_a_job_that_takes_too_long_is_told_and_left_running(api: Connection, namespace: Namespace, box: str) -> None:
    with pytest.raises(RolloutDoomed, match="Job/migrate: it has not completed yet"):
        run(api, namespace, migration(box, ["sleep", "100"]), timeout=5.0)
    assert namespace.get("job", "migrate")["status"]["active"] == 1


def test_a_job_that_removes_itself_has_completed(api: Connection, namespace: Namespace, box: str) -> None:
    run(api, namespace, migration(box, ["true"], ttlSecondsAfterFinished=0))


def test_a_job_that_somebody_deletes_has_not(api: Connection, namespace: Namespace, box: str) -> None:
    timer = threading.Timer(3.0, lambda: namespace.kubectl("delete", "job", "migrate", "--wait=false"))
    timer.start()
    with pytest.raises(RolloutDoomed, match="somebody delete"):
        run(api, namespace, migration(box, ["sleep", "100"]))
    timer.join()


def test_a_job_whose_pods_crash_now_and_then_is_judged_by_its_own_limit(
    api: Connection, namespace: Namespace, box: str
) -> None:
    command = [
        "sh",
        "-c",
        "[ -e /kept/second ] && exit 0; [ -e /kept/first ] && touch /kept/second; touch /kept/first; exit 1",
    ]
    body = migration(box, command, backoffLimit=5)
    pod = body["spec"]["template"]["spec"]
    pod |= {"restartPolicy": "OnFailure", "volumes": [{"name": "kept", "emptyDir": {}}]}
    pod["containers"][0]["volumeMounts"] = [{"name": "kept", "mountPath": "/kept"}]
    run(api, namespace, body)
