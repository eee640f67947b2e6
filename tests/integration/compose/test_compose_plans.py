"""What a plan says, and what it refuses, on a real engine; no plan changes a container."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
from pathlib import Path

import compose
import pytest
from compose import Shop, docker, image

from deploy_guard.deadline import Deadline
from deploy_guard.errors import PlanRejected, RollbackFailed

engine, shop = compose.engine, compose.shop


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def wrapped(shop: Shop, text: str) -> None:
    """Put a docker before the real one on the PATH; ``$real`` is the real one."""
    script(shop.folder / "bin", "docker", f'real={shutil.which("docker")}\n{text}\nexec $real "$@"')
    shop.environ["PATH"] = f"{shop.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"


def test_planning_and_the_snapshot_change_nothing(shop: Shop) -> None:
    shop.write({"web": shop.web(), "worker": shop.worker()})
    shop.begin("v1.0.0")
    assert shop.ids == {}
    assert shop.kept == []
    shop.finish()
    ids, kept = shop.ids, shop.kept
    shop.write({"web": shop.web("two"), "new": shop.worker()})
    shop.begin("v2.0.0")
    assert (shop.ids, shop.kept) == (ids, kept)


def test_the_diff_names_what_changes_and_no_value_of_a_variable(shop: Shop) -> None:
    shop.write(
        {
            "web": shop.web(
                environment={"VERSION": "${VERSION}", "OLD": "old-value-1", "SAME": "x"}, volumes=["data:/data"]
            )
        },
        volumes={"data": {}},
    )
    shop.ship("v1.0.0")
    shop.write(
        {
            "web": shop.web(
                "two",
                environment={"VERSION": "${VERSION}", "NEW": "new-value-2", "SAME": "x"},
                ports=[f"127.0.0.1:{shop.port}:80", "127.0.0.1::81"],
                volumes=["data:/elsewhere"],
                restart="unless-stopped",
                labels={"tier": "front"},
            )
        },
        volumes={"data": {}},
    )
    (change,) = (one for one in shop.plan("v2.0.0").changes if one.object == "service web")
    assert change.action == "change"
    text = re.sub(r"\([0-9a-f]{12}\)", "(id)", change.diff)
    assert text.splitlines() == [
        f"- image: {image('one')} (id)",
        f"+ image: {image('two')} (id)",
        "+ restart: unless-stopped",
        "+ environment: NEW",
        "- environment: OLD",
        "~ environment: VERSION (another value)",
        "+ port: 127.0.0.1:any -> 81/tcp",
        f"- volume: {shop.project}_data -> /data",
        f"+ volume: {shop.project}_data -> /elsewhere",
        "+ label: tier=front",
    ]


def test_networks_and_volumes_that_are_made_are_in_the_plan(shop: Shop) -> None:
    shop.write({"worker": shop.worker(volumes=["data:/data"])}, volumes={"data": {}})
    made = {change.object: change.action for change in shop.plan().changes}
    assert made == {
        "service worker": "create",
        f"network {shop.project}_default": "create",
        f"volume {shop.project}_data": "create",
    }


def test_a_service_without_a_healthcheck_is_pointed_out(shop: Shop) -> None:
    shop.write({"web": shop.web(), "queue": shop.worker(restart="always")})
    shop.plan()
    assert "without a healthcheck, running is all that is asked of queue" in shop._drivers[-1].notices()


def test_a_missing_image_is_told_by_name(shop: Shop) -> None:
    shop.write({"worker": {"image": "deploy-guard-test:nonesuch"}, "other": {"image": "deploy-guard-test:neither"}})
    shop.config["pull"] = "never"
    with pytest.raises(PlanRejected) as error:
        shop.plan()
    assert "does not have the image deploy-guard-test:nonesuch (worker)" in str(error.value)
    assert "does not have the image deploy-guard-test:neither (other)" in str(error.value)


def test_an_image_that_cant_be_pulled_is_told_with_what_the_registry_said(shop: Shop) -> None:
    shop.write({"worker": {"image": "127.0.0.1:9/nonesuch:v1"}})
    with pytest.raises(PlanRejected, match=r"(?s)127\.0\.0\.1:9/nonesuch:v1 \(worker\) is neither .* refused"):
        shop.plan()


def test_a_build_that_fails_is_told_with_its_output(shop: Shop) -> None:
    (shop.folder / "src").mkdir()
    (shop.folder / "src/Dockerfile").write_text("FROM scratch\nCOPY nonesuch /\n")
    shop.environ["DOCKER_BUILDKIT"] = "0"
    shop.write({"worker": {"build": "src"}})
    with pytest.raises(PlanRejected, match=r"(?s)worker can't be built.*nonesuch"):
        shop.plan()


def test_variables_that_are_not_set_are_all_named(shop: Shop) -> None:
    shop.write({"worker": shop.worker(environment={"A": "${NOT_SET_A}", "B": "${NOT_SET_B}", "C": "${NOT_SET_C:-c}"})})
    with pytest.raises(PlanRejected, match="variables of the Compose files are not set: NOT_SET_A, NOT_SET_B") as error:
        shop.plan()
    assert "${NAME:-default}" in error.value.hint
    shop.write({"worker": shop.worker(environment={"A": "${NOT_SET_A:?where is it}"})})
    with pytest.raises(PlanRejected, match="where is it"):
        shop.plan()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {web: {image: x, ports: nonesuch}}", "ports"),
        ("services: [", "yaml"),
        ("services: {web: {imag: x}}", "imag"),
        ("services: {}", "no service"),
    ],
)
def test_a_bad_file_is_told(shop: Shop, text: str, said: str) -> None:
    (shop.folder / "compose.yaml").write_text(text)
    with pytest.raises(PlanRejected, match=f"(?i){said}"):
        shop.plan()


def test_a_file_that_is_not_there_is_told(shop: Shop) -> None:
    with pytest.raises(PlanRejected, match=r"the Compose file .*compose\.yaml does not exist"):
        shop.plan()


def test_other_warnings_of_compose_are_passed_on(shop: Shop) -> None:
    shop.write({"worker": shop.worker()}, version="3")
    shop.plan()
    assert any("`version` is obsolete" in text for text in shop._drivers[-1].notices())


def test_a_task_that_is_no_service_is_told(shop: Shop) -> None:
    shop.write({"worker": shop.worker(), "smoke": shop.worker(profiles=["tasks"])})
    shop.config.update(before=["migrate"], after=["smoke"])
    with pytest.raises(PlanRejected, match=r"before names the service migrate.*there are smoke, worker"):
        shop.plan()


def test_a_program_that_is_not_there_is_told(shop: Shop) -> None:
    shop.write({"worker": shop.worker()})
    shop.config.update(before=[["./migrate", "up"]], after=[["nonesuch-program"]])
    with pytest.raises(PlanRejected) as error:
        shop.plan()
    assert "before: the program './migrate' is not there" in str(error.value)
    assert "after: the program 'nonesuch-program' is not there" in str(error.value)


def test_the_image_of_a_task_whose_profile_is_off_is_looked_for_too(shop: Shop) -> None:
    task = {"image": "deploy-guard-test:nonesuch", "profiles": ["tasks"]}
    shop.write({"worker": shop.worker(), "migrate": task})
    shop.config.update(before=["migrate"], pull="never")
    with pytest.raises(PlanRejected, match=r"does not have the image deploy-guard-test:nonesuch \(migrate\)"):
        shop.plan()


def test_a_network_of_others_must_be_there(shop: Shop) -> None:
    shop.write({"worker": shop.worker()}, networks={"default": {"name": f"{shop.project}-outside", "external": True}})
    with pytest.raises(PlanRejected, match=f"the network {shop.project}-outside is not there"):
        shop.plan()


def test_a_port_of_another_container_is_told_with_its_name(shop: Shop) -> None:
    holder = f"{shop.project}-holder"
    docker("run", "--detach", "--init", "--name", holder, "--publish", f"{shop.port}:80", image(), "sleep 100")
    try:
        shop.write({"web": shop.web()})
        with pytest.raises(PlanRejected, match=rf"port {shop.port}/tcp \(web\) is taken by the container {holder}"):
            shop.plan()
    finally:
        docker("rm", "--force", holder)


def test_a_port_of_another_process_is_told(shop: Shop) -> None:
    if os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT"):
        pytest.skip("the engine may be on another machine")
    shop.write({"web": shop.web()})
    with socket.socket() as other:
        other.bind(("127.0.0.1", shop.port))
        other.listen()
        with pytest.raises(PlanRejected, match=rf"port {shop.port}/tcp \(web\) is taken by a process"):
            shop.plan()


def test_a_port_that_two_services_publish_is_told(shop: Shop) -> None:
    shop.write({"web": shop.web(), "also": shop.web()})
    with pytest.raises(PlanRejected, match=rf"port {shop.port}/tcp is published more than once: also, web"):
        shop.plan()


def test_the_project_s_own_port_is_not_taken(shop: Shop) -> None:
    shop.write({"web": shop.web()})
    shop.ship("v1.0.0")
    shop.write({"front": shop.web()})
    shop.ship("v2.0.0")
    assert shop.served == "v2.0.0"


def test_an_engine_that_is_away_is_told(shop: Shop) -> None:
    shop.write({"worker": {"image": "x"}})
    shop.environ["DOCKER_HOST"] = "unix:///nonesuch/docker.sock"
    with pytest.raises(PlanRejected, match=r"the Docker engine can't be reached: .*nonesuch/docker\.sock"):
        shop.plan()


def test_a_context_that_is_not_there_is_told(shop: Shop) -> None:
    shop.write({"worker": {"image": "x"}})
    shop.config["context"] = "nonesuch"
    with pytest.raises(PlanRejected, match="nonesuch"):
        shop.plan()


def test_a_machine_without_docker_is_told(shop: Shop) -> None:
    shop.write({"worker": {"image": "x"}})
    (shop.folder / "empty").mkdir()
    path = shop.environ["PATH"] = str(shop.folder / "empty")
    with pytest.raises(PlanRejected, match=r"docker.* can't be started") as error:
        shop.plan()
    assert path in error.value.hint
    shop.environ.clear()


def test_a_docker_without_compose_is_told(shop: Shop) -> None:
    shop.write({"worker": {"image": "x"}})
    wrapped(shop, 'case "$*" in *compose*) echo "docker: \'compose\' is not a docker command." >&2; exit 1;; esac')
    with pytest.raises(
        PlanRejected, match="docker has no Compose:\n  docker: 'compose' is not a docker command"
    ) as error:
        shop.plan()
    assert "docker-compose-plugin" in error.value.hint


def test_a_compose_that_is_too_old_is_told_with_the_reason(shop: Shop) -> None:
    shop.write({"worker": {"image": "x"}})
    wrapped(shop, 'case "$*" in *"compose version"*) echo v2.12.2; exit 0;; esac')
    with pytest.raises(PlanRejected, match=r"Compose v2\.12\.2 is too old: 2\.20 is the first whose dry run"):
        shop.plan()


def test_an_engine_that_is_too_old_is_told_with_the_reason(shop: Shop) -> None:
    shop.write({"worker": {"image": "x"}})
    body = '{"ApiVersion": "1.40", "Version": "19.03.15"}'
    answer = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
    wrapped(shop, f"case \"$*\" in *dial-stdio*) read -r line; printf '{answer}'; cat >/dev/null; exit;; esac")
    with pytest.raises(PlanRejected, match=r"the Docker engine 19\.03\.15 is too old: before 20\.10 it does not tell"):
        shop.plan()


def test_a_dry_run_that_is_none_is_an_error_that_names_the_version(shop: Shop) -> None:
    shop.write({"worker": shop.worker(environment={"VERSION": "${VERSION}"})})
    shop.ship("v1.0.0")
    wrapped(
        shop,
        'for a; do shift; case $a in --dry-run) a=--progress=plain;; --no-start) a=-d;; esac; set -- "$@" "$a"; done',
    )
    with pytest.raises(PlanRejected, match=r"the dry run of Compose 2\.\S+ was none: it changed containers"):
        shop.plan("v2.0.0")


def test_the_ambient_project_files_and_profiles_change_nothing(shop: Shop) -> None:
    shop.write({"worker": shop.worker(), "debug": shop.worker(profiles=["debug"])})
    shop.environ.update(COMPOSE_PROJECT_NAME="nonesuch", COMPOSE_FILE="nonesuch.yaml", COMPOSE_PROFILES="debug")
    services = {change.object for change in shop.plan().changes if change.object.startswith("service")}
    assert services == {"service worker"}


def test_a_plan_or_snapshot_of_elsewhere_is_refused(shop: Shop) -> None:
    shop.write({"worker": shop.worker()})
    snapshot = shop.begin("v1.0.0")
    with pytest.raises(PlanRejected, match="not made by this driver"):
        shop.driver.apply(shop.plan("v1.0.0"))
    shop.environ["DOCKER_HOST"] = "tcp://elsewhere.example:2376"
    with pytest.raises(RollbackFailed, match=r"and compose \S+ on elsewhere\.example is configured now"):
        shop.driver.rollback(snapshot, Deadline.after(1))
    shop.environ.clear()
