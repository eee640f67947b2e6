"""Applies against objects in memory: what a real cluster does rarely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from memoryapi import MemoryApi

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import applying, order, planning, records
from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.objects import Action, Key, Object, Plan, Planned, Ref
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import DeployGuardError, RolloutDoomed

TARGET = Target("test", "ns")
CONFIG = KubernetesConfig(manifests=("k8s",))
COLLECTIONS = {"ConfigMap": "configmaps", "Secret": "secrets", "CustomResourceDefinition": "customresourcedefinitions"}


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other parts do is not looked at here; nothing waits long."""
    monkeypatch.setattr("deploy_guard.drivers.kubernetes.restoring.keep_secrets", lambda *_arguments: None)
    monkeypatch.setattr(applying, "_ESTABLISHED", 0.3)
    monkeypatch.setattr(applying, "_EVERY", 0.01)


def planned(kind: str, name: str, action: Action = "create", *, after: bool = True, **more: Any) -> Planned:
    desired = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    path = f"/api/v1/namespaces/ns/{COLLECTIONS.get(kind, kind.lower())}/{name}"
    ref = Ref(Key("v1", kind, "ns", name), path)
    before = None if action == "create" else {**desired, "metadata": {"name": name, "uid": "1"}}
    known = desired if after and action != "remove" else None
    made = Planned(ref, action, None if action == "remove" else desired, before, known, rank=order.rank(desired))
    return replace(made, **more)


