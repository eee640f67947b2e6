"""The standard gates of this repository, with input that makes each of them fail."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme
from conftest import FILE_DRIVER, Project, Result
from web import Web, drop, say, serving

GATES = Path(__file__).resolve().parents[2] / "gates"
GOOD = {"SERVICE_URL": "http://127.0.0.1:1", "TOKEN": "only-a-test-value"}
EASY = "[env.stage]\nrelease-guard = false\n[host]\n" + "".join(
    f"{what} = {{ warn = 99.8, fail = 100 }}\n" for what in ("disk", "inodes", "memory")
)
HEAD = "[env.stage.host]\n"
CLOCK = HEAD + "clock-skew = { warn = 5, fail = 30 }\n"
NOT_CONFIGURED = {
    "test_tools_are_installed": "tools",
    "test_processes_run": "processes",
    "test_ports_are_open_and_free": "ports",
    "test_the_clock_agrees_with_the_service": "clock skew",
    "test_the_service_is_healthy_before": "health before",
}


@pytest.fixture
def standard(project: Project) -> Project:
    (project.root / "gates/test_first.py").unlink()
    for path in GATES.glob("test_*.py"):
        shutil.copy(path, project.root / "gates")
    project.write("deploy-guard.toml", EASY)
    return project


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(say(200, '{"version": "v1.0.0"}')) as made:
        yield made


def evidence(result: Result, gate: str) -> dict[str, object]:
    return {entry["name"]: entry["value"] for entry in result.gate(gate)["evidence"]}


def withheld(project: Project, gate: str, config: str = "", code: int = 2, **more: str) -> str:
    """Run with this configuration; the gate must be the one that withholds. Returns what it says."""
    project.write("deploy-guard.toml", config + EASY)
    result = project.run("gates", more={**GOOD, **more})
    assert (result.code, result.outcome) == (code, "withheld"), result.out
    assert [reason["id"].split("::")[1] for reason in result.verdict["reasons"]] == [gate], result.out
    assert not project.applied
    return str(result.gate(gate)["message"])


def test_they_pass_where_all_is_well_and_each_has_evidence(standard: Project) -> None:
    result = standard.run("gates", "--no-deploy", more=GOOD)
    assert (result.code, result.outcome) == (0, "checked"), result.out
    judged = [gate for gate in result.verdict["gates"] if gate["phase"] == "gate"]
    assert {gate["outcome"] for gate in judged} == {"passed"}
    assert len(judged) == 14
    assert all(gate["evidence"] for gate in judged)
    for gate, name in NOT_CONFIGURED.items():
        assert evidence(result, gate) == {name: "not configured"}
    machine = evidence(result, "test_memory_is_left")["machine"]
    assert str(machine) == f"this machine ({socket.gethostname()})"


def test_the_packaged_gates_run_without_any_of_the_users_own(project: Project) -> None:
    project.write("deploy-guard.toml", EASY)
    shutil.rmtree(project.root / "gates")
    shutil.copytree(GATES, project.root / "lib/packaged_gates")
    project.write("lib/packaged_gates/__init__.py", "")
    project.write("deploy-guard.toml", 'gates = ["packaged_gates"]\n' + EASY)
    result = project.run(
        "--no-deploy",
        "--pyargs",
        "packaged_gates",
        more={**GOOD, "ENV": "prod", "PYTHONPATH": str(project.root / "lib")},
    )
    assert result.code == 1, result.out
    assert "ENV names another environment" in result.gate("test_the_environment_is_named_and_complete")["message"]


# Environment


def test_everything_wrong_with_the_environment_is_told_at_once_and_is_recoverable(standard: Project) -> None:
    result = standard.run("gates", VERSION=" ", ENV="prod", SERVICE_URL="ftp://user:canary-4711@h")
    assert result.code == 1, result.out
    gate = result.gate("test_the_environment_is_named_and_complete")
    for words in (
        "ENV names another",
        "VERSION is not set",
        "none of API_KEY, TOKEN",
        "not an http:// or https:// URL",
    ):
        assert words in gate["message"]
    assert "canary-4711" not in result.out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SERVICE_URL": " "}, "SERVICE_URL is not set, or blank"),
        ({"VERSION": ""}, "VERSION is not set, or blank"),
        ({"TOKEN": " "}, "none of API_KEY, TOKEN is set"),
        ({"ENV": "prod"}, "ENV names another environment than --deploy-env=stage"),
        ({"SERVICE_URL": "http://u:canary-4711@127.0.0.1:1"}, "SERVICE_URL holds credentials"),
    ],
)
def test_each_fault_of_the_environment_withholds(standard: Project, change: dict[str, str], words: str) -> None:
    said = withheld(standard, "test_the_environment_is_named_and_complete", code=1, **change)
    assert words in said
    assert "canary-4711" not in said


def test_names_are_evidence_and_values_are_not(standard: Project) -> None:
    result = standard.run("gates", "--no-deploy", more=GOOD)
    found = evidence(result, "test_the_environment_is_named_and_complete")
    assert found == {"environment": "stage", "variables that are set": "SERVICE_URL, VERSION, TOKEN"}


# Host


@pytest.mark.parametrize("what", ["disk", "inodes", "memory"])
def test_a_full_machine_is_critical(standard: Project, what: str) -> None:
    standard.write(
        "deploy-guard.toml",
        EASY.replace(f"{what} = {{ warn = 99.8, fail = 100 }}", f"{what} = {{ warn = 0.001, fail = 0.002 }}"),
    )
    result = standard.run("gates", more=GOOD)
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert any(what in reason["id"] for reason in result.verdict["reasons"])


def test_a_path_that_does_not_exist_is_critical(standard: Project) -> None:
    standard.write("deploy-guard.toml", EASY + 'paths = ["/nonesuch"]\n')
    result = standard.run("gates", more=GOOD)
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert "/nonesuch" in result.gate("test_disks_have_room")["message"]
    assert "/nonesuch" in result.gate("test_disks_have_inodes")["message"]


def test_a_file_system_that_counts_no_inodes_passes_and_says_so(standard: Project) -> None:
    standard.write(
        "gates/conftest.py",
        FILE_DRIVER
        + """
