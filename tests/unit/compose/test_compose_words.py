"""Configuration, commands, diffs and masks of the Compose driver, as pure functions."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.drivers import make_driver
from deploy_guard.drivers.base import Context, Release
from deploy_guard.drivers.compose import ComposeConfig, ComposeDriver, diff, masks
from deploy_guard.drivers.compose.commands import Commands, is_local, where
from deploy_guard.drivers.compose.config import project_of
from deploy_guard.drivers.compose.engine import Engine, EngineAway
from deploy_guard.drivers.compose.model import Project
from deploy_guard.drivers.compose.planning import _said
from deploy_guard.drivers.compose.state import Container, seconds_of
from deploy_guard.drivers.compose.watching import log_text
from deploy_guard.errors import ConfigurationError

# Configuration


def test_the_least_configuration_is_none(tmp_path: Path) -> None:
    driver = make_driver("compose", {}, Context("My Shop", "stage", tmp_path, {}))
    assert isinstance(driver, ComposeDriver)
    assert driver.target == "compose myshop"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"files": "compose.yaml"}, r"files = 'compose\.yaml': this is a list of files: write \['compose\.yaml'\]"),
        ({"before": "migrate"}, r"this is a list of services and commands: write \['migrate'\]"),
        ({"before": ["./migrate up"]}, r"a command is a list of words.*write \[\['\./migrate', 'up'\]\]"),
        ({"after": [[]]}, "write the name of a service, or a command as a list of words"),
        ({"project": "My Shop"}, "lower-case letters"),
        ({"pull": "always"}, "write 'missing' or 'never'"),
        ({"file": ["x"]}, "did you mean files"),
        ({"dwell": 0}, "a duration is above 0"),
    ],
)
def test_a_wrong_key_says_what_to_write(tmp_path: Path, table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_driver("compose", table, Context("shop", "stage", tmp_path, {}))


def test_a_name_of_which_no_project_can_be_made_is_refused(tmp_path: Path) -> None:
    assert project_of("Shop_2 ü") == "shop_2"
    with pytest.raises(ConfigurationError, match="no name of a Compose project"):
        make_driver("compose", {}, Context("—", "stage", tmp_path, {}))


# Commands


def test_a_command_is_what_a_person_would_type(tmp_path: Path) -> None:
    config = ComposeConfig(("a.yaml", "b.yaml"), context="prod", profiles=("p",), env_files=("x.env",))
    made = Commands(config, Context("shop", "stage", tmp_path, {}), "shop")
    assert made.compose("up") == (
        *("docker", "--context", "prod", "compose", "--project-name", "shop"),
        *("--file", "a.yaml", "--file", "b.yaml", "--env-file", "x.env", "--profile", "p", "up"),
    )


def test_the_release_is_in_the_environment_and_ambient_compose_variables_are_not(tmp_path: Path) -> None:
    context = Context(
        "shop", "stage", tmp_path, {"COMPOSE_FILE": "x", "COMPOSE_PROJECT_NAME": "x", "KEY": "k", "VERSION": "old"}
    )
    made = Commands(ComposeConfig(), context, "shop", Release("v2", None))
    assert made.environ() == {"KEY": "k", "VERSION": "v2", "DEPLOY_ENV": "stage"}


@pytest.mark.parametrize(
    ("environ", "context", "on"),
    [
        ({}, None, ""),
        ({}, "default", ""),
        ({}, "prod", "prod"),
        ({"DOCKER_CONTEXT": "prod"}, None, "prod"),
        ({"DOCKER_HOST": "unix:///var/run/docker.sock"}, None, ""),
        ({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, None, "/run/user/1000/docker.sock"),
        ({"DOCKER_HOST": "ssh://me:secret@build.example:2222"}, None, "build.example"),
        ({"DOCKER_HOST": "tcp://10.0.0.1:2376", "DOCKER_CONTEXT": "prod"}, None, "10.0.0.1"),
        ({"DOCKER_HOST": "tcp://10.0.0.1:2376"}, "prod", "prod"),
    ],
)
def test_the_engine_is_named_as_docker_chooses_it(environ: dict[str, str], context: str | None, on: str) -> None:
    config = ComposeConfig(context=context)
    assert where(config, {"HOME": "/nonesuch", **environ}) == on
    assert is_local(config, {"HOME": "/nonesuch", **environ}) == (not on)


def test_the_context_that_docker_itself_is_set_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "prod"}')
    assert where(ComposeConfig(), {"DOCKER_CONFIG": str(tmp_path)}) == "prod"
    (tmp_path / "config.json").write_text("{")
    assert where(ComposeConfig(), {"DOCKER_CONFIG": str(tmp_path)}) == ""


def test_a_dry_run_is_read_line_by_line() -> None:
    output = """
 DRY-RUN MODE -  Network shop_default  Creating
 DRY-RUN MODE -  Volume "shop_data"  Creating
 DRY-RUN MODE -  Container shop-old-1  Stopping
 DRY-RUN MODE -  Container shop-old-1  Removed
 DRY-RUN MODE -  Container shop-web-1  Recreate
 DRY-RUN MODE -  Container shop-job-1  Created
 DRY-RUN MODE -  Container shop-new-1  Creating
 DRY-RUN MODE -  Container shop-db-1  Running
