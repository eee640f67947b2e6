"""What others changed since the last release."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from deploy_guard.drivers.kubernetes import compare, drift
from deploy_guard.drivers.kubernetes.objects import Key, Object, Ref
from deploy_guard.drivers.kubernetes.records import Entry


def body(kind: str = "ConfigMap", uid: str = "1", **more: Any) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "app", "uid": uid}, **more}


def entry(applied: Object, uid: str = "1") -> Entry:
    meta = {name: value for name, value in applied["metadata"].items() if name == "name"}
    key = Key("v1", applied["kind"], "ns", "app")
    return Entry(Ref(key, "/app"), uid, compare.masked({**applied, "metadata": meta}))


def said(applied: Object, live: Object | None, after: Object | None) -> list[str]:
    return [one.said(after) for one in drift.of(entry(applied), live)]


def owned(live: Object, manager: str, *fields: str, operation: str = "Update") -> Object:
    tree: dict[str, Any] = {"f:data": {f"f:{name}": {} for name in fields}}
    live["metadata"].setdefault("managedFields", []).append(
        {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": tree}
    )
    return live


def test_what_is_as_it_was_left_is_no_drift_whatever_else_is_there() -> None:
    live = body(data={"mode": "fast", "more": "1"}, status={"x": 1})
    assert said(body(data={"mode": "fast"}), live, live) == []


@pytest.mark.parametrize(
    ("now", "after", "text"),
    [
        (
            {"mode": "b"},
            {"mode": "a"},
            "ConfigMap/app data.mode is b, the last release set a; this release sets it back",
        ),
        (
            {"mode": "b"},
            {"mode": "b"},
            "ConfigMap/app data.mode is b, the last release set a; this release leaves it so",
        ),
        ({"mode": "b"}, {"mode": "c"}, "ConfigMap/app data.mode is b, the last release set a; this release sets c"),
        ({"mode": "b"}, {}, "ConfigMap/app data.mode is b, the last release set a; this release removes it"),
        ({}, {"mode": "a"}, "ConfigMap/app data.mode is gone, the last release set a; this release sets it back"),
        ({"mode": "b"}, None, "ConfigMap/app data.mode is b, the last release set a"),
    ],
)
def test_it_is_said_what_the_release_makes_of_it(now: dict[str, str], after: dict[str, str] | None, text: str) -> None:
    assert said(body(data={"mode": "a"}), body(data=now), None if after is None else body(data=after)) == [text]


def test_who_changed_it_is_named() -> None:
    live = owned(body(data={"mode": "b"}), "kubectl-edit", "mode")
    assert "data.mode is b (by kubectl-edit), the last" in said(body(data={"mode": "a"}), live, None)[0]


def test_an_object_that_was_deleted_is_drift() -> None:
    was = body(data={"mode": "a"})
    assert said(was, None, was) == ["ConfigMap/app was deleted since the last release; this release creates it again"]
    assert said(was, None, None) == ["ConfigMap/app was deleted since the last release; this release has none of it"]


def test_an_object_of_the_same_name_that_is_another_is_drift() -> None:
    was, live = body(data={"mode": "a"}), owned(body(uid="2", data={"mode": "a"}), "somebody", "mode")
    assert said(was, live, was) == [
        "ConfigMap/app was deleted, and made again, since the last release (by somebody); this release creates it again"
    ]


def test_a_value_of_a_secret_is_drift_when_somebody_else_owns_it_and_never_shows() -> None:
    word = base64.b64encode(b"hunter2").decode()
    was = body("Secret", data={"word": word, "other": word})
    live = owned(body("Secret", data={"word": "eA==", "other": word}), "deploy-guard", "other", operation="Apply")
    owned(live, "kubectl-patch", "word")
    found = said(was, live, was)
    assert found == ["Secret/app data.word was changed since the last release (by kubectl-patch)"]
    del live["data"]["other"]
    assert "Secret/app data.other is gone" in said(was, live, was)
    assert word not in str(drift.of(entry(was), live))


def test_a_long_list_is_cut() -> None:
    assert drift.few([str(number) for number in range(25)])[-2:] == ["19", "… and 5 more"]
    assert drift.few(["a"]) == ["a"]