from deploy_guard.probes.machine import Machine

@pytest.fixture(scope="session")
def machine():
    made = Machine()
    made.inodes = lambda path: None
    return made
""",
    )
    result = standard.run("gates", "--no-deploy", more=GOOD)
    assert result.code == 0, result.out
    assert evidence(result, "test_disks_have_inodes")["inodes /"] == "not counted by this file system"


def test_the_memory_of_a_control_group_is_named(standard: Project) -> None:
    for name, text in (("memory.max", "1048576"), ("memory.current", "1000000"), ("memory.stat", "inactive_file 0")):
        standard.write(f"cgroup/{name}", text)
    standard.write("membership", "0::/\n")
    standard.write(
        "gates/conftest.py",
        FILE_DRIVER
        + """
from deploy_guard.probes.machine import Machine

@pytest.fixture(scope="session")
def machine():
    return Machine(cgroups=HERE / "cgroup", membership=HERE / "membership")
""",
    )
    standard.write("deploy-guard.toml", EASY.replace("memory = { warn = 99.8, fail = 100 }", ""))
    result = standard.run("gates", more=GOOD)
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert evidence(result, "test_memory_is_left")["memory in all"] == 1
    assert "memory of the cgroup / 95.37 % (warn 70, fail 85)" in result.gate("test_memory_is_left")["message"]


def test_with_a_remote_engine_the_gates_say_that_they_looked_here(standard: Project) -> None:
    standard.write("deploy-guard.toml", 'driver = "compose"\n' + EASY)
    result = standard.run("gates", "--no-deploy", more={**GOOD, "DOCKER_HOST": "ssh://me:canary-4711@engine.invalid"})
    for gate in ("test_disks_have_room", "test_disks_have_inodes", "test_memory_is_left"):
        said = str(evidence(result, gate)["machine"])
        assert "the target is the DOCKER_HOST host engine.invalid: its disks and memory are not looked at" in said
    assert "canary-4711" not in result.out


def tool(project: Project, name: str, says: str) -> dict[str, str]:
    path = project.write(f"bin/{name}", f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return {"PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}"}


def test_tools_that_are_missing_too_old_or_mute_are_all_named(standard: Project) -> None:
    tool(standard, "old", "echo old 1.9")
    path = tool(standard, "mute", "echo hello")
    config = '[host]\ntools = ["nonesuch-program", "old>=1.10", "mute>=1", "git"]\n'
    standard.write("deploy-guard.toml", EASY.replace("[host]\n", config))
    result = standard.run("gates", more={**GOOD, **path})
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    said = result.gate("test_tools_are_installed")["message"]
    assert "nonesuch-program is not on the PATH: install nonesuch-program" in said
    assert "old is 1.9, and 1.10 or newer is asked for" in said
    assert "mute says no version: no data" in said
    assert "git" not in said
    assert evidence(result, "test_tools_are_installed")["tool old"] == "1.9 (at least 1.10)"


def test_what_the_driver_runs_is_asked_for_without_being_named(standard: Project) -> None:
    path = tool(standard, "kubectl", 'echo "Client Version: v1.20.0"')
    standard.write("deploy-guard.toml", 'driver = "kubernetes"\n[kubernetes]\ncontext = "eks-prod"\n' + EASY)
    result = standard.run("gates", "--no-deploy", more={**GOOD, **path})
    assert result.code == 2, result.out
    assert "kubectl is 1.20.0, and 1.25 or newer" in result.gate("test_tools_are_installed")["message"]
    assert "the cluster eks-prod" in str(evidence(result, "test_disks_have_room")["machine"])


def test_a_process_that_does_not_run_is_critical(standard: Project) -> None:
    said = withheld(standard, "test_processes_run", HEAD + 'processes = ["nonesuch-4711"]\n')
    assert "nonesuch-4711 does not run" in said


def test_ports_that_are_closed_or_taken_are_critical(standard: Project, web: Web) -> None:
    config = HEAD + f'ports = {{ open = ["127.0.0.1:1", "127.0.0.1:{web.port}"], free = [{web.port}] }}\n'
    said = withheld(standard, "test_ports_are_open_and_free", config)
    assert "127.0.0.1:1 must be open: connection refused" in said
    assert f"port {web.port} must be free: it is in use" in said
    assert f"127.0.0.1:{web.port} must be open" not in said


def test_a_clock_that_is_wrong_or_unknown_withholds(standard: Project, web: Web) -> None:
    gate = "test_the_clock_agrees_with_the_service"
    web.answers = [say(404, Date=format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))]
    assert "clock skew 3" in withheld(standard, gate, CLOCK, 1, SERVICE_URL=web.url)
    assert "connection refused" in withheld(standard, gate, CLOCK, 1)
    web.answers = [say(404)]
    standard.write("deploy-guard.toml", CLOCK + EASY)
    result = standard.run("gates", "--no-deploy", more={**GOOD, "SERVICE_URL": web.url})
    assert result.gate(gate)["outcome"] == "passed", result.out


# Service


def test_a_service_that_is_unhealthy_before_the_rollout_withholds_it(standard: Project, web: Web) -> None:
    web.answers = [say(404, "broken")]
    gate = "test_the_service_is_healthy_before"
    assert "status 404: broken" in withheld(standard, gate, 'health-url = "/health"\n', 1, SERVICE_URL=web.url)
    assert web.asked == ["/health"]


def test_every_attempt_is_in_the_log_of_the_gate(standard: Project, web: Web) -> None:
    web.answers = [drop, say(500, "broken"), say(200)]
    standard.write("deploy-guard.toml", 'health-url = "/health"\n' + EASY)
    result = standard.run("gates", "--no-deploy", "-rA", more={**GOOD, "SERVICE_URL": web.url})
    assert result.code == 0, result.out
    for words in (
        "attempt 1 of 3 failed: GET",
        "attempt 2 of 3 failed: GET",
        "status 500: broken; next in",
        "status 200",
    ):
        assert words in result.out


@pytest.mark.parametrize("days", [-1, 3, 15, 100])
def test_a_certificate_that_expires_is_a_warning(standard: Project, days: int) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(standard.root / "ca.pem"))
    until = datetime.now(UTC) + timedelta(days=days)
    leaf = ca.issue_cert("localhost", common_name="shop", not_before=until - timedelta(days=200), not_after=until)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    standard.write("deploy-guard.toml", 'ca-bundle = "ca.pem"\n' + EASY)
    with serving(say(200), tls=context) as web:
        result = standard.run("gates", "--no-deploy", more={**GOOD, "SERVICE_URL": web.url})
    gate = result.gate("test_the_certificate_lasts")
    assert result.code == 0, result.out
    assert gate["outcome"] == ("passed" if days == 100 else "warned"), result.out
    if days < 0:
        assert "certificate has expired" in gate["message"]
    else:
        assert evidence(result, "test_the_certificate_lasts")["certificate"] == pytest.approx(days, abs=0.1)
        assert "shop" in str(gate["evidence"][0]["value"])


NAMED = (
    FILE_DRIVER
    + """
