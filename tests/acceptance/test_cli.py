"""The command ``deploy-guard`` as a new user tries it: in an empty folder, in an empty repository, with mistakes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
from cli import PROGRAM, Command
from conftest import Project

COMMANDS = ("env", "release", "preflight", "apply", "rollback", "status", "notes", "init", "completion")
SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "src/deploy_guard/report/verdict.schema.json").read_text())
GOOD = {"SERVICE_URL": "http://127.0.0.1:1", "TOKEN": "canary-4711", "VERSION": "v1.0.0"}
ROOM = "[host]\ndisk = { warn = 99, fail = 100 }\nmemory = { warn = 99, fail = 100 }\n"


@pytest.fixture(params=["folder", "repository"])
def empty(request: pytest.FixtureRequest, command: Command) -> Command:
    """A folder with nothing in it, and one that is an empty git repository."""
    if request.param == "repository":
        subprocess.run(["git", "init", "-q", command.cwd], check=True)
    return command


# Help and usage


def test_help_names_every_command_and_each_has_an_example(command: Command) -> None:
    said = command("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert f"\n    {name}" in said.out
        own = command(name, "--help")
        assert own.code == 0
        example = own.out.rstrip().splitlines()[-1]
        assert example.startswith("  "), own.out
        assert f"deploy-guard {name}" in example
        assert "?." not in own.out
    assert command("--version").out.startswith("deploy-guard 0.")


@pytest.mark.parametrize(
    "args",
    [(), ("deploy",), ("env", "--what"), ("notes", "-n", "0"), ("completion", "cmd"), ("env", "--js", "--env", "dev")],
)
def test_bad_options_are_exit_4_and_say_where_to_look(command: Command, args: tuple[str, ...]) -> None:
    done = command(*args)
    assert (done.code, done.out) == (4, "")
    assert "--help" in done.err
    assert list(command.cwd.iterdir()) == []


@pytest.mark.parametrize("name", ["env", "release", "preflight", "apply", "rollback"])
def test_without_an_environment_nothing_runs_and_those_that_there_are_are_named(empty: Command, name: str) -> None:
    done = empty(name)
    assert (done.code, done.out) == (4, "")
    assert "dev, stage, prod" in done.err
    assert not (empty.cwd / "reports").exists()


def test_an_unknown_environment_and_a_broken_configuration_are_exit_4(command: Command) -> None:
    done = command("env", "--env", "qa", "--json")
    assert (done.code, done.json["outcome"], done.json["exit_code"]) == (4, "refused", 4)
    assert "use one of dev, stage, prod" in done.json["error"]
    (command.cwd / "deploy-guard.toml").write_text("nome = 1\n")
    for args in (("env", "--env", "dev"), ("status",)):
        done = command(*args)
        assert done.code == 4
        assert "did you mean name?" in done.err


def test_colours_are_left_out_where_no_color_is_set(command: Command) -> None:
    coloured = command("env", "--env", "dev", FORCE_COLOR="1", **GOOD)
    plain = command("env", "--env", "dev", FORCE_COLOR="1", NO_COLOR="1", **GOOD)
    assert (coloured.code, plain.code) == (0, 0)
    assert "\x1b[" in coloured.out
    assert "\x1b[" not in plain.out + plain.err
    for args in (("--help",), ("env", "--help"), ("status",)):
        assert "\x1b[" not in on_a_terminal(command, *args)


def on_a_terminal(command: Command, *args: str) -> str:
    ours, theirs = pty.openpty()
    done = subprocess.Popen([PROGRAM, *args], cwd=command.cwd, env=command.environ(NO_COLOR="1"), stdout=theirs)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert done.wait(timeout=30) == 0
    return said.decode()


# The gates


def test_env_passes_where_all_is_set_and_tells_all_that_is_missing(empty: Command) -> None:
    assert empty("env", "--env", "dev", **GOOD).code == 0
    bad = empty("env", "--env", "dev", TOKEN="canary-4711")
    assert bad.code == 1
    assert "SERVICE_URL is not set" in bad.out
    assert "VERSION is not set" in bad.out
    assert "canary-4711" not in bad.out + bad.err
    ids = [gate["id"] for gate in bad.verdict("dev")["gates"]]
    assert ids == ["deploy_guard.gates/test_environment.py::test_the_environment_is_named_and_complete"]


def test_env_chooses_and_the_option_overrides(command: Command) -> None:
    assert command("env", ENV="stage", **GOOD).verdict("stage")["outcome"] == "checked"
    done = command("env", "--env", "prod", ENV="stage", **GOOD)
    assert (done.code, done.verdict("prod")["env"]) == (0, "prod")
    assert "--env=prod overrides ENV=stage" in done.err


@pytest.mark.parametrize(("env", "code"), [(GOOD, 0), ({}, 1)])
def test_json_is_the_verdict_and_nothing_else_is_on_stdout(empty: Command, env: dict[str, str], code: int) -> None:
    done = empty("env", "--env", "dev", "--json", "--log-format", "json", **env)
    assert done.code == code
    jsonschema.validate(done.json, SCHEMA)
    assert (done.json["exit_code"], done.json["mode"]) == (code, "check")
    assert done.json == done.verdict("dev")
    assert '"event"' in done.err, "the log is on stderr"


def test_json_of_a_run_that_was_refused_is_not_the_last_ones(command: Command) -> None:
    assert command("env", "--env", "dev", "--json", **GOOD).json["outcome"] == "checked"
    done = command("apply", "--env", "dev", "--driver", "nope", "--json", **GOOD)
    assert (done.code, done.json["outcome"]) == (4, "refused")
    assert "there is no driver 'nope'" in done.json["error"]


def test_a_run_inside_a_gate_is_refused_here_too(command: Command) -> None:
    done = command("env", "--env", "dev", DEPLOY_GUARD_RUN="1", **GOOD)
    assert done.code == 4
    assert "a gate can't deploy" in done.err


def test_preflight_judges_environment_host_and_service(command: Command) -> None:
    (command.cwd / "deploy-guard.toml").write_text(ROOM)
    done = command("preflight", "--env", "stage", "--url", "http://127.0.0.1:9", TOKEN="x", VERSION="v1.0.0")
    assert done.code == 0, done.out
    files = {gate["id"].split("::")[0].removeprefix("deploy_guard.gates/") for gate in done.verdict("stage")["gates"]}
    assert files == {"test_environment.py", "test_host.py", "test_service.py"}
    (command.cwd / "deploy-guard.toml").write_text(ROOM.replace("99", "0.01").replace("100", "0.02"))
    full = command("preflight", "--env", "stage", "--url", "http://127.0.0.1:9", TOKEN="x", VERSION="v1.0.0")
    assert full.code == 2
    bad = command("preflight", "--env", "stage", "--url", "ftp://x", TOKEN="x", VERSION="v1.0.0")
    assert (bad.code, "http://" in bad.err) == (4, True)


def test_the_standard_gates_care_for_no_unit_test_configuration(command: Command) -> None:
    (command.cwd / "conftest.py").write_text("raise SystemExit('the conftest of the unit tests was imported')\n")
    (command.cwd / "pytest.ini").write_text("[pytest]\naddopts = -k nothing --no-such-option\n")
    done = command("env", "--env", "dev", PYTEST_ADDOPTS="-k nothing", PYTEST_PLUGINS="no_such", **GOOD)
    assert done.code == 0, done.out + done.err
    assert not (command.cwd / ".pytest_cache").exists()


# apply


def test_apply_needs_no_configuration_and_no_gates(command: Command) -> None:
    (command.cwd / "shop").write_text("the artifact\n")
    (command.cwd / "pytest.ini").write_text("[pytest]\naddopts = -k nothing\n")
    options = ("--driver", "local", "--set", "root=out", "--set", "artifact=shop", "--set", "keep=3")
    done = command("apply", "--env", "dev", *options, "--plan", **GOOD)
    verdict = done.verdict("dev")
    assert [step["name"] for step in verdict["steps"]] == ["plan"], done.out
    assert (verdict["driver"], verdict["version"]) == ("local", "v1.0.0")
    assert all(gate["id"].startswith("deploy_guard.gates/") for gate in verdict["gates"])
    assert not (command.cwd / "out").exists()


def test_apply_runs_the_gates_of_the_repository_and_rolls_out(project: Project, command: Command) -> None:
    done = command("apply", "--env", "stage", "--version", "v1.4.2", "--json")
    assert (done.code, done.json["outcome"], project.target) == (0, "shipped", "v1.4.2"), done.err
    assert [gate["id"] for gate in done.json["gates"]] == ["gates/test_first.py::test_passes"]
    project.write(
        "gates/test_no.py", "from deploy_guard import gate\n\n@gate('recoverable')\ndef test_no(): assert 0\n"
    )
    assert command("apply", "--env", "stage", "--version", "v1.5.0").code == 1
    assert project.target == "v1.4.2"


def test_the_version_of_the_command_line_is_the_one_that_gates_read(project: Project, command: Command) -> None:
    project.write("gates/test_version.py", "import os\n\ndef test_it(): assert os.environ['VERSION'] == 'v1.4.2'\n")
    assert command("apply", "--env", "stage", "--version", "v1.4.2", VERSION="v1.0.0").code == 0


def test_the_driver_of_the_command_line_wins_over_that_of_the_file(command: Command) -> None:
    (command.cwd / "shop").write_text("the artifact\n")
    (command.cwd / "gates").mkdir()
    (command.cwd / "gates/test_ok.py").write_text("def test_ok(): pass\n")
    (command.cwd / "deploy-guard.toml").write_text(
        '[env.dev]\ndriver = "kubernetes"\n[env.dev.local]\nartifact = "shop"\nroot = "a"\n'
    )
    done = command("apply", "--env", "dev", "--driver", "local", "--set", "root=b", "--version", "v1.0.0")
    assert done.code == 0, done.out
    assert (command.cwd / "b/current/shop").read_text() == "the artifact\n"
    back = command("rollback", "--env", "dev")
    assert back.code == 4, "without the same options there is no driver, and nothing is touched"
    assert "[env.dev.kubernetes]" in back.err
    assert (command.cwd / "b/current").exists()
    back = command("rollback", "--env", "dev", "--driver", "local", "--set", "root=b")
    assert (back.code, (command.cwd / "b/current").exists()) == (0, False), back.out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--driver", "nope"), "there is no driver 'nope'"),
        (("--driver", "local"), "artifact: is missing"),
        (("--driver", "kubernetes", "--context", "a", "--namespace", "b"), "nothing to deploy is named"),
        (("--driver", "kubernetes"), "--manifest PATH"),
        (("--driver", "kubernetes", "--manifest", "x", "--set", "prune=maybe"), "write true or false"),
        (("--driver", "local", "--set", "keep=1", "--set", "root=a", "--set", "artifact=b"), "keep = 1"),
        (("--driver", "local", "--set", "rooot=a"), "did you mean root?"),
        (("--driver", "local", "--set", "root"), "KEY=VALUE"),
        (("--driver", "local", "--set", "=x"), "KEY=VALUE"),
        (("--driver", "local", "--set", "a b=x"), "is not a key"),
        (("--set", "root=a"), "none is named"),
        (("--driver", "local", "--set", "token=abcdef"), "looks like a secret"),
    ],
)
def test_a_driver_that_can_not_be_made_is_exit_4_before_anything_runs(
    command: Command, args: tuple[str, ...], said: str
) -> None:
    done = command("apply", "--env", "dev", *args, **GOOD)
    assert (done.code, done.out) == (4, ""), done.out
    assert said in done.err
    assert not (command.cwd / "reports").exists()


MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: somewhere
contexts: [{name: somewhere, context: {cluster: c, user: u, namespace: shop}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {}}]
"""


