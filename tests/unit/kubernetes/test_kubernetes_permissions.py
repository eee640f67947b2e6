"""Rights: which a plan needs, and how the missing ones are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from memoryapi import MemoryApi

from deploy_guard.drivers.kubernetes import order, permissions
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.kubernetes.discovery import Resource
from deploy_guard.drivers.kubernetes.objects import Action, Key, Planned, Ref
from deploy_guard.drivers.kubernetes.permissions import Right

CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps", True)
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments", True)
CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True)
JOBS = Resource("batch/v1", "Job", "jobs", True)
SECRETS = Resource("v1", "Secret", "secrets", True)


def needed(*objects: tuple[Resource, Action], phase: str = "") -> dict[str, set[str]]:
    planned, resources = [], {}
    for place, (resource, action) in enumerate(objects):
        key = Key(resource.api_version, resource.kind, "ns", f"x{place}")
        resources[key] = resource
        body = {"apiVersion": resource.api_version, "kind": resource.kind}
        ref = Ref(key, resource.path("ns", key.name))
        planned.append(Planned(ref, action, body, None, None, phase, order.rank(body)))
    found: dict[str, set[str]] = {}
    for right in permissions.needed(planned, resources, "ns"):
        found.setdefault(right.shown, set()).add(right.verb)
    return found


def test_what_stays_as_it_is_needs_only_to_be_seen() -> None:
    assert needed((CONFIG_MAPS, "none")) == {"configmaps": {"get"}, "secrets": {"list"}}


def test_the_way_back_needs_rights_too() -> None:
    records = {"list", "create", "delete"}
    assert needed((CONFIG_MAPS, "create"))["configmaps"] == {"get", "patch", "create", "delete"}
    assert needed((CONFIG_MAPS, "change"))["configmaps"] == {"get", "patch", "update"}
    assert needed((CONFIG_MAPS, "remove"))["configmaps"] == {"get", "create", "update", "delete"}
    assert needed((CLAIMS, "create"))["persistentvolumeclaims"] == {"get", "patch", "create"}, "it is never deleted"
    assert needed((CONFIG_MAPS, "change"))["secrets"] == records
    assert needed((SECRETS, "change"))["secrets"] == records | {"get", "patch", "update"}


def test_workloads_are_watched_and_their_pods_asked_for_reasons() -> None:
    found = needed((DEPLOYMENTS, "change"))
    assert found["deployments.apps"] == {"get", "patch", "update", "list", "watch"}
    assert found["pods"] == {"get", "list", "watch"}
    assert found["pods/log"] == {"get"}
    assert found["events"] == {"list", "watch"}
    assert found["replicasets.apps"] == {"list", "watch"}
    assert needed((DEPLOYMENTS, "none"))["pods"] == {"get", "list", "watch"}, "what stays must be healthy too"
    assert "pods" not in needed((DEPLOYMENTS, "remove"))


def test_custom_resources_are_watched_by_themselves() -> None:
    widgets = Resource("example.com/v1", "Widget", "widgets", True)
    assert needed((widgets, "create"))["widgets.example.com"] == {"get", "list", "watch", "patch", "create", "delete"}
    assert "pods" not in needed((widgets, "create"))
    everywhere = Resource("example.com/v1", "Gadget", "gadgets", False)
    key = Key("example.com/v1", "Gadget", "", "x")
    one = Planned(Ref(key, everywhere.path("", "x")), "none", {}, None, None, rank=order.REST)
    found = permissions.needed([one], {key: everywhere}, "ns")
    assert {(right.shown, right.verb, right.namespace) for right in found if right.resource == "gadgets"} == {
        ("gadgets.example.com", "get", ""),
        ("gadgets.example.com", "list", ""),
        ("gadgets.example.com", "watch", ""),
    }


def test_a_job_of_a_phase_is_deleted_and_made_anew() -> None:
    found = needed((JOBS, "change"), phase="before")
    assert found["jobs.batch"] == {"get", "list", "watch", "patch", "create", "delete"}


PATCH = Right("apps", "deployments", "patch", "ns", ("web",))


def rule(groups: list[str], resources: list[str], verbs: list[str], names: list[str] | None = None) -> dict[str, Any]:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs, **({"resourceNames": names} if names else {})}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule(["apps"], ["deployments"], ["patch"])], True),
        ([rule(["*"], ["*"], ["*"])], True),
        ([rule(["apps"], ["deployments"], ["patch"], ["web", "other"])], True),
        ([rule(["apps"], ["deployments"], ["patch"], ["other"])], False),
        ([rule(["apps"], ["deployments"], ["get"])], False),
        ([rule([""], ["deployments"], ["patch"])], False),
        ([rule(["apps"], ["deployments/scale"], ["patch"])], False),
        ([rule(["apps"], ["statefulsets"], ["*"]), rule(["apps"], ["deployments"], ["*"])], True),
        ([], False),
    ],
)
def test_rules_grant_what_they_name(rules: list[dict[str, Any]], expected: bool) -> None:
    assert permissions.granted(PATCH, rules) is expected


def test_names_may_be_granted_by_several_rules_but_never_create() -> None:
    both = Right("", "configmaps", "get", "ns", ("a", "b"))
    rules = [rule([""], ["configmaps"], ["get", "create"], ["a"]), rule([""], ["configmaps"], ["get"], ["b"])]
    assert permissions.granted(both, rules)
    assert not permissions.granted(Right("", "configmaps", "create", "ns"), rules)


def test_a_part_of_a_kind_is_a_right_of_its_own() -> None:
    log = Right("", "pods/log", "get", "ns")
    assert not permissions.granted(log, [rule([""], ["pods"], ["get"])])
    assert permissions.granted(log, [rule([""], ["*/log"], ["get"])])
    assert permissions.granted(log, [rule([""], ["pods/log"], ["get"])])


def reviewing(allowed: Mapping[tuple[str, str], bool]) -> tuple[MemoryApi, list[dict[str, str]]]:
    """An API that answers access reviews by verb and name."""
    api, asked = MemoryApi(), list[dict[str, str]]()

    def answer(method: str, path: str, body: Any, _query: Any) -> dict[str, Any] | None:
        if not path.endswith("/selfsubjectaccessreviews"):
            return None
        wanted = body["spec"]["resourceAttributes"]
        asked.append(wanted)
        return {"status": {"allowed": allowed.get((wanted["verb"], wanted.get("name", "")), False)}}

    api.answers.append(answer)
    return api, asked


def test_what_the_rules_grant_is_not_asked_for_again() -> None:
    api, asked = reviewing({})
    assert permissions.missing(api, [PATCH], [rule(["apps"], ["deployments"], ["patch"])], "ns") == []
    assert asked == []


def test_what_the_rules_do_not_grant_is_asked_for_since_they_may_be_incomplete() -> None:
    api, asked = reviewing({("patch", ""): True})
    assert permissions.missing(api, [PATCH], [], "ns") == []
    assert asked == [{"verb": "patch", "group": "apps", "resource": "deployments", "namespace": "ns"}]


def test_a_right_is_missing_for_the_names_that_are_not_granted() -> None:
    both = Right("", "configmaps", "get", "ns", ("a", "b"))
    api, _ = reviewing({("get", "a"): True})
    assert permissions.missing(api, [both], [], "ns") == [Right("", "configmaps", "get", "ns", ("b",))]
    many = Right("", "configmaps", "get", "ns", tuple(f"n{number}" for number in range(50)))
    api, asked = reviewing({})
    assert permissions.missing(api, [many], [], "ns") == [Right("", "configmaps", "get", "ns", ())]
    assert len(asked) == 1


def test_what_stands_in_no_namespace_is_not_granted_by_the_rules_of_one() -> None:
    everything = [rule(["*"], ["*"], ["*"])]
    crd = Right("apiextensions.k8s.io", "customresourcedefinitions", "patch", "", ("widgets.example.com",))
    namespace = Right("", "namespaces", "get", "", ("ns",))
    api, asked = reviewing({("get", "ns"): True})
    assert permissions.missing(api, [crd, namespace], everything, "other") == [crd]
    assert {"verb": "get", "resource": "namespaces", "namespace": "ns", "name": "ns"} in asked


def test_who_may_not_ask_finds_out_by_the_dry_run() -> None:
    api = MemoryApi()

    def refuse(*_request: Any) -> None:
        raise ApiError(403, "Forbidden", "no")

    api.answers.append(refuse)
    assert permissions.review(api, "ns") == []
    assert permissions.missing(api, [PATCH], [], "ns") == []
    assert permissions.told(api, [PATCH]) == [
        "this user lacks these rights:",
        "  patch deployments.apps in the namespace ns (web)",
    ]


def test_another_error_of_a_review_is_an_error() -> None:
    api = MemoryApi()

    def refuse(*_request: Any) -> None:
        raise ApiError(500, "", "broken")

    api.answers.append(refuse)
    with pytest.raises(ApiError, match="broken"):
        permissions.missing(api, [PATCH], [], "ns")


def test_missing_rights_are_told_by_kind_with_the_name_of_the_user() -> None:
    api = MemoryApi()
    api.answers.append(lambda *_request: {"status": {"userInfo": {"username": "jane"}}})
    rights = [
        Right("", "configmaps", "get", "ns"),
        Right("", "configmaps", "list", "ns"),
        Right("", "namespaces", "patch", "", ("a", "b", "c", "d")),
    ]
    assert permissions.told(api, rights) == [
        "the user jane lacks these rights:",
        "  get, list configmaps in the namespace ns",
        "  patch namespaces (a, b, c, …)",
    ]
