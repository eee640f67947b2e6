"""Which pods belong to a workload, and which of them are of the revision that is being rolled out."""

from __future__ import annotations

import pytest
from kube_fakes import ref, workload

from deploy_guard.drivers.kubernetes.objects import Object, Ref
from deploy_guard.drivers.kubernetes.views import View, World, is_waited, needs

REVISION = "deployment.kubernetes.io/revision"
HASH = "controller-revision-hash"


def made(name: str, owner: str = "", labels: Object | None = None, **more: object) -> Object:
    meta: Object = {"name": name, "uid": name, "labels": labels or {}}
    if owner:
        meta["ownerReferences"] = [{"uid": "somebody"}, {"uid": owner, "controller": True}]
    return {"metadata": meta} | more


def annotated(body: Object, *, revision: str) -> Object:
    body["metadata"]["annotations"] = {REVISION: revision}
    return body


def names(found: tuple[Object, ...]) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in found)


def listed(where: Ref, body: Object, *between: Object, pods: list[Object], events: list[Object] | None = None) -> World:
    world = World()
    world.listed(where.collection, [body])
    pods_path, events_path, *others = needs(where)
    for path in others:
        world.listed(path, between)
    world.listed(events_path, events or [])
    world.listed(pods_path, pods)
    return world


def deployment() -> tuple[World, Ref]:
    where = ref("Deployment", "web")
    old = annotated(made("web-1", "web"), revision="1")
    new = annotated(made("web-2", "web"), revision="2")
    pods = [made("a", "web-1"), made("b", "web-2"), made("c", "web-2"), made("d", "another")]
    return listed(where, annotated(made("web"), revision="2"), old, new, pods=pods), where


def test_the_pods_of_the_newest_replica_set_are_new() -> None:
    world, where = deployment()
    found = world.view(where)
    assert names(found.pods) == ["b", "c"]
    assert names(found.others) == ["a"]
    assert found.maker is not None
    assert found.maker["metadata"]["name"] == "web-2"


def test_after_a_way_back_the_old_replica_set_is_the_newest() -> None:
    world, where = deployment()
    world.changed(where.collection, "MODIFIED", annotated(made("web"), revision="3"))
    assert names(world.view(where).pods) == []  # until the ReplicaSet is told of, nothing is judged
    world.changed(needs(where)[2], "MODIFIED", annotated(made("web-1", "web"), revision="3"))
    assert names(world.view(where).pods) == ["a"]


def test_a_pod_that_is_being_deleted_is_no_new_one() -> None:
    world, where = deployment()
    leaving = made("b", "web-2")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-28T05:00:00Z"
    world.changed(needs(where)[0], "MODIFIED", leaving)
    assert names(world.view(where).pods) == ["c"]
    assert names(world.view(where).others) == ["a", "b"]


def test_what_is_deleted_or_missing_in_a_new_list_is_gone() -> None:
    world, where = deployment()
    world.changed(needs(where)[0], "DELETED", made("b", "web-2"))
    assert names(world.view(where).pods) == ["c"]
    world.listed(needs(where)[0], [made("e", "web-2")])
    assert names(world.view(where).pods) == ["e"]
    world.listed(where.collection, [])
    assert world.view(where).body is None


def test_the_update_revision_tells_the_new_pods_of_a_stateful_set() -> None:
    where = ref("StatefulSet", "db")
    pods = [made("db-0", "db", {HASH: "db-1"}), made("db-1", "db", {HASH: "db-2"})]
    world = listed(where, made("db", status={"updateRevision": "db-2"}), pods=pods)
    assert names(world.view(where).pods) == ["db-1"]
    assert names(world.view(where).others) == ["db-0"]


def test_a_pod_made_anew_under_its_old_name_or_adopted_by_another_belongs_to_that_one() -> None:
    where, other = ref("StatefulSet", "db"), ref("StatefulSet", "other")
    status = {"updateRevision": "db-2"}
    world = listed(where, made("db", status=status), pods=[made("db-0", "db", {HASH: "db-2"})])
    world.changed(other.collection, "ADDED", made("other", status=status))
    again = made("db-0", "other", {HASH: "db-2"})
    again["metadata"]["uid"] = "another"
    world.changed(needs(where)[0], "ADDED", again)
    assert names(world.view(where).pods) == []
    assert names(world.view(other).pods) == ["db-0"]


