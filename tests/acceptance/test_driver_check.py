"""A driver that can't be made is told before the first gate runs, not after the last."""

from __future__ import annotations

import pytest
from cli import Command
from conftest import FILE_DRIVER, PASSING, Project

GATE = """
import pathlib

def test_gate():
    pathlib.Path("gates-ran").touch()
"""
GOOD = '[env.stage]\ndriver = "local"\n[env.stage.local]\nroot = "dep"\nartifact = "gates"\n'


@pytest.fixture
def configured(project: Project) -> Project:
    """A project with no driver of its own; what the configuration names is used."""
    project.write("gates/conftest.py", "")
    project.write("gates/test_first.py", GATE)
    return project


@pytest.mark.parametrize("mode", [(), ("--deploy-plan",), ("--deploy-back",)], ids=["deploy", "plan", "back"])
@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('driver = "local"\n', "[env.stage.local] root: is missing"),
        (GOOD.replace("root", "rooot"), "did you mean root?"),
        ('driver = "lokal"\n', "there is no driver 'lokal'"),
    ],
)
def test_it_is_exit_4_before_the_first_gate(configured: Project, mode: tuple[str, ...], toml: str, said: str) -> None:
    path = configured.write("deploy-guard.toml", toml)
    result = configured.run(*mode, "gates")
    assert result.code == 4, result.out
    assert f"{path}: " in result.out
    assert said in result.out
    assert not (configured.root / "gates-ran").exists()
    assert not (configured.root / "reports").exists(), "nothing ran, so yesterday's reports stay"


def test_gates_alone_ask_for_no_driver(configured: Project) -> None:
    configured.write("deploy-guard.toml", 'driver = "local"\n')
    configured.write(
        "gates/test_first.py", "import sys\ndef test_gate(): assert 'deploy_guard.drivers.local' not in sys.modules\n"
    )
    result = configured.run("--no-deploy", "gates")
    assert result.code == 0, result.out


def test_a_table_that_is_wrong_is_wrong_though_a_conftest_brings_the_driver(project: Project) -> None:
    project.write("deploy-guard.toml", 'driver = "local"\n')
    project.write("gates/conftest.py", FILE_DRIVER)
    assert project.run("gates").code == 4
    project.write("deploy-guard.toml", GOOD)
    result = project.run("gates")
    assert (result.code, project.target) == (0, "v1.0.0"), result.out
    assert not (project.root / "dep").exists(), "the conftest's driver is the one that is used"


def test_code_of_a_package_is_not_run_before_the_gates(project: Project) -> None:
    project.write("acme-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    project.write("acme-1.dist-info/entry_points.txt", "[deploy_guard.drivers]\nacme = acme:Driver\n")
    project.write(
        "acme.py", "import pathlib\npathlib.Path('loaded').touch()\nraise ValueError('this package is broken')\n"
    )
    project.write("deploy-guard.toml", 'driver = "acme"\n')
    project.write("gates/conftest.py", "")
    project.write(
        "gates/test_first.py", "import pathlib\ndef test_gate(): assert not pathlib.Path('loaded').exists()\n"
    )
    result = project.run("gates")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert result.gate("test_gate")["outcome"] == "passed"
    assert "the acme driver of the package acme can't be loaded" in result.out
    assert (project.root / "loaded").exists()


def test_a_package_of_the_command_line_is_not_loaded_either(project: Project, command: Command) -> None:
    project.write("gates/conftest.py", "")
    project.write("gates/test_first.py", PASSING)
    done = command("apply", "--env", "stage", "--driver", "acme", "--version", "v1.0.0")
    assert (done.code, done.out) == (4, "")
    assert "there is no driver 'acme'" in done.err
    assert "installed drivers: compose, kubernetes, local" in done.err


def test_no_package_takes_the_name_of_a_driver_of_ours(configured: Project) -> None:
    configured.write("acme-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    configured.write("acme-1.dist-info/entry_points.txt", "[deploy_guard.drivers]\nlocal = acme:Driver\n")
    configured.write("deploy-guard.toml", GOOD)
    result = configured.run("gates")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert (configured.root / "dep/current/test_first.py").is_file()
