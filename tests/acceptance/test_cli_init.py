"""``deploy-guard init``: a starter that runs at once, that is the user's own, and that overwrites nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from cli import Command, Done
from wheels import build, install

STARTER = (
    "deploy-guard.toml",
    ".deploy-guard/hello/server.py",
    ".deploy-guard/schema.json",
    "gates/test_environment.py",
    "gates/test_host.py",
    "gates/test_release.py",
    "gates/test_service.py",
    "gates/test_settings.py",
)
LOCAL_GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


def pytest_in(command: Command, line: str) -> Done:
    """Run one of the printed lines that begin with ``VERSION=… pytest``."""
    variables, _, arguments = line.partition(" pytest ")
    more = dict(pair.split("=", 1) for pair in variables.split())
    argv = [sys.executable, "-m", "pytest", *arguments.split()]
    done = subprocess.run(
        argv, cwd=command.cwd, env=command.environ(**more), capture_output=True, text=True, timeout=60
    )
    return Done(done.returncode, done.stdout, done.stderr, command.cwd)


def next_lines(said: str) -> list[str]:
    after = said.split("next, in this folder:\n")[1]
    return [line.split("#")[0].strip() for line in after.splitlines() if line.strip()]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def started(command: Command, port: int) -> Iterator[Done]:
    """An empty folder after ``init``; the demonstration listens at a port that is free here."""
    done = command("init")
    file = command.cwd / "deploy-guard.toml"
    file.write_text(file.read_text().replace("8765", str(port)))
    yield done
    command("rollback", "--env", "dev")


def test_what_init_prints_next_works_as_printed(started: Done, command: Command, port: int) -> None:
    assert started.code == 0
    check, ship, back = next_lines(started.out)
    checked = pytest_in(command, check)
    assert (checked.code, checked.verdict("dev")["outcome"]) == (0, "checked"), checked.out
    shipped = pytest_in(command, ship)
    assert (shipped.code, shipped.verdict("dev")["outcome"]) == (0, "shipped"), shipped.out
    assert all(gate["outcome"] in ("passed", "not-applicable") for gate in shipped.verdict("dev")["gates"])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=5) as answer:
        assert json.load(answer)["version"] == "v0.1.0"
    done = command(*back.split()[1:])
    assert (done.code, done.verdict("dev")["outcome"]) == (0, "rolled-back"), done.out
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", port)) != 0


def test_it_writes_a_starter_and_says_so(command: Command) -> None:
    done = command("init")
    for name in STARTER:
        assert (command.cwd / name).is_file()
        assert f"wrote   {name}" in done.out
    assert not (command.cwd / ".gitignore").exists(), "there is no repository"
    root = Path(__file__).resolve().parents[2]
    for path in (command.cwd / "gates").glob("test_*.py"):
        standard = root / "gates" / path.name
        assert not standard.exists() or standard.read_text() == path.read_text()
    hello = (command.cwd / ".deploy-guard/hello/server.py").read_text()
    assert hello == (root / "examples/hello/server.py").read_text()


def test_a_second_time_everything_is_kept(command: Command) -> None:
    command("init")
    (command.cwd / "deploy-guard.toml").write_text("# mine\n")
    (command.cwd / "gates/test_host.py").write_text("# mine\n")
    (command.cwd / "gates/test_service.py").unlink()
    done = command("init")
    assert done.code == 0
    assert "wrote" not in done.out
    assert "kept    deploy-guard.toml" in done.out
    assert (command.cwd / "deploy-guard.toml").read_text() == "# mine\n"
    assert (command.cwd / "gates/test_host.py").read_text() == "# mine\n"
    assert not (command.cwd / "gates/test_service.py").exists(), "what was removed on purpose stays away"


def test_gates_that_are_there_are_left_alone(command: Command) -> None:
    (command.cwd / "gates").mkdir()
    (command.cwd / "gates/test_own.py").write_text("def test_own(): pass\n")
    done = command("init")
    assert "kept    gates/" in done.out
    assert [path.name for path in (command.cwd / "gates").iterdir()] == ["test_own.py"]
    assert pytest_in(command, next_lines(done.out)[0]).code == 0


def test_a_configuration_in_pyproject_is_kept_and_stays_the_only_one(command: Command) -> None:
    (command.cwd / "pyproject.toml").write_text('[tool.deploy-guard]\nname = "shop"\n')
    done = command("init")
    assert "kept    pyproject.toml" in done.out
    assert not (command.cwd / "deploy-guard.toml").exists()
    assert command("status").code == 0


def test_in_a_repository_git_is_kept_from_what_runs_write(command: Command) -> None:
    subprocess.run(["git", "init", "-q", command.cwd], check=True)
    (command.cwd / ".gitignore").write_text("build/\nreports/")
    done = command("init")
    ignored = (command.cwd / ".gitignore").read_text().splitlines()
    assert ignored[:2] == ["build/", "reports/"]
    assert ".deploy-guard/*" in ignored
    assert ignored.count("reports/") == 1
    assert "to .gitignore: .deploy/" in done.out
    assert pytest_in(command, next_lines(done.out)[0]).code == 0
    status = subprocess.run(
        ["git", "status", "--porcelain", "-uall"],
        cwd=command.cwd,
        env=command.environ(**LOCAL_GIT),
        capture_output=True,
        text=True,
        check=True,
    )
    new = {line[3:] for line in status.stdout.splitlines()}
    own = {path for path in new if "__pycache__" not in path and ".pytest_cache" not in path}
    assert own == {name for name in STARTER if "hello" not in name} | {".gitignore"}
    assert "to .gitignore" not in command("init").out


def test_the_configuration_follows_the_schema_that_it_names(command: Command) -> None:
    command("init")
    text = (command.cwd / "deploy-guard.toml").read_text()
    named = re.match(r"#:schema (\S+)\n", text)
    assert named is not None
    schema = json.loads((command.cwd / named[1]).read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    data = tomllib.loads(text)
    jsonschema.validate(data, schema)
    assert data["name"] == re.sub(r"[^A-Za-z0-9._-]+", "-", command.cwd.name).strip("._-")
    wrong = [
        {**data, "nome": "shop"},
        {**data, "env": {"dev": {"drivr": "local"}}},
        {**data, "env": {"dev": {"local": {"rooot": "x"}}}},
        {**data, "env": {"dev": {"compose": {"file": "compose.yaml"}}}},
        {**data, "env": {"dev": {"kubernetes": {"manifests": "k8s"}}}},
        {**data, "kubernetes": {"dwell": {"crash": 0}}},
        {**data, "host": {"disk": {"warn": 200}}},
        {**data, "timeout": "5 parsecs"},
        {**data, "secrets": [[1]]},
    ]
    for bad in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
    good = {"timeout": "5m", "secrets": ["TOKEN", ["A", "B"]], "env": {"dev": {"acme": {"any": "thing"}}}}
    jsonschema.validate(good, schema)
    cluster = {"context": "c", "manifests": ["k8s"], "adopt": ["helm"], "dwell": {"crash-loop": 0, "image": "5s"}}
    jsonschema.validate({"kubernetes": cluster, "env": {"dev": {"compose": {"files": ["compose.yaml"]}}}}, schema)


def test_where_nothing_can_be_written_it_says_so(command: Command) -> None:
    (command.cwd / "gates").write_text("a file\n")
    done = command("init")
    assert done.code == 4
    assert "is not a folder" in done.err


# Templates of a company's package

TEMPLATES = {
    "acme_gates/__init__.py": "import sys\nassert 'pytest' in sys.modules, 'init runs no code of others'\n",
    "acme_gates/templates/__init__.py": "",
    "acme_gates/templates/deploy-guard.toml": 'gates = ["gates", "acme_gates.rules"]\n[env.dev]\n',
    "acme_gates/templates/gates/test_ours.py": "def test_ours(): pass\n",
    "acme_gates/templates/ci/Jenkinsfile": "pipeline {}\n",
    "acme_gates/rules/__init__.py": "",
    "acme_gates/rules/test_acme.py": "def test_acme(): pass\n",
}


@pytest.fixture
def acme(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A second package, installed as a wheel; the variables that make it importable."""
    folder = tmp_path_factory.mktemp("acme")
    return {"PYTHONPATH": str(install(build(folder, "Acme.Gates", "3.4.0", TEMPLATES), folder / "site"))}