def daemon_set(*revisions: Object) -> View:
    where = ref("DaemonSet", "agent")
    body = made("agent")
    body["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "3"}
    pods = [
        made("old", "agent", {HASH: "x", "pod-template-generation": "2"}),
        made("new", "agent", {HASH: "y", "pod-template-generation": "3"}),
    ]
    return listed(where, body, *revisions, pods=pods).view(where)


def test_the_newest_revision_tells_the_new_pods_of_a_daemon_set() -> None:
    older, newer = made("a", "agent", {HASH: "y"}, revision=2), made("b", "agent", {HASH: "x"}, revision=3)
    assert names(daemon_set(older, newer).pods) == ["old"]  # as after a way back to its template


def test_where_revisions_may_not_be_read_the_number_of_the_template_tells() -> None:
    assert names(daemon_set().pods) == ["new"]


def test_events_are_told_of_a_workload_its_maker_and_its_pods() -> None:
    world, where = deployment()

    def event(name: str, subject: str, at: str) -> Object:
        return made(name, involvedObject={"uid": subject}, lastTimestamp=at)

    path = needs(where)[1]
    for one in (event("2", "b", "T2"), event("1", "b", "T1"), event("3", "web-2", "T3"), event("4", "another", "T4")):
        world.changed(path, "ADDED", one)
    found = world.view(where).events
    assert [one["metadata"]["name"] for one in found["b"]] == ["1", "2"]
    assert [one["metadata"]["name"] for one in found["web-2"]] == ["3"]
    assert "another" not in found


def test_no_more_than_thirty_events_are_kept_of_one_object() -> None:
    world, where = deployment()
    for number in range(100):
        event = made(f"e{number}", involvedObject={"uid": "b"}, lastTimestamp=f"T{number:03}")
        world.changed(needs(where)[1], "ADDED", event)
    assert [one["lastTimestamp"] for one in world.view(where).events["b"]] == [f"T{n:03}" for n in range(70, 100)]


def test_a_workload_can_be_judged_when_everything_was_listed_or_denied() -> None:
    where, world = ref("Deployment", "web"), World()
    world.listed(where.collection, [made("web")])
    assert not world.knows(where)
    for path in needs(where):
        world.denied(path)
    assert world.knows(where)
    assert world.view(where).blind


def test_denied_events_or_revisions_do_not_make_blind() -> None:
    where = ref("DaemonSet", "agent")
    world = listed(where, made("agent"), pods=[])
    world.denied(needs(where)[1])
    world.denied(needs(where)[2])
    assert not world.view(where).blind


def test_a_change_touches_the_object_its_owner_and_its_subject() -> None:
    world, where = deployment()
    world.touched()
    world.changed(needs(where)[0], "MODIFIED", made("b", "web-2"))
    world.changed(needs(where)[1], "ADDED", made("e", involvedObject={"uid": "c"}))
    assert {"b", "web-2", "c", f"{needs(where)[0]}/b"} <= world.touched()
    assert world.touched() == set()


def test_fields_of_managers_are_not_kept() -> None:
    where, world = ref("Widget", "w"), World()
    body = made("w")
    body["metadata"]["managedFields"] = [{}]
    world.listed(where.collection, [body])
    found = world.view(where).body
    assert found is not None
    assert "managedFields" not in found["metadata"]


@pytest.mark.parametrize(
    ("kind", "waited"),
    [
        ("Deployment", True),
        ("StatefulSet", True),
        ("DaemonSet", True),
        ("Job", True),
        ("Pod", True),
        ("Widget", True),
        ("CronJob", False),
        ("ConfigMap", False),
        ("Secret", False),
        ("Service", False),
        ("PersistentVolumeClaim", False),
    ],
)
def test_what_cannot_fail_later_is_not_waited_for(kind: str, waited: bool) -> None:
    assert is_waited(ref(kind, "x").key) is waited


def test_a_custom_resource_that_is_named_like_a_workload_is_none() -> None:
    where = ref("Widget", "w")
    other = Ref(type(where.key)("example.org/v1", "Deployment", "shop", "w"), where.path)
    assert needs(other) == ()
    world = World()
    world.listed(other.collection, [made("w")])
    assert world.view(other).kind == ""


def test_a_recorded_deployment_finds_its_recorded_replica_set() -> None:
    where = ref("Deployment", "good")
    replicas = workload("deployment ready, set")
    pods = [made("p", replicas["metadata"]["uid"])]
    world = listed(where, workload("deployment ready"), replicas, pods=pods)
    assert names(world.view(where).pods) == ["p"]
