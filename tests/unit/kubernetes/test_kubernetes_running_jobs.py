"""Jobs of a phase: when one is replaced, waited for, left alone."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
from kube_fakes import Cluster, ref, workload

from deploy_guard.drivers.kubernetes import jobs, watching
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.kubernetes.objects import Object, Planned
from deploy_guard.errors import RolloutDoomed

WHERE = ref("Job", "okjob")
DESIRED: Object = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "okjob"}, "spec": {"template": {}}}
PLANNED = Planned(WHERE, "create", DESIRED, None, None, phase="before")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAUSE", 0.05)
    monkeypatch.setattr(jobs, "_LOOK", 0.02)


def job(state: str, uid: str = "first") -> Object:
    body = workload(f"job {state}")
    body["metadata"] |= {"name": "okjob", "uid": uid}
    return body


class Kubernetes(Cluster):
    """Runs a Job that is applied, and it ends as told; deletes what is to be deleted, after a while."""

    def __init__(self, *bodies: Object, ends: str = "done", immutable: bool = False, gone_after: float = 0.1) -> None:
        super().__init__(*bodies)
        self.ends, self.immutable, self.gone_after = ends, immutable, gone_after
        self.answer = self._do

    def _do(self, method: str, path: str, body: Any) -> Object | None:
        if method == "PATCH":
            if self.immutable and path in self.objects:
                raise ApiError(422, "Invalid", "spec.template: field is immutable")
            if "dryRun" not in self.sent[-1][2]:
                self.put(job(self.ends, uid=f"made {len(self.sent)}"))
            return job(self.ends)
        if method == "DELETE":
            there = self.objects[path]
            assert body["preconditions"]["uid"] == there["metadata"]["uid"]
            going = copy.deepcopy(there)
            going["metadata"] |= {"deletionTimestamp": "2026-11-28T05:00:00Z", "finalizers": ["foregroundDeletion"]}
            self.put(going)
            self._until = time.monotonic() + self.gone_after
            return going
        is_going = "deletionTimestamp" in self.objects.get(path, {}).get("metadata", {})
        if is_going and time.monotonic() > self._until:
            self.delete(self.objects[path])
        return None

    @property
    def changed(self) -> list[str]:
        return [
            method for method, _, query, _, _ in self.sent if method in ("PATCH", "DELETE") and "dryRun" not in query
        ]


def run(cluster: Cluster, timeout: float = 5.0, progress: Callable[[str], None] = lambda _line: None) -> None:
    jobs.run(cluster, PLANNED, timeout, progress)


def test_a_job_that_is_not_there_is_applied_as_ours_and_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Kubernetes()
    lines: list[str] = []
    run(cluster, progress=lines.append)
    (applied,) = [one for one in cluster.sent if one[0] == "PATCH"]
    assert applied[1:] == (
        WHERE.path,
        {"fieldManager": "deploy-guard", "force": "true", "fieldValidation": "Strict"},
        "application/apply-patch+yaml",
        DESIRED,
    )
    assert capsys.readouterr().out == "Job/okjob was started\nJob/okjob has completed after 0 s\n"
    assert lines


@pytest.mark.parametrize("state", ["done", "failed", "about to fail"])
def test_a_job_that_has_ended_is_replaced_when_it_is_gone(state: str, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Kubernetes(job(state))
    run(cluster)
    assert cluster.changed == ["DELETE", "PATCH"]
    (options,) = [body for method, _, _, _, body in cluster.sent if method == "DELETE"]
    assert options["propagationPolicy"] == "Foreground"
    assert "was replaced and started" in capsys.readouterr().out


def test_a_job_that_is_going_already_is_only_waited_for() -> None:
    cluster = Kubernetes(job("done"))
    cluster.request("DELETE", WHERE.path, {"preconditions": {"uid": "first"}})
    cluster.sent.clear()
    run(cluster)
    assert cluster.changed == ["PATCH"]


def test_a_running_job_of_the_same_template_is_waited_for_and_not_touched() -> None:
    cluster = Kubernetes(job("running"))
    waited: list[str] = []

    def ends(line: str) -> None:
        waited.append(line)
        cluster.put(job("done"))

    run(cluster, progress=ends)
    assert waited
    assert cluster.changed == []


def test_a_running_job_of_another_template_is_neither_touched_nor_waited_for() -> None:
    cluster = Kubernetes(job("running"), immutable=True)
    with pytest.raises(RolloutDoomed, match="with another template: it is not touched"):
        run(cluster)
    assert cluster.changed == []


def test_other_refusals_are_not_taken_for_another_template() -> None:
    cluster = Kubernetes(job("running"))

    def refuse(method: str, _path: str, _body: Any) -> Object | None:
        if method == "PATCH":
            raise ApiError(403, "Forbidden", "no")
        return None

    cluster.answer = refuse
    with pytest.raises(ApiError, match="no"):
        run(cluster)


def test_a_job_that_fails_is_told_with_its_log() -> None:
    cluster = Kubernetes(ends="failed")
    with pytest.raises(RolloutDoomed, match="Job/okjob failed: BackoffLimitExceeded"):
        run(cluster)


def test_a_job_that_takes_too_long_is_left_as_it_is() -> None:
    cluster = Kubernetes(ends="running")
    with pytest.raises(RolloutDoomed, match="Job/okjob: it has not completed yet") as caught:
        run(cluster, timeout=0.5)
    assert str(caught.value).startswith("not finished after 0.5 s")
    assert "may still be running" in caught.value.hint
    assert "DELETE" not in cluster.changed


def test_a_suspended_job_has_not_run() -> None:
    cluster = Kubernetes(ends="suspended")
    with pytest.raises(RolloutDoomed, match="it is suspended"):
        run(cluster, timeout=0.5)


def test_a_job_that_does_not_go_away_is_told_with_what_keeps_it() -> None:
    cluster = Kubernetes(job("done"), gone_after=60.0)
    with pytest.raises(RolloutDoomed, match="it is kept by foregroundDeletion"):
        run(cluster, timeout=0.5)
    assert cluster.changed == ["DELETE"]


def test_a_job_that_somebody_else_starts_meanwhile_is_not_touched() -> None:
    cluster = Kubernetes(job("done"))

    def overtaken(method: str, path: str, body: Any) -> Object | None:
        if method == "DELETE":
            cluster.delete(job("done"))
            cluster.put(job("running", uid="theirs"))
            return job("done")
        return Kubernetes._do(cluster, method, path, body)

    cluster.answer = overtaken
    with pytest.raises(RolloutDoomed, match="somebody else started"):
        run(cluster)
    assert cluster.changed == ["DELETE"]
