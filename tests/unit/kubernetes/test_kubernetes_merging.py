"""The rule of the way back: the rollout's changes are taken back, those of others stay."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from deploy_guard.drivers.kubernetes import merging, owners

Body = dict[str, Any]


def config(**data: str) -> Body:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": data}


def pods(*containers: Body, **spec: Any) -> Body:
    template = {"spec": {"containers": list(containers)}}
    meta = {"name": "web"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {**spec, "template": template}}


def entry(manager: str, *paths: str, operation: str = "Apply", time: str = "t1", subresource: str = "") -> Body:
    found = {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": owners.tree({tuple(f"f:{step}" for step in path.split(".")) for path in paths}),
    }
    return found | ({"subresource": subresource} if subresource else {})


def owned(*entries: Body) -> Body:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app", "managedFields": list(entries)}}


def fields(entries: list[Body]) -> dict[str, set[str]]:
    return {one["manager"]: {owners.shown(path) for path in owners.fields(one)} for one in entries}


# Values


@pytest.mark.parametrize(
    ("before", "after", "now", "wanted"),
    [
        ({"a": "1"}, {"a": "2"}, {"a": "2"}, {"a": "1"}),
        ({"a": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "2"}, {"a": "1"}),
        ({"a": "1", "b": "2"}, {"a": "1"}, {"a": "1"}, {"a": "1", "b": "2"}),
        ({"a": "1"}, {"a": "1"}, {"a": "3"}, {"a": "3"}),
        ({"a": "1"}, {"a": "2"}, {"a": "2", "theirs": "3"}, {"a": "1", "theirs": "3"}),
        ({"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"a": "2"}, {"a": "1"}),
    ],
)
def test_what_the_rollout_changed_is_as_before_and_the_rest_as_it_is(
    before: dict[str, str], after: dict[str, str], now: dict[str, str], wanted: dict[str, str]
) -> None:
    merged = merging.merge(config(**before), config(**after), config(**now))
    assert merged.body == config(**wanted)
    assert merged.changed == (now != wanted)


def test_what_both_changed_is_as_before_and_is_listed() -> None:
    merged = merging.merge(config(a="1"), config(a="2"), config(a="3"))
    assert merged.body == config(a="1")
    assert merged.overruled == (("data", "a"),)
    assert merged.stays == ()


def test_what_others_changed_is_listed() -> None:
    merged = merging.merge(config(a="1", b="1"), config(a="2", b="1"), config(a="2", b="9"))
    assert merged.stays == (("data", "b"),)
    assert merged.overruled == ()


def test_what_was_never_applied_needs_nothing() -> None:
    merged = merging.merge(config(a="1"), config(a="2"), config(a="1"))
    assert not merged.changed
    assert merged.overruled == ()


def test_containers_are_told_apart_by_their_names_and_stand_in_the_old_order() -> None:
    web, log, theirs = ({"name": name, "image": f"{name}:1"} for name in ("web", "log", "theirs"))
    new = {"name": "web", "image": "web:2"}
    merged = merging.merge(pods(web, log), pods(new), pods(theirs, new))
    assert merged.body == pods(web, log, theirs)


def test_a_count_that_an_autoscaler_set_stays() -> None:
    web, new = {"name": "web", "image": "1"}, {"name": "web", "image": "2"}
    merged = merging.merge(pods(web, replicas=1), pods(new, replicas=1), pods(new, replicas=5))
    assert merged.body == pods(web, replicas=5)


def test_without_a_dry_run_all_that_differs_is_the_rollouts_doing() -> None:
    assert merging.merge(config(a="1"), None, config(a="2", b="3")).body == config(a="1")


def test_the_annotation_of_a_client_side_apply_is_brought_back() -> None:
    before, after = config(a="1"), config(a="1")
    before["metadata"]["annotations"] = {merging.LAST_APPLIED: "{}"}
    assert merging.merge(before, after, copy.deepcopy(after)).body == before


def test_the_objects_given_are_not_changed() -> None:
    before, after, now = config(a="1"), config(a="2", b="1"), config(a="2", b="1", c="1")
    kept = copy.deepcopy((before, after, now))
    merging.merge(before, after, now)
    assert (before, after, now) == kept


# Owners


def test_fields_belong_to_whom_they_belonged() -> None:
    before = owned(entry("deploy-guard", "data.a", "data.b"))
    after = owned(entry("deploy-guard", "data.a", "data.c", time="t2"))
    assert merging.entries(before, after, after, set()) == owners.entries(before)


def test_what_the_write_took_from_its_owner_is_given_back() -> None:
    before = owned(entry("deploy-guard", "data.a", "data.b"))
    after = owned(entry("deploy-guard", "data.a", "data.b", time="t2"))
    now = owned(entry("deploy-guard", "data.b", time="t2"), entry(merging.RESTORER, "data.a", operation="Update"))
    assert merging.entries(before, after, now, set()) == owners.entries(before)


def test_what_the_write_took_from_another_manager_is_given_back() -> None:
    before = owned(entry("helm", "data.a", "data.b", operation="Update"))
    now = owned(entry("helm", "data.b", operation="Update"), entry(merging.RESTORER, "data.a", operation="Update"))
    assert merging.entries(before, before, now, set()) == owners.entries(before)


def test_others_keep_what_they_took_since() -> None:
    before = owned(entry("deploy-guard", "data.a", "data.b"))
    now = owned(entry("deploy-guard", "data.a"), entry("somebody", "data.b", "data.c", operation="Update"))
    found = merging.entries(before, before, now, set())
    assert fields(found) == {"deploy-guard": {"data.a"}, "somebody": {"data.b", "data.c"}}


def test_managers_that_were_taken_over_own_their_fields_again() -> None:
    before = owned(entry("helm", "data.a", operation="Update"))
    after = owned(entry("helm", "data.a", operation="Update"), entry("deploy-guard", "data.a"))
    now = owned(entry("deploy-guard", "data.a"))
    assert merging.entries(before, after, now, {("helm", "Update")}) == owners.entries(before)


def test_what_controllers_say_in_the_status_is_left_to_them() -> None:
    old = entry("manager", "status.ready", operation="Update", subresource="status")
    new = entry("manager", "status.ready", "status.more", operation="Update", time="t9", subresource="status")
    assert merging.entries(owned(old), owned(old), owned(new), set()) == [new]
    assert merging.owned_alike([old], [new])


def test_an_object_is_only_then_exactly_as_before_when_nobody_wrote_since() -> None:
    before = owned(entry("deploy-guard", "data.a"))
    assert merging.exactly(before, owned(entry("deploy-guard", "data.a")))
    assert not merging.exactly(before, owned(entry("deploy-guard", "data.a", time="t2")))
    assert not merging.exactly(config(), config())