class Server(MemoryApi):
    """Takes every server-side apply; ``refuse`` has an error for some paths, each given once."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: dict[str, list[DeployGuardError]] = {}
        self.sent: list[tuple[str, Object, Mapping[str, str]]] = []
        self.answers.append(self._answer)

    def _answer(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> Object | None:
        if method not in ("PATCH", "DELETE") or not isinstance(body, dict):
            return None
        self.sent.append((path, body, query))
        name = path.rpartition("/")[2]
        if self.refuse.get(name):
            raise self.refuse[name].pop(0)
        if method == "DELETE":
            return {}
        self.objects[path] = body
        return body

    @property
    def names(self) -> list[str]:
        return [path.rpartition("/")[2] for path, _, _ in self.sent]


def plan(*objects: Planned, **more: Any) -> Plan:
    return Plan(objects, 0, None, **more)


def apply(api: Server, what: Plan, version: str = "v1", said: list[str] | None = None) -> None:
    lines = [] if said is None else said
    context = Context("shop", "prod", Path(), {"VERSION": version}, progress=lines.append)
    applying.apply(api, what, CONFIG, TARGET, context)


def finish(api: Server, what: Plan) -> None:
    applying.finish(api, what, CONFIG, TARGET, Context("shop", "prod", Path(), {}), Deadline.after(5))


def conflict() -> ApiError:
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "argocd" using v1', "field": ".data.a"}
    return ApiError(409, "Conflict", "Apply failed with 1 conflict", {"causes": [cause]})


def test_a_rank_is_begun_when_the_one_before_is_done() -> None:
    api = Server()
    apply(api, plan(planned("Widget", "w"), planned("Deployment", "web"), planned("ConfigMap", "app")))
    assert api.names == ["app", "w", "web"] or api.names == ["app", "web", "w"]


def test_after_a_refusal_nothing_more_is_begun_and_all_that_was_refused_is_told() -> None:
    api = Server()
    api.refuse = {"b": [ApiError(403, "Forbidden", "exceeded quota: few")]}
    with pytest.raises(RolloutDoomed) as caught:
        apply(api, plan(*(planned("ConfigMap", name) for name in "abcd"), planned("Widget", "w")))
    assert api.names == ["a", "b"]
    assert str(caught.value).splitlines() == [
        "the API server refuses what it took as a dry run:",
        "  ConfigMap/b: exceeded quota: few",
        "  2 more of the same rank were not begun",
    ]
    assert not any("secrets" in path for path in api.objects), "no record of a release that is not there"


def test_a_conflict_says_who_came_between() -> None:
    api = Server()
    api.refuse = {"a": [conflict()]}
    with pytest.raises(
        RolloutDoomed, match=r"ConfigMap/a: somebody changed it since the plan: data.a belongs to argocd"
    ):
        apply(api, plan(planned("ConfigMap", "a")))


def test_an_api_server_that_stays_away_dooms_the_rollout() -> None:
    api = Server()
    api.refuse = {"a": [Unreachable("no answer in 60 s", hint="look at it")], "old": [Unreachable("no answer in 60 s")]}
    with pytest.raises(RolloutDoomed, match="the apply was cut off: no answer in 60 s") as caught:
        apply(api, plan(planned("ConfigMap", "a")))
    assert caught.value.hint == "look at it"
    with pytest.raises(RolloutDoomed, match="removing was cut off: no answer in 60 s"):
        finish(api, plan(planned("ConfigMap", "old", "remove")))


def test_a_record_that_is_refused_dooms_the_rollout() -> None:
    api = Server()

    def refuse(method: str, *_rest: Any) -> None:
        if method == "POST":
            raise ApiError(403, "Forbidden", "exceeded quota: secrets")

    api.answers.append(refuse)
    with pytest.raises(RolloutDoomed, match="exceeded quota: secrets"):
        apply(api, plan(planned("ConfigMap", "a")))


# Kinds that come with the release


def test_an_object_of_a_new_kind_waits_until_it_is_served() -> None:
    api = Server()
    api.refuse = {"w": [ApiError(404, "", "404 page not found")] * 3}
    apply(api, plan(planned("Widget", "w", after=False)))
    assert api.names == ["w"] * 4


def test_an_object_whose_kind_was_known_does_not_wait() -> None:
    api = Server()
    api.refuse = {"w": [ApiError(404, "", "404 page not found")]}
    with pytest.raises(RolloutDoomed, match="page not found"):
        apply(api, plan(planned("Widget", "w")))
    assert api.names == ["w"]


def test_a_definition_that_is_never_served_is_given_up() -> None:
    api = Server()
    with pytest.raises(RolloutDoomed, match=r"does not serve the kind of CustomResourceDefinition/widgets .* 0.3 s"):
        apply(api, plan(planned("CustomResourceDefinition", "widgets"), planned("Widget", "w", after=False)))
    assert api.names == ["widgets"]


# Objects older than managedFields


def test_what_is_overwritten_is_what_was_looked_at() -> None:
    api = Server()
    one = planned("ConfigMap", "a", "change", taken=(("before-first-apply", "Update"),))
    api.objects[one.ref.path] = {"kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7"}}
    api.refuse = {"a": [ApiError(409, "Conflict", "the object has been modified")]}
    apply(api, plan(one))
    assert [body["metadata"].get("resourceVersion") for _, body, _ in api.sent] == ["7", "7"]
    assert all(query["force"] == "true" for _, _, query in api.sent)


# Lines for people


def test_many_objects_are_told_by_their_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "_EVERY", 0)
    said: list[str] = []
    objects = [planned("ConfigMap", f"n{number}") for number in range(24)]
    apply(
        Server(), plan(*objects, planned("ConfigMap", "c", "change"), planned("ConfigMap", "same", "none")), said=said
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[19:] == [
        "created ConfigMap/n19",
        "and 5 more: 4 created, 1 changed",
        "1 unchanged",
        "record 1 of the release is written",
    ]
    assert said[-1] == "applied 25 of 25"


# What is removed


def test_what_is_gone_already_or_another_by_now_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    api = Server()
    api.refuse = {"gone": [ApiError(404, "NotFound", "x")], "anew": [ApiError(409, "Conflict", "uid differs")]}
    finish(api, plan(*(planned("ConfigMap", name, "remove") for name in ("old", "gone", "anew"))))
    assert api.names == ["old", "gone", "anew"]
    assert api.sent[0][1]["preconditions"] == {"uid": "1"}
    assert "ConfigMap/anew was made anew by somebody since the plan, and stays" in capsys.readouterr().out


def test_what_can_not_be_removed_dooms_the_rollout() -> None:
    api = Server()
    api.refuse = {"old": [ApiError(403, "Forbidden", "denied by policy")]}
    with pytest.raises(RolloutDoomed, match="ConfigMap/old: denied by policy"):
        finish(api, plan(planned("ConfigMap", "old", "remove")))


# The record


def test_what_was_left_behind_is_remembered_with_what_was_known_of_it() -> None:
    api = Server()
    apply(api, plan(planned("ConfigMap", "old"), planned("ConfigMap", "new")))
    old = planned("ConfigMap", "old").ref
    apply(api, plan(planned("ConfigMap", "new", "none"), left=(old,)), "v2")
    found = records.last(api, "ns", "shop")
    assert found is not None
    assert [str(one.ref) for one in found.objects] == ["ConfigMap/new"]
    assert [(one.ref, one.applied["metadata"]) for one in found.left] == [(old, {"name": "old"})]


def test_only_a_record_that_would_say_the_same_is_not_written() -> None:
    api = Server()
    apply(api, plan(planned("ConfigMap", "a")))
    same = plan(planned("ConfigMap", "a", "none"))
    for version, number in (("v1", 1), ("v2", 2), ("v2", 2)):
        apply(api, same, version)
        found = records.last(api, "ns", "shop")
        assert found is not None
        assert (found.version, found.sequence) == (version, number)
    apply(api, plan(planned("ConfigMap", "a", "none"), planned("ConfigMap", "b", "none")), "v2")
    found = records.last(api, "ns", "shop")
    assert found is not None
    assert found.sequence == 3


# The digest


def test_a_digest_tells_plans_apart_and_knows_no_secret() -> None:
    def digest(kind: str = "ConfigMap", value: str = "a", action: Action = "change", **more: Any) -> str:
        one = planned(kind, "x", action, **more)
        assert one.desired is not None
        return planning.digest(plan(replace(one, desired={**one.desired, "data": {"a": value}})))

    assert digest() == digest()
    others = [digest(value="b"), digest(action="create"), digest(kind="Widget"), digest(taken=(("helm", "Update"),))]
    assert len({digest(), *others}) == 5
    assert digest("Secret", "a") == digest("Secret", "b")
