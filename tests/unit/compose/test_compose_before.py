"""What is kept of a container, and what leads back to it."""

from __future__ import annotations

import copy
import json
from typing import Any

from deploy_guard.drivers.compose import makings
from deploy_guard.drivers.compose.before import ROLLOUT, Before, Was, differences, proper, startable, way
from deploy_guard.drivers.compose.keeping import Kept, new_key
from deploy_guard.drivers.compose.state import Container

SALT = "00ff" * 8


def container(name: str = "shop-web-1", number: str = "a", **changes: Any) -> Container:
    """A container as the engine shows it; ``changes`` by dotted names, with ``__`` for the dot."""
    service = name.split("-")[1]
    raw: dict[str, Any] = {
        "Id": number * 64,
        "Name": f"/{name}",
        "Image": "sha256:one",
        "State": {"Status": "running", "ExitCode": 0, "StartedAt": ""},
        "Config": {
            "Image": "shop:1",
            "Hostname": number * 12,
            "Env": ["API_KEY=hidden", "PATH=/bin"],
            "Labels": {"com.docker.compose.service": service, "com.docker.compose.config-hash": "h1"},
        },
        "HostConfig": {"NetworkMode": "shop_default", "Binds": None, "Mounts": None, "RestartPolicy": {"Name": "no"}},
        "Mounts": [],
        "NetworkSettings": {
            "Networks": {
                "shop_default": {"Aliases": [name, service, number * 12], "IPAMConfig": None, "IPAddress": "172.18.0.2"}
            }
        },
    }
    for key, value in changes.items():
        *path, last = key.split("__")
        node = raw
        for part in path:
            node = node[part]
        node[last] = value
    return Container(raw)


def taken(*containers: Container, salt: str = SALT) -> tuple[Before, dict[str, makings.Making]]:
    names = {one.id: one.proper_name for one in containers}
    found = proper(containers)
    made = {one.proper_name: makings.of(one, names) for one, _ in found}
    was = tuple(Was.of(one, made[one.proper_name], salt, interrupted=cut) for one, cut in found)
    return Before("shop", "k1", was, ("shop_default",), {}), made


def remade(one: Container, number: str) -> Container:
    """The same settings under another id."""
    raw = copy.deepcopy(dict(one.raw))
    raw["Id"], old = number * 64, one.id[:12]
    raw["Config"]["Hostname"] = number * 12
    for endpoint in raw["NetworkSettings"]["Networks"].values():
        endpoint["Aliases"] = [number * 12 if alias == old else alias for alias in endpoint["Aliases"]]
        endpoint["IPAddress"] = "172.18.0.9"
    return Container(raw)


# Makings


def test_makings_hold_what_was_asked_for_and_not_what_was_given() -> None:
    making = makings.of(container(), {})
    assert "Hostname" not in making.config
    assert making.networks == {"shop_default": {"Aliases": ["shop-web-1", "web"]}}
    body = making.body({}, image="shop:1")
    assert body["Image"] == "shop:1"
    assert body["Env"] == ["API_KEY=hidden", "PATH=/bin"]
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"shop_default": {"Aliases": ["shop-web-1", "web"]}}}


def test_a_host_name_that_was_chosen_stays() -> None:
    assert makings.of(container(Config__Hostname="db"), {}).config["Hostname"] == "db"


def test_a_volume_without_a_name_is_mounted_by_the_name_that_the_engine_gave_it() -> None:
    mounts = [
        {"Type": "volume", "Name": "f" * 64, "Destination": "/data", "RW": True},
        {"Type": "volume", "Name": "e" * 64, "Destination": "/of-image", "RW": True},
        {"Type": "volume", "Name": "shop_db", "Destination": "/db", "RW": True},
        {"Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": False},
    ]
    one = container(
        Mounts=mounts,
        HostConfig__Binds=["shop_db:/db:rw"],
        HostConfig__Mounts=[
            {"Type": "volume", "Target": "/data"},
            {"Type": "bind", "Source": "/srv", "Target": "/srv"},
        ],
    )
    assert [(mount["Target"], mount.get("Source")) for mount in makings.of(one, {}).host["Mounts"]] == [
        ("/data", "f" * 64),
        ("/of-image", "e" * 64),
        ("/srv", "/srv"),
    ]
    assert one.volumes == ("e" * 64, "f" * 64, "shop_db")