@pytest.mark.parametrize("name", ["apply", "rollback"])
@pytest.mark.parametrize(
    ("options", "lacking"),
    [((), "context and namespace"), (("--context", "a"), "namespace"), (("--namespace", "b"), "context")],
)
def test_the_cluster_and_the_namespace_are_named_or_it_is_exit_4_that_says_what_to_type(
    command: Command, name: str, options: tuple[str, ...], lacking: str
) -> None:
    (command.cwd / "app.yaml").write_text(MANIFEST)
    (command.cwd / "config").write_text(KUBECONFIG)
    more = {"KUBECONFIG": str(command.cwd / "config"), **GOOD}
    done = command(name, "--env", "dev", "--driver", "kubernetes", "--manifest", "./app.yaml", *options, **more)
    assert (done.code, done.out) == (4, ""), done.out
    assert "--driver=kubernetes: " in done.err
    assert lacking in done.err
    assert "next: " in done.err
    assert "--context" in done.err.split("next: ")[1]
    assert not (command.cwd / "reports").exists()


def test_paths_of_manifests_start_where_one_is(command: Command) -> None:
    (command.cwd / "deploy-guard.toml").touch()
    (command.cwd / "k8s").mkdir()
    (command.cwd / "k8s/app.yaml").write_text(MANIFEST)
    inside = Command(command.cwd / "k8s")
    done = inside("apply", "--env", "dev", "--driver", "kubernetes", "--manifest", "app.yaml", **GOOD)
    assert done.code == 4
    assert f"--manifest {command.cwd}/k8s/app.yaml" in done.err
    done = command("apply", "--env", "dev", "--driver", "kubernetes", "--manifest", "k8s/app.yaml", **GOOD)
    assert "--manifest k8s/app.yaml" in done.err


