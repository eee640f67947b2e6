"""Releases of a Compose project on a real engine: what is well, what is not, and how soon that is told."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import compose
import pytest
from compose import Shop, docker, image

from deploy_guard.deadline import Deadline
from deploy_guard.errors import RolloutDoomed

engine, shop = compose.engine, compose.shop


def test_a_release_is_served_and_the_same_again_changes_nothing(shop: Shop) -> None:
    shop.write({"web": shop.web(), "worker": shop.worker()})
    snapshot = shop.ship("v1.0.0")
    assert snapshot.previous is None
    assert shop.served == "v1.0.0"
    assert shop.services == {"web": "healthy", "worker": "running"}
    ids = shop.ids
    plan = shop.plan("v1.0.0")
    assert plan.unchanged
    started = time.monotonic()
    shop.finish()
    assert time.monotonic() - started < 2, "what runs for long needs no dwell"
    assert shop.ids == ids


def test_only_what_changed_is_replaced(shop: Shop) -> None:
    shop.write({"web": shop.web(), "worker": shop.worker()})
    shop.ship("v1.0.0")
    ids = shop.ids
    snapshot = shop.ship("v2.0.0")
    assert (shop.served, snapshot.previous) == ("v2.0.0", "v1.0.0")
    after = shop.ids
    worker, web = f"{shop.project}-worker-1", f"{shop.project}-web-1"
    assert after[worker] == ids[worker]
    assert after[web] != ids[web]


def test_version_commit_and_environment_are_there_for_interpolation(shop: Shop) -> None:
    shop.write({"worker": shop.worker(environment={"SAID": "${VERSION} ${COMMIT} ${DEPLOY_ENV}"})})
    shop.ship("v1.0.0")
    assert shop.exec("worker", 'echo "$SAID"') == "v1.0.0 c0ffee stage"


def test_a_crash_loop_without_a_healthcheck_is_told_with_its_last_words(shop: Shop) -> None:
    shop.write({"worker": shop.worker()})
    shop.ship("v1.0.0")
    shop.write({"worker": shop.worker("echo no database; exit 3", restart="always")})
    snapshot = shop.begin("v2.0.0")
    started = time.monotonic()
    with pytest.raises(RolloutDoomed, match=r"worker \(.*\) crashes again and again: .* exit code 3") as error:
        shop.finish()
    assert time.monotonic() - started < 8
    assert "its last log lines:\n  no database" in str(error.value)
    shop.back(snapshot)
    assert shop.services == {"worker": "running"}


def test_a_crash_that_heals_is_none(shop: Shop) -> None:
    crashes_once = "test -e /data/there || { touch /data/there; sleep 0.2; exit 1; }; sleep 1000"
    shop.write({"worker": shop.worker(crashes_once, restart="always", volumes=["data:/data"])}, volumes={"data": {}})
    shop.ship("v1.0.0")
    assert shop.container("worker")["RestartCount"] == 1


def test_an_unhealthy_service_is_told_with_what_its_check_said(shop: Shop) -> None:
    check = {"test": ["CMD-SHELL", "echo disk is full; exit 1"], "interval": "0.3s", "retries": 2}
    shop.write({"web": shop.web(healthcheck=check)})
    shop.begin("v1.0.0")
    with pytest.raises(RolloutDoomed, match=r"is unhealthy: 2 checks .* exit code 1: disk is full") as error:
        shop.finish()
    assert "serving v1.0.0" in str(error.value)


def test_a_slow_start_within_the_deadline_is_fine(shop: Shop) -> None:
    slow = f"sleep 2; {compose.SERVE}"
    check = {**compose.HEALTHY, "start_period": "20s"}
    shop.write({"web": shop.web(command=[slow], healthcheck=check)})
    shop.ship("v1.0.0", 20)
    assert shop.served == "v1.0.0"


def test_a_slow_start_past_the_deadline_fails_at_the_deadline(shop: Shop) -> None:
    check = {"test": ["CMD", "false"], "interval": "0.5s", "start_period": "60s"}
    shop.write({"web": shop.web(healthcheck=check)})
    shop.begin("v1.0.0")
    started = time.monotonic()
    with pytest.raises(RolloutDoomed, match=r"not healthy after 1\.5 s: web: health: starting"):
        shop.finish(1.5)
    assert time.monotonic() - started < 10


def test_a_task_that_ends_well_is_fine_and_is_not_missed(shop: Shop) -> None:
    shop.write(
        {
            "migrate": shop.worker("echo migrated"),
            "web": shop.web(depends_on={"migrate": {"condition": "service_completed_successfully"}}),
        }
    )
    shop.ship("v1.0.0")
    assert shop.services == {"migrate": "exited", "web": "healthy"}
    assert shop.plan("v1.0.0").unchanged


def test_a_task_that_fails_is_told_with_its_last_words(shop: Shop) -> None:
    shop.write(
        {
            "migrate": shop.worker("echo table is locked >&2; exit 4"),
            "web": shop.web(depends_on={"migrate": {"condition": "service_completed_successfully"}}),
        }
    )
    shop.begin("v1.0.0")
    with pytest.raises(RolloutDoomed, match=r"migrate \(.*\) ended with exit code 4") as error:
        shop.finish()
    assert "table is locked" in str(error.value)


def test_a_server_that_ends_by_itself_has_failed_whatever_its_exit_code(shop: Shop) -> None:
    web = shop.web(command=["exit 0"])
    del web["healthcheck"]
    shop.write({"web": web})
    shop.begin("v1.0.0")
    with pytest.raises(RolloutDoomed, match="ended with exit code 0, though it publishes a port"):
        shop.finish()


def test_dependencies_that_never_get_healthy_end_up_at_once(shop: Shop) -> None:
    loop = shop.worker("exit 5", restart="always", healthcheck={"test": ["CMD", "false"], "interval": "20s"})
    shop.write({"db": loop, "web": shop.web(depends_on={"db": {"condition": "service_healthy"}})})
    shop.begin("v1.0.0")
    started = time.monotonic()
    with pytest.raises(RolloutDoomed, match=r"db \(.*\) (crashes again and again|is unhealthy).*exit code 5"):
        shop.finish()
    assert time.monotonic() - started < 10, "`up` itself would wait for ever"


def test_an_up_that_runs_past_its_time_says_what_it_waited_for(shop: Shop) -> None:
    db = shop.worker(healthcheck={"test": ["CMD", "false"], "interval": "20s"})
    shop.write({"db": db, "web": shop.web(depends_on={"db": {"condition": "service_healthy"}})})
    shop.config["timeout"] = 3
    snapshot = shop.begin("v1.0.0")
    with pytest.raises(
        RolloutDoomed, match=r"(?s)ran longer than 3 s.*waited for: db: health: starting; web: not started"
    ):
        shop.finish()
    shop.back(snapshot)
    assert shop.ids == {}


def test_what_is_doomed_ends_an_up_that_still_waits_for_others(shop: Shop) -> None:
    slow = shop.worker(healthcheck={"test": ["CMD", "false"], "interval": "40s"})
    web = shop.web(depends_on={"db": {"condition": "service_healthy"}})
    shop.write({"db": slow, "web": web, "loop": shop.worker("exit 6", restart="always")})
    snapshot = shop.begin("v1.0.0")
    started = time.monotonic()
    with pytest.raises(RolloutDoomed, match=r"loop \(.*\) crashes again and again: .* exit code 6"):
        shop.finish()
    assert time.monotonic() - started < 20, "`up` itself would wait for 40 s"
    shop.back(snapshot)
    assert shop.ids == {}


def test_dependencies_start_in_order(shop: Shop) -> None:
    db = shop.worker(healthcheck={"test": ["CMD", "true"], "interval": "0.3s"})
    shop.write({"db": db, "web": shop.web(depends_on={"db": {"condition": "service_healthy", "restart": True}})})
    snapshot = shop.ship("v1.0.0")
    assert shop.services == {"db": "healthy", "web": "healthy"}
    assert snapshot.previous is None


def test_added_and_removed_services_are_planned_and_done(shop: Shop) -> None:
    shop.write({"web": shop.web(), "old": shop.worker()})
    shop.ship("v1.0.0")
    shop.write({"web": shop.web(), "new": shop.worker()})
    plan = shop.plan("v1.0.0")
    assert {(change.action, change.object) for change in plan.changes} == {
        ("create", "service new"),
        ("remove", "service old"),
        ("none", "service web"),
    }
    snapshot = shop.ship("v1.0.0")
    assert set(shop.services) == {"web", "new"}
    shop.back(snapshot)
    assert shop.services == {"web": "healthy", "old": "running"}


def test_profiles_that_are_off_are_left_alone(shop: Shop) -> None:
    shop.write({"web": shop.web(), "debug": shop.worker(profiles=["debug"])})
    shop.compose("--profile", "debug", "up", "--detach", "debug")
    debug = shop.ids
    shop.plan("v1.0.0")
    assert any("left alone, their profile is off: debug" in text for text in shop._drivers[-1].notices())
    snapshot = shop.ship("v1.0.0")
    assert debug.items() <= shop.ids.items()
    shop.back(snapshot)
    assert shop.ids == debug
    shop.config["profiles"] = ["debug"]
    assert {c.object: c.action for c in shop.plan("v1.0.0").changes}["service debug"] == "none"


def test_several_files_and_an_env_file_make_one_project(shop: Shop) -> None:
    shop.write({"worker": shop.worker(environment={"ONE": "1", "COLOUR": "${COLOUR}"})})
    (shop.folder / "over.yaml").write_text('services: {worker: {environment: {TWO: "2"}}}')
    (shop.folder / "stage.env").write_text("COLOUR=green\n")
    shop.config.update({"files": ["compose.yaml", "over.yaml"], "env-files": ["stage.env"]})
    shop.ship("v1.0.0")
    assert shop.exec("worker", "echo $ONE $TWO $COLOUR") == "1 2 green"


def test_replicas_are_counted(shop: Shop) -> None:
    shop.write({"worker": shop.worker(deploy={"replicas": 2})})
    shop.ship("v1.0.0")
    assert len(shop.ids) == 2
    shop.write({"worker": shop.worker(deploy={"replicas": 1})})
    plan = shop.plan("v1.0.0")
    assert "containers: 2 -> 1" in "\n".join(change.diff for change in plan.changes)
    snapshot = shop.begin("v1.0.0")
    shop.finish()
    assert len(shop.ids) == 1
    shop.back(snapshot)
    assert len(shop.ids) == 2


def test_tasks_run_before_and_after_and_see_the_release(shop: Shop) -> None:
    shop.write(
        {
            "web": shop.web(),
            "migrate": shop.worker(
                "echo migrating to $$VERSION", profiles=["tasks"], environment={"VERSION": "${VERSION}"}
            ),
        }
    )
    shop.config["before"] = ["migrate", ["sh", "-c", 'echo "$VERSION $COMMIT" >before']]
    shop.config["after"] = [
        [
            "sh",
            "-c",
            f"wget -qO after http://127.0.0.1:{shop.port}/version || curl -so after http://127.0.0.1:{shop.port}/version",
        ]
    ]
    shop.ship("v1.0.0")
    assert (shop.folder / "before").read_text() == "v1.0.0 c0ffee\n"
    assert (shop.folder / "after").read_text() == "v1.0.0\n"
    assert any("migrating to v1.0.0" in line for line in shop.progress)
    assert set(shop.services) == {"web"}, "the task's container is gone"


def test_a_task_before_that_fails_leaves_what_serves(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    ids = shop.ids
    shop.config["before"] = [["sh", "-c", "echo no rights; exit 7"]]
    snapshot = shop.begin("v2.0.0")
    with pytest.raises(RolloutDoomed, match=r"(?s)before: .* ended with exit code 7:\n  no rights"):
        shop.finish()
    shop.back(snapshot)
    assert shop.ids == ids


def test_a_task_after_that_fails_is_the_end_of_the_rollout(shop: Shop) -> None:
    shop.write({"web": shop.web(), "smoke": shop.worker("echo basket is empty; exit 1", profiles=["tasks"])})
    shop.config["after"] = ["smoke"]
    snapshot = shop.begin("v1.0.0")
    with pytest.raises(RolloutDoomed, match="basket is empty"):
        shop.finish()
    shop.back(snapshot)
    assert shop.ids == {}


def test_what_is_built_here_is_built_before_the_plan(shop: Shop) -> None:
    source = shop.folder / "src"
    source.mkdir()
    compose.build_folder(source, "first")
    shop.environ["DOCKER_BUILDKIT"] = "0"
    shop.write({"worker": {"build": str(source), "command": ["sleep 1000"]}})
    shop.ship("v1.0.0")
    assert shop.exec("worker", "cat /www/built") == "first"
    compose.build_folder(source, "second")
    plan = shop.plan("v2.0.0")
    (change,) = plan.changes
    assert change.action == "change"
    assert change.diff.count("image:") == 2
    compose.build_folder(source, "third")
    snapshot = shop._drivers[-1].snapshot(plan)
    shop.finish()
    assert shop.exec("worker", "cat /www/built") == "second", "what was planned is what ships"
    shop.back(snapshot)
    assert shop.exec("worker", "cat /www/built") == "first"


def test_what_changed_after_the_plan_is_not_shipped(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    ids = shop.ids
    shop.begin("v2.0.0")
    shop.write({"web": shop.web("two")})
    with pytest.raises(RolloutDoomed, match="the Compose files changed after they were planned; nothing was changed"):
        shop.finish()
    shop.begin("v2.0.0")
    shop.compose("restart", "web")
    shop.docker("rm", "--force", f"{shop.project}-web-1")
    with pytest.raises(RolloutDoomed, match="somebody else changed the project's containers"):
        shop.finish()
    assert shop.ids == {}
    assert ids
    name = image("four", name=f"{shop.project}:moves")
    shop.write({"worker": shop.worker(image=name)})
    shop.begin("v2.0.0")
    docker("tag", image("five"), name)
    with pytest.raises(RolloutDoomed, match=f"the image {name} changed after it was planned; nothing was changed"):
        shop.finish()


def test_two_projects_at_once_do_not_meet(shop: Shop, tmp_path: Path) -> None:
    other = compose.new_shop(tmp_path / "other", shop.environ)
    other.folder.mkdir()
    errors: list[BaseException] = []

    def work(one: Shop, version: str) -> None:
        try:
            one.write({"web": one.web()})
            one.ship(version)
            back = one.ship(f"{version}.1")
            one.back(back)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    try:
        threads = [threading.Thread(target=work, args=pair) for pair in ((shop, "v1"), (other, "v7"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not errors, errors
        assert (shop.served, other.served) == ("v1", "v7")
    finally:
        other.clean()


def test_a_port_that_is_taken_meanwhile_ends_the_rollout(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.begin("v1.0.0")
    holder = f"{shop.project}-holder"
    label = f"com.docker.compose.project={shop.project}x"
    docker(
        "run",
        "--detach",
        "--name",
        holder,
        "--label",
        label,
        "--publish",
        f"127.0.0.1:{shop.port}:80",
        image(),
        "sleep 100",
    )
    try:
        with pytest.raises(RolloutDoomed, match="port is already allocated"):
            shop.finish()
    finally:
        docker("rm", "--force", holder)


def test_a_release_that_nobody_waits_for_is_not_well(shop: Shop) -> None:
    shop.write({"web": shop.web(), "worker": shop.worker()})
    shop.ship("v1.0.0")
    plan = shop.plan("v1.0.0")
    assert plan.unchanged
    shop.docker("rm", "--force", f"{shop.project}-worker-1")
    with pytest.raises(RolloutDoomed, match="worker: its container is gone"):
        shop._drivers[-1].wait(plan, Deadline.after(5))
    shop.docker("stop", f"{shop.project}-web-1")
    changes = {change.object: change for change in shop.plan("v1.0.0").changes}
    assert "exited, is started" in changes["service web"].diff
    assert changes["service worker"].action == "create"
    shop.ship("v1.0.0")
    assert shop.services == {"web": "healthy", "worker": "running"}
