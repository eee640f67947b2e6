"""Who owns which field, and what taking over does to that."""

from __future__ import annotations

from typing import Any

import pytest
from memoryapi import MemoryApi

from deploy_guard.drivers.kubernetes import adoption, compare, owners
from deploy_guard.drivers.kubernetes.adoption import Conflict
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.kubernetes.objects import Key, Object, Planned, Ref

MAIN = 'k:{"name":"main"}'
CONTAINERS = ("f:spec", "f:containers")
PATH = "/api/v1/namespaces/ns/configmaps/app"


def entry(manager: str, fields: dict[str, Any], operation: str = "Update", **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields, **more}


def app(data: dict[str, str], *entries: dict[str, Any]) -> Object:
    meta = {"name": "app", "resourceVersion": "7", "managedFields": list(entries)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def data(*names: str) -> dict[str, Any]:
    return {"f:data": {".": {}, **{f"f:{name}": {} for name in names}}}


def test_fields_are_read_and_written_as_the_server_has_them() -> None:
    tree: dict[str, Any] = {
        "f:spec": {"f:containers": {MAIN: {".": {}, "f:image": {}}}, "f:replicas": {}},
        "f:metadata": {"f:finalizers": {'v:"a"': {}}, "f:labels": {".": {}, "f:a.b/c": {}}},
    }
    found = owners.fields({"fieldsV1": tree})
    assert found == {
        (*CONTAINERS, MAIN),
        (*CONTAINERS, MAIN, "f:image"),
        ("f:spec", "f:replicas"),
        ("f:metadata", "f:finalizers", 'v:"a"'),
        ("f:metadata", "f:labels"),
        ("f:metadata", "f:labels", "f:a.b/c"),
    }
    assert owners.tree(found) == tree


def test_fields_are_shown_as_people_write_them() -> None:
    assert owners.shown((*CONTAINERS, MAIN, "f:image")) == "spec.containers[main].image"
    assert owners.shown(("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}')) == "spec.ports[80/TCP]"
    assert owners.shown(("f:metadata", "f:finalizers", 'v:"a"')) == "metadata.finalizers[a]"


def test_a_path_finds_its_owner_and_others_come_before_deploy_guard() -> None:
    port: compare.Path = ("spec", "ports", (("port", 80), ("protocol", "TCP")), "name")
    tree: dict[str, Any] = {"f:spec": {"f:ports": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:name": {}}}}}
    body = {"metadata": {"managedFields": [entry("deploy-guard", tree, "Apply"), entry("kubectl-edit", tree)]}}
    assert owners.owner(body, port) == "kubectl-edit"
    assert owners.owner(body, ("spec", "type")) == ""
    assert owners.owner(body, ("spec",)) == "", "what only leads to owned fields is not owned"


def test_the_value_at_a_field_is_found_in_lists_too() -> None:
    body = {"spec": {"containers": [{"name": "main", "image": "a"}], "args": ["x", "y"], "ports": [{"port": 80}]}}
    assert owners.value(body, (*CONTAINERS, MAIN, "f:image")) == "a"
    assert owners.value(body, ("f:spec", "f:args", 'v:"y"')) == "y"
    assert owners.value(body, ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}')) == {"port": 80}
    assert owners.value(body, (*CONTAINERS, MAIN, "f:image", "f:deeper")) is compare.ABSENT
    assert owners.value(body, (*CONTAINERS, 'k:{"name":"side"}')) is compare.ABSENT


def test_what_goes_takes_along_what_is_in_it_unless_somebody_holds_that() -> None:
    body = {
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {"containers": [{"name": "main", "image": "x"}], "n": 1},
    }
    labels: owners.Field = ("f:metadata", "f:labels")
    image: owners.Field = (*CONTAINERS, MAIN, "f:image")
    gone: set[owners.Field] = {labels, (*labels, "f:a"), (*CONTAINERS, MAIN), image}
    assert owners.without(body, gone, set()) == {"metadata": {}, "spec": {"containers": [], "n": 1}}
    held: set[owners.Field] = {(*labels, "f:b"), (*CONTAINERS, MAIN)}
    left = {"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "main"}], "n": 1}}
    assert owners.without(body, gone, held) == left
    assert body["metadata"] == {"labels": {"a": "1", "b": "2"}}


def test_an_entry_of_a_set_goes_alone() -> None:
    body = {"metadata": {"finalizers": ["a", "b"]}}
    gone: set[owners.Field] = {("f:metadata", "f:finalizers", 'v:"a"')}
    assert owners.without(body, gone, set()) == {"metadata": {"finalizers": ["b"]}}


# Taking over


def test_conflicts_are_read_from_the_answer() -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "a" using v1', "field": ".data.x"},
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl" with subresource "scale" using apps/v1 at 2026-01-01T00:00:00Z',
            "field": ".spec.replicas",
        },
        {"reason": "FieldValueInvalid", "message": "other"},
    ]
    found = adoption.conflicts(ApiError(409, "Conflict", "…", {"causes": causes}))
    assert found == [Conflict("data.x", "a"), Conflict("spec.replicas", "kubectl", "scale")]
    assert [str(one) for one in found] == ["data.x belongs to a", "spec.replicas belongs to kubectl (scale)"]
    assert adoption.conflicts(ApiError(409, "Conflict", "the object has been modified")) == []


@pytest.mark.parametrize(
    ("manager", "adopt", "setting"),
    [
        ("kubectl-client-side-apply", False, "adopt = true takes"),
        ("helm", False, "adopt = true takes"),
        ("argocd", False, 'adopt = ["argocd"] takes'),
        ("argocd", True, 'adopt = ["kubectl-client-side-apply", "helm", "argocd"] takes'),
        ("argocd", ("kubectl",), 'adopt = ["kubectl", "argocd"] takes'),
        ("helm", ("kubectl",), 'adopt = ["kubectl", "helm"] takes'),
    ],
)
def test_the_setting_that_helps_is_named_whole(manager: str, adopt: bool | tuple[str, ...], setting: str) -> None:
    text = adoption.advice([Conflict("data.x", manager)], adopt)
    assert text.startswith(setting)
    assert "remove data.x from the manifest" in text


def test_only_named_managers_are_taken_from_and_never_a_status() -> None:
    live = app(
        {},
        entry("deploy-guard", data("a"), "Apply"),
        entry("helm", data("b")),
        entry("helm", {"f:status": {}}, subresource="status"),
        entry("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        entry("somebody", data("c")),
    )
    usual = adoption.managers(True)
    assert [one["fieldsV1"] for one in adoption.takeable(live, usual)] == [data("b")]
    assert adoption.names(adoption.takeable(live, usual)) == (("helm", "Update"),)
    assert adoption.names(adoption.takeable(live, frozenset(("kubectl",)))) == (("kubectl", "Update"),)
    assert adoption.takeable(live, adoption.managers(False)) == []
    assert adoption.takeable(None, usual) == []


def adopted() -> tuple[Object, Planned]:
    """A ConfigMap of Helm's with one field that goes, one that stays, one that the manifest has."""
    before = app(
        {"goes": "1", "stays": "1", "same": "1"}, entry("helm", data("goes", "stays", "same")), entry("x", data("y"))
    )
    after = app({"stays": "1", "same": "1"})
    desired = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"same": "1"}}
    ref = Ref(Key("v1", "ConfigMap", "ns", "app"), PATH)
    return before, Planned(ref, "change", desired, before, after, taken=(("helm", "Update"),))


def test_deploy_guard_gets_what_it_sets_or_removes_and_nobody_the_rest() -> None:
    before, one = adopted()
    found = adoption.rewritten(before, one, adoption.takeable(before, frozenset(("helm",))))
    assert [each["manager"] for each in found] == ["deploy-guard", "x"]
    assert found[0]["operation"] == "Apply"
    assert owners.fields(found[0]) == {("f:data",), ("f:data", "f:goes"), ("f:data", "f:same")}


def test_entries_of_another_version_are_dropped() -> None:
    before, one = adopted()
    before["metadata"]["managedFields"][0]["apiVersion"] = "v1beta1"
    found = adoption.rewritten(before, one, adoption.takeable(before, frozenset(("helm",))))
    assert [each["manager"] for each in found] == ["x"]


def test_taking_over_looks_again_when_the_object_changed_meanwhile() -> None:
    before, one = adopted()
    api = MemoryApi({PATH: before})
    sent: list[list[Any]] = []

    def answer(method: str, path: str, body: Any, _query: Any) -> Object | None:
        if method != "PATCH":
            return None
        sent.append(body)
        if len(sent) == 1:
            api.objects[PATH]["metadata"] = {**before["metadata"], "resourceVersion": "8"}
            raise ApiError(409, "Conflict", "the object has been modified")
        return {"metadata": {"resourceVersion": "9"}}

    api.answers.append(answer)
    assert adoption.take(api, one) == {"metadata": {"resourceVersion": "9"}}
    assert [body[0]["value"] for body in sent] == ["7", "8"]


def test_taking_over_what_is_taken_over_already_changes_nothing() -> None:
    _, one = adopted()
    there = app({"same": "1"}, entry("deploy-guard", data("same"), "Apply"))
    api = MemoryApi({PATH: there})
    assert adoption.take(api, one) == there
    assert api.asked == [("GET", PATH)]
    assert adoption.take(MemoryApi(), one) is None


def test_an_object_that_never_stands_still_is_given_up() -> None:
    before, one = adopted()
    api = MemoryApi({PATH: before})

    def answer(method: str, *_rest: Any) -> None:
        if method == "PATCH":
            raise ApiError(409, "Conflict", "the object has been modified")

    api.answers.append(answer)
    with pytest.raises(ApiError, match="modified"):
        adoption.take(api, one)