@pytest.mark.parametrize("name", ["acme-gates", "acme_gates", "Acme.Gates"])
def test_the_templates_of_a_package_are_copied_and_nothing_is_overwritten(
    command: Command, acme: dict[str, str], name: str
) -> None:
    (command.cwd / "ci").mkdir()
    (command.cwd / "ci/Jenkinsfile").write_text("mine\n")
    done = command("init", "--from", name, **acme)
    assert done.code == 0, done.err
    assert "kept    ci/Jenkinsfile" in done.out
    assert (command.cwd / "ci/Jenkinsfile").read_text() == "mine\n"
    assert (command.cwd / "gates/test_ours.py").read_text() == "def test_ours(): pass\n"
    assert not (command.cwd / "__init__.py").exists()
    done = command("apply", "--env", "dev", "--plan", "--json", VERSION="v1.0.0", **acme)
    assert {gate["id"] for gate in done.json["gates"]} == {
        "gates/test_ours.py::test_ours",
        "acme_gates.rules/test_acme.py::test_acme",
    }


def test_a_package_that_is_not_there_or_has_no_templates_is_exit_4(command: Command, tmp_path: Path) -> None:
    done = command("init", "--from", "acme-gates")
    assert (done.code, "pip install acme-gates" in done.err) == (4, True)
    site = install(build(tmp_path, "bare", "1", {"bare/__init__.py": ""}), tmp_path / "site")
    done = command("init", "--from", "bare", PYTHONPATH=str(site))
    assert (done.code, "has no templates" in done.err) == (4, True)
    assert not (command.cwd / "gates").exists()