from deploy_guard.probes.service import Service

@pytest.fixture(scope="session")
def service(deploy_config):
    return Service.of(deploy_config, resolve=lambda host, port: ["127.0.0.1", "127.0.0.2"])
"""
)


def test_one_address_with_the_old_version_is_rolled_back_and_named(standard: Project, web: Web) -> None:
    standard.write("gates/conftest.py", NAMED)
    standard.write("deploy-guard.toml", "version-samples = 2\n" + EASY)
    url = f"http://shop.invalid:{web.port}"
    with serving(say(200, '{"version": "v1.0.0"}'), address="127.0.0.2", port=web.port) as other:
        result = standard.run("gates", more={**GOOD, "SERVICE_URL": url})
        assert (result.code, result.outcome, standard.target) == (0, "shipped", "v1.0.0"), result.out
        assert evidence(result, "test_the_service_reports_the_release") == {
            "version at 127.0.0.1": "v1.0.0 (2 samples)",
            "version at 127.0.0.2": "v1.0.0 (2 samples)",
        }
        web.answers = [say(200, '{"version": "v2.0.0"}')]
        result = standard.run("gates", VERSION="v2.0.0", more={**GOOD, "SERVICE_URL": url})
        assert (result.code, result.outcome, standard.target) == (2, "rolled-back", "v1.0.0"), result.out
        message = result.gate("test_the_service_reports_the_release")["message"]
        assert message == "127.0.0.2 serves v1.0.0, not v2.0.0"
        assert other.headers[-1]["host"] == f"shop.invalid:{web.port}"


def test_a_service_that_does_not_answer_after_the_rollout_is_rolled_back(standard: Project) -> None:
    result = standard.run("gates", more=GOOD)
    assert (result.code, result.outcome, standard.target) == (2, "rolled-back", None), result.out
    assert "GET http://127.0.0.1:1/version" in result.out


def test_a_secret_header_is_sent_and_stands_in_no_report(standard: Project, web: Web) -> None:
    standard.write(
        "deploy-guard.toml",
        'health-url = "/health"\nservice-headers = { Authorization = "Bearer ${SHOP_LOGIN}" }\n' + EASY,
    )
    standard.write(
        "gates/test_mine.py",
        "import os\ndef test_mine(evidence):\n    evidence.record('leak', 'x' + os.environ['SHOP_LOGIN'])\n",
    )
    result = standard.run("gates", "--no-deploy", more={**GOOD, "SERVICE_URL": web.url, "SHOP_LOGIN": "canary-4711"})
    assert result.code == 0, result.out
    assert web.headers[0]["authorization"] == "Bearer canary-4711"
    assert evidence(result, "test_mine") == {"leak": "x[SHOP_LOGIN redacted]"}
    for path in result.folder.rglob("*"):
        assert not path.is_file() or b"canary-4711" not in path.read_bytes(), path


# Settings


def test_gates_on_the_configuration_itself_need_no_helper(standard: Project) -> None:
    standard.write(
        "gates/test_settings.py",
        """
from deploy_guard import gate

@gate("recoverable")
def test_settings(deploy_env, deploy_settings, deploy_settings_of):
    assert deploy_settings.get("bucket"), "settings.bucket is not set"
    assert deploy_settings["log-level"] in ("info", "warning"), deploy_settings["log-level"]
    for other in {"dev", "stage", "prod"} - {deploy_env}:
        assert deploy_settings["bucket"] != deploy_settings_of(other).get("bucket"), f"the bucket of {other}"
""",
    )
    good = EASY + '[settings]\nlog-level = "info"\n[env.stage.settings]\nbucket = "a"\n'
    for more, words in (
        ("", None),
        ('[env.prod.settings]\nbucket = "a"\n', "the bucket of prod"),
        ('[env.dev.settings]\nbucket = "b"\n', None),
    ):
        standard.write("deploy-guard.toml", good + more)
        result = standard.run("gates", "--no-deploy", more=GOOD)
        assert result.code == (0 if words is None else 1), result.out
        assert words is None or words in result.gate("test_settings")["message"]
