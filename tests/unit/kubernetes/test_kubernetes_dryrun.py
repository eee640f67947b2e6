"""What is sent, and what is made of the server's words."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from memoryapi import MemoryApi

from deploy_guard.drivers.kubernetes import dryrun
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.kubernetes.discovery import Resource, Resources
from deploy_guard.drivers.kubernetes.live import Live
from deploy_guard.drivers.kubernetes.objects import Key, Manifest, Object, Ref

SECRETS = Resource("v1", "Secret", "secrets", True)


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def sent(body: Object, resource: Resource = SECRETS) -> Object:
    return dryrun.prepared(Manifest(body, "app.yaml"), resource, "ns").desired


def secret(**parts: Any) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, **parts}


# What is sent


def test_an_object_gets_the_namespace_unless_it_stands_in_none() -> None:
    assert sent(secret())["metadata"] == {"name": "key", "namespace": "ns"}
    role = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "namespace": "ns"}}
    assert sent(role, Resource("v1", "X", "xs", False))["metadata"] == {"name": "x"}
    assert role["metadata"] == {"name": "x", "namespace": "ns"}


def test_string_data_is_sent_as_data_so_that_what_is_dropped_goes() -> None:
    body = secret(data={"a": coded("one"), "b": coded("old")}, stringData={"b": "new"})
    assert sent(body)["data"] == {"a": coded("one"), "b": coded("new")}
    assert "stringData" not in sent(body)


@pytest.mark.parametrize(
    "parts", [{"stringData": {"a": 1}}, {"stringData": ["a"]}, {"stringData": {"a": "b"}, "data": "x"}]
)
def test_what_is_wrong_with_string_data_is_left_to_the_server(parts: dict[str, Any]) -> None:
    assert sent(secret(**parts)) == {**secret(**parts), "metadata": {"name": "key", "namespace": "ns"}}


# What the server says


def test_values_of_another_type_are_left_out() -> None:
    text = (
        "failed to create typed patch object (ns/key; /v1, Kind=Secret): errors:\n"
        '  .data.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{"b":"hunter2"}}\n'
        "  .data.b: expected string, got &value.valueUnstructured{Value:12345}"
    )
    assert dryrun.words(ApiError(500, "", text)).splitlines() == [
        "failed to create typed patch object (ns/key; /v1, Kind=Secret): errors:",
        "  .data.a: expected string, got something else",
        "  .data.b: expected string, got something else",
    ]


def test_whole_objects_in_a_complaint_are_left_out() -> None:
    value = 'core.PodTemplateSpec{Env:[]core.EnvVar{{Name:"A", Value:"hunter2"}}, Containers: ' + "x" * 2000 + "}"
    causes = [
        {"field": "spec.template", "message": f"Invalid value: {value}: field is immutable"},
        {"field": "spec.replicas", "message": "Invalid value: -1: must be greater than or equal to 0"},
    ]
    error = ApiError(422, "Invalid", f"Job.batch is invalid: {value}: field is immutable", {"causes": causes})
    assert dryrun.words(error) == (
        "spec.template: Invalid value: field is immutable; "
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    )
    assert dryrun.immutable(error)


@pytest.mark.parametrize("text", ["hunter2-long", coded("hunter2-long"), "old-value"])
def test_a_webhook_that_quotes_a_secret_is_not_quoted(text: str) -> None:
    body = secret(data={"a": coded("hunter2-long")}, stringData={"b": "old-value"})
    said = dryrun.words(ApiError(400, "BadRequest", f"admission webhook denied: {text} is weak"), body)
    assert said == "admission webhook denied: (secret value) is weak"
    other = {"kind": "ConfigMap", "data": {"a": text}}
    assert text in dryrun.words(ApiError(400, "BadRequest", f"denied: {text}"), other)


def test_binary_secrets_do_no_harm() -> None:
    body = secret(data={"a": base64.b64encode(b"\xff\xfe").decode(), "b": "no base64!"})
    assert dryrun.words(ApiError(400, "", "text"), body) == "text"


# Where objects are


def group(*names: tuple[str, str, bool]) -> Object:
    return {"resources": [{"kind": k, "name": n, "namespaced": s, "verbs": ["get"]} for k, n, s in names]}


def crd(*versions: str, scope: str = "Namespaced", **more: Any) -> Object:
    names = {"kind": "Widget", "plural": "widgets"}
    listed = [{"name": one, "served": one != "v0"} for one in versions]
    return {"spec": {"group": "example.com", "names": names, "scope": scope, "versions": listed, **more}}


def test_each_group_is_asked_for_once() -> None:
    api = MemoryApi({"/apis/apps/v1": group(("Deployment", "deployments", True), ("Scale", "deployments/scale", True))})
    resources = Resources(api)
    for _ in range(2):
        assert resources.find("apps/v1", "Deployment") is not None
        assert resources.find("apps/v1", "Scale") is None
        assert resources.find("nothing/v1", "Deployment") is None
    found = resources.find("apps/v1", "Deployment")
    assert found is not None
    assert found.path("ns", "web") == "/apis/apps/v1/namespaces/ns/deployments/web"
    assert api.asked == [("GET", "/apis/apps/v1"), ("GET", "/apis/nothing/v1")]


def test_paths_of_the_core_and_of_what_stands_in_no_namespace() -> None:
    assert SECRETS.path("ns", "a") == "/api/v1/namespaces/ns/secrets/a"
    roles = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False)
    assert roles.path("ns", "system:a b") == "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:a%20b"
    assert roles.ref("ns", "x").key.namespace == ""
    assert SECRETS.ref("ns", "x").collection == "/api/v1/namespaces/ns/secrets"


def test_kinds_that_come_with_the_release_are_known_in_the_versions_it_serves() -> None:
    resources = Resources(MemoryApi())
    resources.learn(crd("v0", "v1"))
    found = resources.find("example.com/v1", "Widget")
    assert found is not None
    assert found.promised
    assert found.namespaced
    assert resources.find("example.com/v0", "Widget") is None
    resources.learn(crd("v2", scope="Cluster"))
    other = resources.find("example.com/v2", "Widget")
    assert other is not None
    assert not other.namespaced


@pytest.mark.parametrize("broken", [{}, {"spec": {"group": "example.com"}}, crd(versions=["v1"])])
def test_a_broken_definition_is_left_to_the_server(broken: Object) -> None:
    Resources(MemoryApi()).learn(broken)


def test_what_the_server_knows_comes_before_what_is_promised() -> None:
    api = MemoryApi({"/apis/example.com/v1": group(("Widget", "widgets", True))})
    api.objects["/apis/example.com"] = {"versions": [{"groupVersion": "example.com/v1"}]}
    resources = Resources(api)
    resources.learn(crd("v1", "v2"))
    known, promised = resources.find("example.com/v1", "Widget"), resources.find("example.com/v2", "Widget")
    assert known is not None
    assert promised is not None
    assert (known.promised, promised.promised) == (False, True)
    assert resources.elsewhere("example.com/v2", "Widget") == ["example.com/v1"]
    assert resources.elsewhere("other.com/v2", "Widget") == []
    assert resources.elsewhere("v2", "Pod") == []


# How objects are fetched


def config_maps(count: int) -> tuple[MemoryApi, list[Ref]]:
    top = "/api/v1/namespaces/ns/configmaps"
    api = MemoryApi({f"{top}/c{number}": {"metadata": {"name": f"c{number}"}} for number in range(count)})
    return api, [Ref(Key("v1", "ConfigMap", "ns", f"c{number}"), f"{top}/c{number}") for number in range(count + 1)]


def fetched(api: MemoryApi, refs: list[Ref]) -> Live:
    live = Live(api, refs)
    for thunk in live.thunks():
        thunk()
    return live


def test_few_objects_are_fetched_one_by_one() -> None:
    api, refs = config_maps(3)
    live = fetched(api, refs)
    assert [live.get(ref) is None for ref in refs] == [False, False, False, True]
    assert len(api.asked) == 4


@pytest.mark.parametrize("more", [False, True], ids=["all in one page", "some beyond it"])
def test_many_objects_are_fetched_by_one_list(more: bool) -> None:
    api, refs = config_maps(30)
    listed = [dict(body) for body in api.objects.values()][: 20 if more else 30]
    page = {"items": listed, "metadata": {"continue": "x"} if more else {}}
    api.answers.append(lambda _method, path, _body, _query: page if path.endswith("/configmaps") else None)
    live = fetched(api, refs)
    assert [live.get(ref) is None for ref in refs] == [False] * 30 + [True]
    assert live.get(refs[0]) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c0"}}
    assert len(api.asked) == (12 if more else 1)


def test_who_may_not_list_gets_and_what_is_refused_is_remembered() -> None:
    api, refs = config_maps(30)

    def refuse(_method: str, path: str, *_rest: Any) -> None:
        if path.endswith(("/configmaps", "/c3")):
            raise ApiError(403, "Forbidden", "no")

    api.answers.append(refuse)
    live = fetched(api, refs)
    assert live.get(refs[2]) is not None
    assert live.get(refs[3]) is None
    assert list(live.refused) == [refs[3].path]