def test_what_shares_a_network_names_the_other_container() -> None:
    side = container(
        "shop-side-1", "b", HostConfig__NetworkMode=f"container:{'a' * 64}", Config__ExposedPorts={"1": {}}
    )
    making = makings.of(side, {"a" * 64: "shop-web-1"})
    assert making.needs == {"shop-web-1"}
    body = making.body({"shop-web-1": "d" * 64}, image="x")
    assert body["HostConfig"]["NetworkMode"] == f"container:{'d' * 64}"
    assert "ExposedPorts" not in body
    assert "Hostname" not in body
    assert body["NetworkingConfig"] == {"EndpointsConfig": {}}


def test_the_digest_is_that_of_the_settings_and_of_nothing_else() -> None:
    one = makings.of(container(), {})
    assert one.digest(SALT) == makings.of(remade(container(), "b"), {}).digest(SALT)
    assert one.digest(SALT) != one.digest("11" * 16), "without the salt nothing can be guessed"
    other = makings.of(container(Config__Env=["API_KEY=other", "PATH=/bin"], HostConfig__Memory=1), {})
    assert one.digest(SALT) != other.digest(SALT)
    assert one.differing(other) == ["config.Env", "host.Memory"]
    unset = makings.of(container(HostConfig__Binds=[], HostConfig__Memory=0, HostConfig__ExtraHosts=[]), {})
    assert one.digest(SALT) == unset.digest(SALT), "whether the engine says null, empty or zero means nothing"


