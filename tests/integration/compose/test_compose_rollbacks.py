"""The way back of a Compose project on a real engine: exactly the old containers, whatever became of what made them."""

from __future__ import annotations

import json
from typing import Any

import compose
import pytest
from compose import Shop, docker, eventually, image

from deploy_guard.deadline import Deadline
from deploy_guard.errors import RollbackFailed, RolloutDoomed, VerifyFailed

engine, shop = compose.engine, compose.shop

Body = dict[str, Any]


def settings(container: Body) -> Body:
    """What a container was made with, without what every container has of its own."""
    config = {key: value for key, value in container["Config"].items() if key not in ("Hostname", "Image")}
    host = {key: value for key, value in container["HostConfig"].items() if key != "Mounts"}
    host["NetworkMode"] = host["NetworkMode"].partition(":")[0]
    mounts = [{key: mount[key] for key in ("Type", "Source", "Destination", "RW")} for mount in container["Mounts"]]
    networks = {
        name: sorted(alias for alias in endpoint["Aliases"] or () if alias != container["Id"][:12])
        for name, endpoint in container["NetworkSettings"]["Networks"].items()
    }
    return {
        "image": container["Image"],
        "config": config,
        "host": host,
        "mounts": sorted(mounts, key=lambda mount: mount["Destination"]),
        "networks": networks,
    }