"""
    assert _said(output, {"shop-old-1", "shop-web-1", "shop-job-1", "shop-db-1"}) == {
        ("Network", "shop_default"): "create",
        ("Volume", "shop_data"): "create",
        ("Container", "shop-old-1"): "remove",
        ("Container", "shop-web-1"): "change",
        ("Container", "shop-new-1"): "create",
    }


# The project


def project(**services: Any) -> Project:
    return Project.read(
        "shop", json.dumps({"name": "shop", "services": services, "networks": {"default": {"name": "shop_default"}}})
    )


def test_a_service_is_a_task_unless_it_is_looked_after() -> None:
    services = project(
        task={},
        again={"restart": "always"},
        any={"deploy": {"restart_policy": {"condition": "any"}}},
        port={"ports": [{"target": 80, "published": "80", "protocol": "tcp"}]},
        check={"healthcheck": {"test": ["CMD", "x"]}},
        off={"healthcheck": {"disable": True}},
    ).services
    assert [name for name, one in services.items() if one.ends] == ["task", "off"]


def test_replicas_stand_in_either_place() -> None:
    services = project(one={}, two={"scale": 2}, three={"deploy": {"replicas": 3}}, none={"scale": 0}).services
    assert [one.replicas for one in services.values()] == [1, 2, 3, 0]


def test_what_compose_copies_is_known_by_path_and_content() -> None:
    body = {
        "services": {
            "web": {
                "secrets": [{"source": "token", "target": "/run/secrets/token"}, {"source": "file"}],
                "configs": [{"source": "page"}],
            }
        },
        "secrets": {"token": {"environment": "TOKEN"}, "file": {"file": "/x"}},
        "configs": {"page": {"content": "costs $$5"}},
    }
    made = Project.read("shop", json.dumps(body))
    assert made.copied(made.services["web"], {"TOKEN": "t"}) == {
        "/run/secrets/token": ("secret token", "t"),
        "/page": ("config page", "costs $5"),
    }
    assert made.copied(made.services["web"], {}) == {"/page": ("config page", "costs $5")}
    assert ("TOKEN", "t") in list(made.values({"TOKEN": "t"}))


def test_the_digest_leaves_out_values_and_the_fingerprint_does_not() -> None:
    one, other = (project(web={"image": "x", "environment": {"KEY": key}}) for key in ("secret", "other"))
    assert one.digest({}, lambda data: data) == other.digest({}, lambda data: data)
    assert one.digest({}, lambda data: data) != one.digest({"web": "sha256:2"}, lambda data: data)
    assert one.fingerprint() != other.fingerprint()


def test_a_text_that_is_no_project_is_an_error() -> None:
    for text in ("", "[]", "services: {}"):
        with pytest.raises(ValueError, match=r".+"):
            Project.read("shop", text)


# Diffs


def test_the_diff_shows_names_of_variables_and_masks_the_rest() -> None:
    made = project(
        web={
            "image": "shop:2",
            "command": ["serve", "--key=hunter2hunter2", "$$HOME"],
            "environment": {"KEY": "hunter2hunter2", "NEW": "1", "OF_IMAGE": "yes", "UNSET": None},
            "networks": {"default": None},
            "volumes": [
                {"type": "tmpfs", "target": "/t"},
                {"type": "bind", "source": "/a", "target": "/b", "read_only": True},
            ],
            "ports": [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}],
        }
    )
    image = {"Id": "sha256:" + "2" * 64, "Config": {"Env": ["OF_IMAGE=yes", "PATH=/bin"]}}
    raw = {
        "Id": "a" * 64,
        "Name": "/shop-web-1",
        "Image": "sha256:" + "1" * 64,
        "Config": {
            "Image": "shop:1",
            "Env": ["OF_IMAGE=yes", "PATH=/bin", "KEY=old", "GONE=1"],
            "Labels": {"com.docker.compose.service": "web", "tier": "front"},
            "Cmd": ["serve"],
        },
        "HostConfig": {
            "NetworkMode": f"container:{'b' * 64}",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        },
    }
    after = diff.planned(made, made.services["web"], str(image["Id"]), image)
    before = diff.present(Container(raw), image, {"b" * 64: "vpn"})
    redact = masks.redactor([("KEY", "hunter2hunter2")]).redact
    assert diff.lines(before, after, redact) == [
        "- image: shop:1 (111111111111)",
        "+ image: shop:2 (222222222222)",
        "- command: serve",
        "+ command: serve --key=[KEY redacted] '$HOME'",
        "- restart: on-failure:3",
        "- network mode: service:vpn",
        "- environment: GONE",
        "~ environment: KEY (another value)",
        "+ environment: NEW",
        "+ port: 127.0.0.1:8080 -> 80/tcp",
        "+ volume: (tmpfs) -> /t",
        "+ volume: /a -> /b (read-only)",
        "+ network: shop_default",
        "- label: tier=front",
    ]
    assert diff.lines(after, after, redact) == []


# Masks


def test_values_that_secrets_could_have_are_hidden_and_words_are_not() -> None:
    hide = masks.redactor(
        [
            *(("DB_PASSWORD", "abcd"), ("API_TOKEN", "wordword"), ("LEVEL", "warning"), ("PORT", "8080")),
            *(("DATABASE", "postgres://db:5432/x"), ("VERSION", "v1.2.3-long-enough-1"), ("API_TOKEN", "another-one")),
        ]
    ).redact
    assert hide("abcd wordword another-one") == "[DB_PASSWORD redacted] [API_TOKEN redacted] [API_TOKEN' redacted]"
    assert hide("warning 8080 v1.2.3-long-enough-1") == "warning 8080 v1.2.3-long-enough-1"
    assert hide("to postgres://db:5432/x") == "to [DATABASE redacted]"


def test_variables_of_the_image_are_no_secrets() -> None:
    raw = {"Image": "i", "Config": {"Env": ["PATH=/bin", "OF_IMAGE=value-123", "OWN=value-456"]}}
    images = {"i": {"Config": {"Env": ["PATH=/bin", "OF_IMAGE=value-123"]}}}
    assert list(masks.of_containers([Container(raw)], images)) == [("OWN", "value-456")]


def test_variables_that_files_name_and_that_speak_are_looked_for() -> None:
    environ = {"NAMED": "x", "OTHER": "y", "A_TOKEN": "z", "BRACED": "b"}
    found = masks.of_environment(environ, ["a: $NAMED ${BRACED:-x}"])
    assert sorted(found) == [("A_TOKEN", "z"), ("BRACED", "b"), ("NAMED", "x")]


# What the engine says


def test_a_log_comes_in_frames_unless_there_is_a_terminal() -> None:
    frames = b"".join(struct.pack(">BxxxI", kind, len(text)) + text for kind, text in ((1, b"out\n"), (2, b"err\n")))
    assert log_text(frames, terminal=False) == "out\nerr\n"
    assert log_text(b"one\r\ntwo\r\n", terminal=True) == "one\ntwo\n"


def test_the_engine_s_times_are_read() -> None:
    assert seconds_of("2026-01-01T00:00:00.123456789Z") == pytest.approx(1767225600.123456)
    assert seconds_of("2026-01-01T01:00:00+01:00") == 1767225600
    assert seconds_of("0001-01-01T00:00:00Z") < 0
    assert seconds_of("") == 0.0


def script(folder: Path, text: str) -> dict[str, str]:
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_what_docker_says_when_it_can_t_connect_is_told(tmp_path: Path) -> None:
    engine = Engine(("docker",), script(tmp_path, "echo 'ssh: no route to host' >&2; exit 1"))
    with pytest.raises(EngineAway, match="can't be reached: ssh: no route to host"):
        engine.get("/version")
    engine.close()


def test_an_engine_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    engine = Engine(("docker",), script(tmp_path, "exec sleep 30"))
    with pytest.raises(EngineAway, match="does not answer"):
        engine.post("/containers/x/stop", patience=0.3)
    engine.close()


def test_an_answer_that_is_none_is_told(tmp_path: Path) -> None:
    engine = Engine(("docker",), script(tmp_path, "echo hello; exec sleep 1"))
    with pytest.raises(EngineAway):
        engine.get("/version")
    engine.close()