def test_several_networks_are_joined_one_after_the_other() -> None:
    networks = {
        "back": {"Aliases": ["x"]},
        "shop_default": {"Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}},
    }
    making = makings.of(container(NetworkSettings={"Networks": networks}), {})
    assert making.first_network == "shop_default"
    assert list(making.further_networks) == ["back"]
    assert making.networks["shop_default"]["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}


def test_what_is_kept_survives_a_file_and_keys_sort_by_time() -> None:
    before, made = taken(container())
    kept = Kept("k1", SALT, tuple(made.values()), ({"Name": "shop_default"},))
    assert Kept.from_json(json.loads(json.dumps(kept.to_json()))) == kept
    assert Before.from_json(json.loads(json.dumps(before.to_json()))) == before
    assert "hidden" not in json.dumps(before.to_json())
    assert "hidden" not in repr(kept)
    assert new_key(1767225600.0, "ffff") < new_key(1767225600.1, "0000")


def test_a_network_is_another_one_by_its_kind_and_not_by_its_addresses() -> None:
    one = {"Name": "n", "Driver": "bridge", "Internal": False, "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}]}}
    assert makings.same_network(one, {**one, "IPAM": {}, "Options": None})
    assert not makings.same_network(one, {**one, "Internal": True})


# The way


def test_nothing_leads_back_to_what_is_still_there() -> None:
    before, _ = taken(container())
    assert way(before, [container()], SALT).done


def test_what_was_replaced_is_made_again_and_what_is_new_goes() -> None:
    before, _ = taken(container(), container("shop-db-1", "d"))
    new = container(number="b", Image="sha256:two")
    added = container("shop-more-1", "e")
    back = way(before, [new, container("shop-db-1", "d"), added], SALT)
    assert [was.name for was in back.make] == ["shop-web-1"]
    assert {one.name for one in back.remove} == {"shop-web-1", "shop-more-1"}
    assert back.there["shop-db-1"].id == "d" * 64


def test_a_container_that_was_made_again_already_gets_its_name_once_the_other_is_gone() -> None:
    before, _ = taken(container())
    ready = remade(container(), "c")
    raw = {**ready.raw, "Name": "/0123456789ab_shop-web-1"}
    back = way(before, [container(number="b", Image="sha256:two"), Container(raw)], SALT)
    assert not back.make
    assert [(one.id, name) for one, name in back.rename] == [("c" * 64, "shop-web-1")]
    assert [one.id for one in back.remove] == ["b" * 64]


def test_one_that_the_engine_made_otherwise_is_not_made_again_and_again() -> None:
    before, _ = taken(container())
    odd = container(number="c", HostConfig__Memory=7)
    assert way(before, [odd], SALT).make
    assert way(before, [odd], SALT, {"c" * 64}).done


def test_a_task_of_somebody_else_stays_and_one_of_this_rollout_goes() -> None:
    before, _ = taken(container())
    one_off = {"com.docker.compose.service": "web", "com.docker.compose.oneoff": "True"}
    theirs = container("shop-web-run-1", "d", Config__Labels=one_off)
    ours = container("shop-web-run-2", "e", Config__Labels={**one_off, ROLLOUT: "k1"})
    assert [one.id for one in way(before, [container(), theirs, ours], SALT).remove] == ["e" * 64]


def test_without_the_salt_image_and_hash_decide() -> None:
    before, _ = taken(container())
    assert way(before, [remade(container(), "b")], None).done
    assert way(before, [container(number="b", Image="sha256:two")], None).make


def test_what_shares_the_network_of_one_that_is_gone_is_made_again() -> None:
    web = container()
    side = container("shop-side-1", "b", HostConfig__NetworkMode=f"container:{'a' * 64}")
    before, _ = taken(web, side)
    assert way(before, [web, side], SALT).done
    assert [was.name for was in way(before, [remade(web, "c"), side], SALT).make] == ["shop-side-1"]


def test_half_a_recreate_counts_as_the_old_container_that_ran() -> None:
    old = container(State={"Status": "exited", "ExitCode": 143, "StartedAt": ""})
    new = container("aaaaaaaaaaaa_shop-web-1", "b", State={"Status": "created", "ExitCode": 0, "StartedAt": ""})
    before, _ = taken(old, new)
    (was,) = before.containers
    assert (was.id, was.running) == (old.id, True)
    before, _ = taken(new)
    (was,) = before.containers
    assert (was.id, was.name, was.running) == (new.id, "shop-web-1", True)


def test_containers_start_when_what_they_depend_on_is_as_compose_wants_it() -> None:
    def one(name: str, number: str, status: str, needs: str = "", **more: Any) -> Container:
        labels = {"com.docker.compose.service": name.split("-")[1], "com.docker.compose.depends_on": needs}
        return container(
            name, number, Config__Labels=labels, State={"Status": status, "ExitCode": 0, "StartedAt": ""}, **more
        )

    def labels(one_: Container) -> list[str]:
        return [entry.name for entry in one_]  # type: ignore[attr-defined]

    healthy = {"Status": "running", "ExitCode": 0, "StartedAt": "", "Health": {"Status": "healthy"}}
    starting = {**healthy, "Health": {"Status": "starting"}}
    check = {"Healthcheck": {"Test": ["CMD", "x"]}}
    db = one("shop-db-1", "d", "running")
    db = Container({**db.raw, "State": healthy, "Config": {**db.raw["Config"], **check}})
    web = one("shop-web-1", "a", "running", "db:service_healthy:false,migrate:service_completed_successfully:false")
    migrate = one("shop-migrate-1", "e", "exited")
    before, _ = taken(db, web, migrate)
    stopped = one("shop-web-1", "a", "exited", "db:service_healthy:false,migrate:service_completed_successfully:false")
    sick = Container({**db.raw, "State": starting})
    assert startable(before, {"shop-db-1": sick, "shop-web-1": stopped, "shop-migrate-1": migrate}) == []
    (ready,) = startable(before, {"shop-db-1": db, "shop-web-1": stopped, "shop-migrate-1": migrate})
    assert ready.name == "shop-web-1"
    down = one("shop-db-1", "d", "exited")
    (first,) = startable(before, {"shop-db-1": down, "shop-web-1": stopped, "shop-migrate-1": migrate})
    assert first.name == "shop-db-1"


# Differences


def test_every_difference_is_told_by_name_and_setting() -> None:
    sick = {"Status": "running", "ExitCode": 0, "StartedAt": "", "Health": {"Status": "healthy"}}
    check = {**container().raw["Config"], "Healthcheck": {"Test": ["CMD", "x"]}}
    web = container(State=sick, Config=check)
    before, made = taken(web, container("shop-db-1", "d"), container("shop-old-1", "e"))
    before = Before.from_json({**before.to_json(), "volumes": {"data": "monday", "gone": "monday"}})
    now = [
        container(State={**sick, "Health": {"Status": "unhealthy"}}, Config=check),
        container("shop-db-1", "b", HostConfig__Memory=5),
        container("shop-new-1", "f"),
    ]
    assert differences(before, now, {"data": "tuesday"}, SALT, made) == [
        "db (shop-db-1) is another one: host.Memory",
        "old (shop-old-1) is not there (image shop:1)",
        "new (shop-new-1) is there, and was not",
        "web (shop-web-1) was healthy, and is unhealthy",
        "the volume data is another one, made tuesday: what was in it is gone",
        "the volume gone is gone, and what was in it",
    ]


def test_what_was_stopped_and_runs_and_what_ran_and_stopped_are_differences() -> None:
    stopped = {"Status": "exited", "ExitCode": 137, "StartedAt": ""}
    before, made = taken(container(State=stopped), container("shop-db-1", "d"))
    now = [container(), container("shop-db-1", "d", State=stopped)]
    assert differences(before, now, {}, SALT, made) == [
        "web (shop-web-1) did not run, and is running",
        "db (shop-db-1) ran, and is exited with exit code 137",
    ]