def test_every_setting_and_all_data_come_back(shop: Shop) -> None:
    (shop.folder / "given.txt").write_text("given")
    web = shop.web(
        volumes=["data:/data", "/anonymous", "./given.txt:/given.txt:ro"],
        tmpfs=["/scratch"],
        networks={"default": {"aliases": ["front"]}, "back": None},
        environment={"VERSION": "${VERSION}", "ODD": "a$$b 'c' \"d\""},
        cap_drop=["NET_RAW"],
        sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
        ulimits={"nofile": 2048},
        mem_limit="64m",
        extra_hosts=["db.example:192.0.2.7"],
        logging={"driver": "json-file", "options": {"max-size": "1m"}},
        restart="unless-stopped",
        user="0:0",
        working_dir="/www",
        labels={"tier": "front"},
        stop_signal="SIGINT",
    )
    shop.write(
        {"web": web, "side": shop.worker(network_mode="service:web"), "old": shop.worker(volumes=["data:/data"])},
        volumes={"data": {}},
        networks={"back": {"internal": True}},
    )
    shop.ship("v1.0.0")
    shop.exec("web", "echo kept >/data/it; echo kept >/anonymous/it")
    before = {name: settings(one) for name, one in shop.containers.items()}
    networks = shop.docker("network", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={shop.project}")

    bad = {"test": ["CMD", "false"], "interval": "0.2s", "retries": 1}
    changed = shop.web("two", healthcheck=bad, volumes=["other:/data", "/anonymous"], networks=["third"])
    shop.write({"web": changed, "new": shop.worker()}, volumes={"other": {}}, networks={"third": {}})
    snapshot = shop.begin("v2.0.0")
    with pytest.raises(RolloutDoomed, match="unhealthy"):
        shop.finish()
    assert shop.served is None or shop.served == "v2.0.0"
    shop.back(snapshot)

    assert shop.served == "v1.0.0"
    assert {name: settings(one) for name, one in shop.containers.items()} == before
    assert shop.exec("web", "cat /data/it /anonymous/it /given.txt") == "kept\nkept\ngiven"
    assert shop.exec("web", 'echo "$ODD"') == "a$b 'c' \"d\""
    assert shop.exec("old", "cat /data/it") == "kept"
    assert shop.exec("side", "wget -qO- http://127.0.0.1/version") == "v1.0.0"
    left = shop.docker("network", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={shop.project}")
    assert sorted(left.split()) == sorted(networks.split())
    assert f"{shop.project}_other" in shop.docker("volume", "ls", "--quiet"), "a volume is never removed"
    assert not shop.kept or all("v1" not in name for name in shop.kept)


def test_what_shares_with_another_container_shares_with_it_again(shop: Shop) -> None:
    base = shop.worker(ipc="shareable", volumes=["/shared"], environment={"VERSION": "${VERSION}"})
    shop.write({"base": base, "guest": shop.worker(volumes_from=["base"], ipc="service:base", pid="service:base")})
    shop.ship("v1.0.0")
    shop.exec("guest", "echo kept >/shared/it")
    shop.back(shop.ship("v2.0.0"))
    base_, guest = shop.container("base"), shop.container("guest")
    assert guest["HostConfig"]["IpcMode"] == guest["HostConfig"]["PidMode"] == f"container:{base_['Id']}"
    assert shop.exec("base", "cat /shared/it") == "kept"
    assert shop.exec("guest", "cat /shared/it; ps | grep -c 'sleep 1000'").split()[0] == "kept"
    # To Compose, a guest is another one with each id of its host: it would be made again at the next release.
    assert [change.action for change in shop.plan("v1.0.0").changes] == ["none", "change"]


def test_plain_compose_finds_what_came_back_as_it_was(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    shop.back(shop.ship("v2.0.0"))
    ids = shop.ids
    shop.environ["VERSION"] = "v1.0.0"
    shop.compose("up", "--detach", "--wait")
    assert shop.ids == ids
    assert shop.plan("v1.0.0").unchanged
    shop.ship("v3.0.0")
    assert shop.served == "v3.0.0"


def test_data_of_a_volume_without_a_name_outlives_two_ways_back(shop: Shop) -> None:
    shop.write({"worker": shop.worker(volumes=["/data"], environment={"VERSION": "${VERSION}"})})
    shop.ship("v1.0.0")
    shop.exec("worker", "echo kept >/data/it")
    for version in ("v2.0.0", "v3.0.0"):
        shop.back(shop.ship(version))
        assert shop.exec("worker", "cat /data/it") == "kept"
    shop.ship("v4.0.0")
    assert shop.exec("worker", "cat /data/it; echo $VERSION") == "kept\nv4.0.0"


def test_a_second_way_back_changes_nothing(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    snapshot = shop.ship("v2.0.0")
    shop.back(snapshot)
    ids = shop.ids
    shop.back(snapshot)
    assert shop.ids == ids


def test_a_first_release_that_goes_back_leaves_its_volumes_only(shop: Shop) -> None:
    shop.write({"worker": shop.worker(volumes=["data:/data", "/nameless"])}, volumes={"data": {}})
    snapshot = shop.ship("v1.0.0")
    assert snapshot.previous is None
    (nameless,) = [mount["Name"] for mount in shop.container("worker")["Mounts"] if mount["Destination"] == "/nameless"]
    shop.back(snapshot)
    assert shop.ids == {}
    assert shop.docker("volume", "rm", nameless).strip() == nameless, "it was still there"
    assert shop.kept == []
    label = f"label=com.docker.compose.project={shop.project}"
    assert shop.docker("network", "ls", "--quiet", "--filter", label) == ""
    assert shop.docker("volume", "ls", "--quiet", "--filter", label).split() == [f"{shop.project}_data"]
    assert shop.project not in shop.docker("images", "--format", "{{.Repository}}:{{.Tag}}")


def test_another_process_goes_back_after_file_images_and_secret_are_gone(shop: Shop) -> None:
    old, new = image("one", name=f"{shop.project}:old"), image("two", name=f"{shop.project}:new")
    shop.environ["API_KEY"] = "the-first-secret-1"
    environment = {"VERSION": "${VERSION}", "API_KEY": "${API_KEY}"}
    shop.write({"web": shop.web(image=old, environment=environment)})
    shop.ship("v1.0.0")
    running = shop.container("web")["Image"]
    shop.write({"web": shop.web(image=new, environment={"VERSION": "${VERSION}"})})
    (shop.folder / "snapshot.json").write_text(json.dumps(shop.ship("v2.0.0").to_json()))

    del shop.environ["API_KEY"]
    (shop.folder / "compose.yaml").write_text("services: {")
    shop.docker("rmi", old)
    shop.docker("rmi", "--force", new)
    process = shop.script(
        """
        driver.rollback(snapshot(), Deadline.after(30))
        driver.verify(snapshot(), Deadline.after(30))
        """
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert shop.served == "v1.0.0"
    assert shop.container("web")["Image"] == running
    assert shop.exec("web", 'echo "$API_KEY"') == "the-first-secret-1"


def test_an_image_that_was_built_over_comes_back_by_its_id(shop: Shop) -> None:
    name = image("one", name=f"{shop.project}:built")
    shop.write({"worker": shop.worker(image=name)})
    shop.ship("v1.0.0")
    running = shop.container("worker")["Image"]
    docker("rmi", name, environ=shop.environ)
    image("two", name=name)
    snapshot = shop.ship("v2.0.0")
    assert shop.exec("worker", "cat /www/built") == "two"
    assert shop.docker("images", "--quiet", "--filter", f"reference=deploy-guard-kept:{shop.project}-*")
    shop.back(snapshot)
    assert shop.container("worker")["Image"] == running
    assert shop.exec("worker", "cat /www/built") == "one"


def test_copied_secrets_and_configs_come_back_with_their_old_content(shop: Shop) -> None:
    top: Body = {
        "secrets": {"token": {"environment": "TOKEN"}},
        "configs": {"page": {"content": "welcome to ${VERSION}"}},
    }
    shop.config["profiles"] = ["on"]
    use: Body = {"profiles": ["on"], "secrets": ["token"], "configs": [{"source": "page", "target": "/etc/page.txt"}]}
    shop.environ["TOKEN"] = "the-first-token-1"
    shop.write({"worker": shop.worker("date >/etc/own; sleep 1000", **use)}, **top)
    shop.ship("v1.0.0")
    assert shop.plan("v1.0.0").unchanged, "though Compose can make no dry run of it"
    shop.environ["TOKEN"] = "the-second-token-2"
    (change,) = shop.plan("v2.0.0").changes
    assert change.diff == "~ config page (another content)\n~ secret token (another content)"
    snapshot = shop.ship("v2.0.0")
    assert shop.exec("worker", "cat /run/secrets/token") == "the-second-token-2"
    for _ in range(2):
        shop.back(snapshot)
        assert shop.exec("worker", "cat /run/secrets/token; echo; cat /etc/page.txt") == (
            "the-first-token-1\nwelcome to v1.0.0"
        )
        snapshot = shop.ship("v3.0.0")
    assert shop.exec("worker", "cat /etc/page.txt") == "welcome to v3.0.0"


def test_what_did_not_run_before_is_not_started(shop: Shop) -> None:
    shop.write(
        {
            "web": shop.web(),
            "migrate": shop.worker(
                "echo once >>/data/runs", volumes=["data:/data"], environment={"VERSION": "${VERSION}"}
            ),
            "idle": shop.worker(),
        },
        volumes={"data": {}},
    )
    shop.ship("v1.0.0")
    shop.docker("stop", f"{shop.project}-idle-1")
    shop.write(
        {
            "web": shop.web("two"),
            "migrate": shop.worker("echo twice >>/data/runs", volumes=["data:/data"]),
            "idle": shop.worker("sleep 2000"),
        },
        volumes={"data": {}},
    )
    snapshot = shop.begin("v2.0.0")
    shop._drivers[-1].apply(shop._plan)  # type: ignore[arg-type]
    shop.back(snapshot)
    assert shop.services == {"web": "healthy", "migrate": "created", "idle": "created"}
    volume = shop.docker("run", "--rm", "--volume", f"{shop.project}_data:/data", image(), "cat /data/runs")
    assert volume.splitlines() == ["once", "twice"], "a task of the old release does not run again"


def test_somebody_s_own_container_of_the_project_lives_on(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    name = f"{shop.project}-debug"
    shop.environ["VERSION"] = "v1.0.0"
    shop.compose("run", "--detach", "--name", name, "--no-deps", "web", "sleep 500")
    own = shop.ids[name]
    shop.back(shop.ship("v2.0.0"))
    assert shop.ids[name] == own
    assert shop.containers[name]["State"]["Running"]


def test_where_the_copies_are_gone_nothing_is_touched_and_all_is_named(shop: Shop) -> None:
    shop.write({"web": shop.web(environment={"VERSION": "${VERSION}", "API_KEY": "the-secret-1"})})
    shop.ship("v1.0.0")
    snapshot = shop.ship("v2.0.0")
    ids = shop.ids
    shop.docker("rm", *shop.kept)
    kept = shop.docker(
        "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=deploy-guard-kept"
    ).split()
    shop.docker("rmi", *[name for name in kept if f":{shop.project}-" in name])
    with pytest.raises(RollbackFailed, match=r"gone from the engine .* nothing was touched") as error:
        shop.back(snapshot)
    assert f"web ({shop.project}-web-1): image {image()}, variables API_KEY, OF_IMAGE, PATH, VERSION" in str(
        error.value
    )
    assert shop.ids == ids
    assert shop.served == "v2.0.0"


def test_pruned_containers_leave_enough_to_go_back(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    snapshot = shop.ship("v2.0.0")
    shop.docker("rm", *shop.kept)
    shop.back(snapshot)
    assert shop.served == "v1.0.0"


def test_two_rollouts_are_kept_and_no_more(shop: Shop) -> None:
    shop.write({"worker": shop.worker(environment={"VERSION": "${VERSION}"})})
    for version in ("v1", "v2", "v3", "v4"):
        snapshot = shop.ship(version)
    keys = {name.split("-")[3] for name in shop.kept}
    assert len(keys) == 2
    assert snapshot.previous == "v3"
    shop.back(snapshot)
    assert len({name.split("-")[3] for name in shop.kept}) == 1
    assert shop.begin("v5").previous == "v3"


def test_a_project_that_plain_compose_made_is_taken_over_and_comes_back(shop: Shop) -> None:
    shop.environ["VERSION"] = "v1.0.0"
    shop.write({"web": shop.web(), "db": shop.worker()})
    shop.compose("up", "--detach", "--wait")
    ids = shop.ids
    del shop.environ["VERSION"]
    snapshot = shop.begin("v2.0.0")
    assert snapshot.previous == "what ran before"
    shop.finish()
    assert shop.ids[f"{shop.project}-db-1"] == ids[f"{shop.project}-db-1"]
    shop.back(snapshot)
    assert shop.served == "v1.0.0"


def test_an_old_release_that_does_not_come_up_is_told_with_its_last_words(shop: Shop) -> None:
    once = "test -e /data/seen && { echo schema is too new; exit 9; }; sleep 1000"
    shop.write({"worker": shop.worker(once, volumes=["data:/data"])}, volumes={"data": {}})
    shop.ship("v1.0.0")
    shop.write({"worker": shop.worker("touch /data/seen; sleep 1000", volumes=["data:/data"])}, volumes={"data": {}})
    snapshot = shop.ship("v2.0.0")
    with pytest.raises(
        RollbackFailed, match=r"(?s)worker \(.*\) does not run any more.*exit code 9.*schema is too new"
    ):
        shop.back(snapshot)


def test_verify_tells_every_difference(shop: Shop) -> None:
    shop.write(
        {"web": shop.web(), "worker": shop.worker(volumes=["data:/data"]), "gone": shop.worker()}, volumes={"data": {}}
    )
    shop.ship("v1.0.0")
    snapshot = shop.ship("v2.0.0")
    shop.driver.rollback(snapshot, Deadline.after(30))
    shop.docker("rm", "--force", f"{shop.project}-gone-1", f"{shop.project}-worker-1")
    shop.docker("rm", *shop.kept)
    shop.docker("volume", "rm", f"{shop.project}_data")
    shop.docker("stop", f"{shop.project}-web-1")
    shop.docker(
        "run",
        "--detach",
        "--name",
        f"{shop.project}-more-1",
        "--label",
        f"com.docker.compose.project={shop.project}",
        "--label",
        "com.docker.compose.service=more",
        image(),
        "sleep 100",
    )
    with pytest.raises(VerifyFailed) as error:
        shop.driver.verify(snapshot, Deadline.after(5))
    assert [text.replace(shop.project, "shop") for text in error.value.differences] == [
        f"gone (shop-gone-1) is not there (image {image()})",
        f"worker (shop-worker-1) is not there (image {image()})",
        "more (shop-more-1) is there, and was not",
        "web (shop-web-1) ran, and is exited with exit code 143",
        "the volume shop_data is gone, and what was in it",
    ]


def test_a_network_that_was_removed_is_made_again(shop: Shop) -> None:
    pool = {"ipam": {"config": [{"subnet": "10.213.77.0/24"}]}, "internal": True}
    shop.write({"worker": shop.worker(networks={"own": {"ipv4_address": "10.213.77.9"}})}, networks={"own": pool})
    shop.ship("v1.0.0")
    shop.write({"worker": shop.worker()})
    snapshot = shop.ship("v2.0.0")
    shop.docker("network", "rm", f"{shop.project}_own")
    shop.back(snapshot)
    (endpoint,) = shop.container("worker")["NetworkSettings"]["Networks"].values()
    assert endpoint["IPAddress"] == "10.213.77.9"
    network = json.loads(shop.docker("network", "inspect", f"{shop.project}_own"))[0]
    assert network["Internal"] is True


def test_the_old_release_serves_while_the_new_one_is_still_stopping(shop: Shop) -> None:
    shop.write({"worker": shop.worker("trap 'sleep 30' TERM; while :; do sleep 0.2; done", init=False)})
    shop.ship("v1.0.0")
    shop.write({"worker": shop.worker("trap 'sleep 30' TERM; while :; do sleep 0.1; done", init=False)})
    snapshot = shop.ship("v2.0.0")
    shop.back(snapshot)
    eventually(lambda: shop.services == {"worker": "running"})