def test_what_compose_applies_is_named_in_the_same_way(command: Command) -> None:
    options = ("--driver", "compose", "--manifest", "compose.yaml", "--manifest", "more.yaml")
    done = command("apply", "--env", "dev", *options, "--set", "projct=shop", **GOOD)
    assert (done.code, done.out) == (4, ""), done.out
    assert "did you mean project?" in done.err
    (command.cwd / "deploy-guard.toml").write_text('[env.dev.compose]\nfile = "compose.yaml"\n')
    assert "did you mean files?" in command("apply", "--env", "dev", *options, **GOOD).err


# status


def test_status_says_that_nothing_was_shipped(empty: Command) -> None:
    done = empty("status")
    assert done.code == 0
    assert done.out.count("nothing was shipped from here yet") == 3
    assert [entry["env"] for entry in empty("status", "--json").json["environments"]] == ["dev", "stage", "prod"]


def test_status_says_what_is_shipped_and_what_a_rollback_would_bring(project: Project, command: Command) -> None:
    for version in ("v1.0.0", "v1.1.0"):
        assert project.run(VERSION=version).code == 0
    done = command("status", "--env", "stage")
    assert done.code == 0
    assert "v1.1.0 (shipped" in done.out
    assert "rollback brings back v1.0.0" in done.out
    assert "last run: SHIPPED" in done.out
    entry = command("status", "--env", "stage", "--json").json["environments"][0]
    assert (entry["version"], entry["before"], entry["last_run"]["exit_code"]) == ("v1.1.0", {"version": "v1.0.0"}, 0)


def test_status_is_critical_while_something_is_unfinished(project: Project, command: Command) -> None:
    project.run(VERSION="v1.2.0", DRIVER_FAULT="apply", more={})
    project.write(".deploy-guard/stage.unfinished.json", "{")
    done = command("status")
    assert done.code == 2
    assert "UNFINISHED" in done.out
    assert "check what is running" in done.out
    assert command("status", "--env", "prod").code == 0


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_one_that_the_shell_takes(command: Command, shell: str) -> None:
    script = command("completion", shell)
    assert script.code == 0
    assert "preflight" in script.out
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")
    checked = subprocess.run([shell, "-n"], input=script.out, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    if shell == "bash":
        sourced = subprocess.run(
            ["bash", "-euc", 'eval "$(cat)"; complete -p deploy-guard'],
            input=script.out,
            capture_output=True,
            text=True,
        )
        assert (sourced.returncode, sourced.stderr) == (0, "")


# What it costs


@pytest.mark.parametrize(
    ("args", "heavy"),
    [(("--help",), ("pytest", "msgspec")), (("status",), ("pytest", "git")), (("init",), ("pytest",))],
)
def test_nothing_is_imported_that_is_not_needed(
    command: Command, args: tuple[str, ...], heavy: tuple[str, ...]
) -> None:
    code = (
        "import sys\nfrom deploy_guard.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=command.cwd, env=command.environ(), capture_output=True, text=True
    )
    assert done.stderr.strip() == "[]"


def test_the_configuration_of_this_repository_is_valid_by_the_schema() -> None:
    from deploy_guard.cli.schema import schema

    root = Path(__file__).resolve().parents[2]
    jsonschema.Draft7Validator.check_schema(schema())
    for path in (root / "deploy-guard.toml", root / "examples/broken/deploy-guard.toml"):
        jsonschema.validate(tomllib.loads(path.read_text()), schema())
