"""Gates that a company keeps in a package of its own, installed as a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest
import wheels
from conftest import Project

FILES = {
    "acme_gates/__init__.py": "",
    "acme_gates/base.toml": "gate-timeout = '7s'\n[settings]\nteam = 'acme'\n",
    "acme_gates/plugin.py": "import pytest\n@pytest.fixture\ndef acme_region(): return 'eu'\n",
    "acme_gates/gates/__init__.py": "",
    "acme_gates/gates/conftest.py": "import pytest\n@pytest.fixture\ndef of_the_package(): return 1\n",
    "acme_gates/gates/test_acme.py": (
        "import os\nfrom deploy_guard import gate\n"
        "@gate('warn')\ndef test_owner(of_the_package, acme_region, deploy_settings):\n"
        "    assert (of_the_package, acme_region, deploy_settings['team']) == (1, 'eu', 'acme')\n"
        "    assert 'OWNER' in os.environ, 'nobody owns this'\n"
        "@gate('critical')\ndef test_licence(): assert os.environ.get('LICENCE') != 'bad'\n"
    ),
}


@pytest.fixture(scope="session")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("acme")
    entry = "[pytest11]\nacme_gates = acme_gates.plugin\n"
    return wheels.install(wheels.build(folder, "acme-gates", "3.4.0", FILES, entry), folder / "site")


@pytest.fixture
def shared(project: Project, acme: Path) -> Project:
    project.env["PYTHONPATH"] = str(acme)
    project.env["OWNER"] = "me"
    project.write(
        "deploy-guard.toml",
        "name = 'shop'\nextends = 'acme_gates:base.toml'\ngates = ['gates', 'acme_gates.gates']\n",
    )
    return project


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["in process", "on workers"])
def test_gates_of_a_package_run_without_being_named_and_bear_its_name(shared: Project, more: tuple[str, ...]) -> None:
    result = shared.run("gates", *more)
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert [gate["id"] for gate in result.verdict["gates"]] == [
        "gates/test_first.py::test_passes",
        "acme_gates.gates/test_acme.py::test_owner",
        "acme_gates.gates/test_acme.py::test_licence",
    ]
    assert "gates/ (1), acme-gates 3.4.0 (2)" in result.out
    assert 'classname="acme_gates.gates.test_acme"' in (result.folder / "junit.xml").read_text()
    assert result.verdict["sources"] == [
        {"root": "gates", "package": None, "gates": 1},
        {"root": "acme_gates.gates", "package": "acme-gates 3.4.0", "gates": 2},
    ]


def test_a_gate_of_a_package_that_fails_withholds_the_release(shared: Project) -> None:
    result = shared.run("gates", LICENCE="bad")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert not shared.applied


def test_a_package_that_is_not_installed_is_a_usage_error(shared: Project) -> None:
    result = shared.run("gates", PYTHONPATH="")
    assert result.code == 4, result.out
    assert "acme_gates is not installed" in result.out


def test_a_file_of_a_package_that_was_not_collected_is_named_without_its_place(shared: Project, acme: Path) -> None:
    result = shared.run("gates", f"--ignore={acme}/acme_gates/gates/test_acme.py")
    assert (result.code, result.outcome) == (1, "withheld"), result.out
    assert "acme_gates.gates/test_acme.py was not collected" in result.out
    assert not shared.applied


@pytest.mark.parametrize("key", ["acme_gates.gates::test_owner", "acme_gates.gates/test_acme.py::test_owner"])
def test_a_service_may_raise_the_severity_of_a_packaged_gate(shared: Project, key: str) -> None:
    del shared.env["OWNER"]
    assert shared.run("gates").code == 0, "it only warns"
    with (shared.root / "deploy-guard.toml").open("a") as file:
        file.write(f"[severities]\n'{key}' = 'critical'\n")
    result = shared.run("gates", VERSION="v2.0.0")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert result.gate("test_owner")["severity"] == "critical"


def test_a_severity_can_not_be_lowered(shared: Project) -> None:
    with (shared.root / "deploy-guard.toml").open("a") as file:
        file.write("[severities]\n'acme_gates.gates::test_licence' = 'warn'\n")
    result = shared.run("gates")
    assert result.code == 2, result.out
    assert "a severity can only be raised" in result.out
    assert not shared.applied


def test_a_severity_for_a_gate_that_is_not_there_withholds(shared: Project) -> None:
    with (shared.root / "deploy-guard.toml").open("a") as file:
        file.write("[severities]\n'acme_gates.gates::test_license' = 'critical'\n")
    result = shared.run("gates")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert "'acme_gates.gates::test_license' names no gate" in result.out
    assert not shared.applied


def test_the_standard_gates_run_from_the_package_with_no_code_of_ones_own(tmp_path: Path) -> None:
    bare = Project(tmp_path)
    result = bare.run(
        "--no-deploy", "--pyargs", "deploy_guard.gates", SERVICE_URL="http://127.0.0.1:1", TOKEN="canary-1"
    )
    ids = [gate["id"] for gate in result.verdict["gates"]]
    assert "deploy_guard.gates/test_environment.py::test_the_environment_is_named_and_complete" in ids
    assert all(name.startswith("deploy_guard.gates/") for name in ids)
    assert result.gate("test_the_environment_is_named_and_complete")["outcome"] == "passed", result.out


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["in process", "on workers"])
def test_a_blocking_gate_comes_first_and_keeps_the_others_from_running(project: Project, more: tuple[str, ...]) -> None:
    project.write("gates/test_a.py", "import pathlib\ndef test_a(): pathlib.Path('probed').touch()\n")
    project.write(
        "gates/test_z.py",
        "import os\nfrom deploy_guard import gate\n"
        "@gate('recoverable', blocking=True)\ndef test_one(): assert 'GOOD' in os.environ\n"
        "@gate('recoverable', blocking=True)\ndef test_two(): pass\n",
    )
    result = project.run("gates", *more)
    assert (result.code, result.outcome) == (1, "withheld"), result.out
    assert not (project.root / "probed").exists()
    assert [r["id"] for r in result.verdict["reasons"]] == ["gates/test_z.py::test_one"], "one reason, not one a gate"
    assert result.gate("test_a")["outcome"] == "not-run"
    assert "not judged: gates/test_z.py::test_one failed" in result.gate("test_a")["message"]
    assert result.gate("test_two")["outcome"] == "passed", "all that is wrong is told at once"
    again = project.run("gates", *more, GOOD="1")
    assert (again.code, again.outcome) == (0, "shipped"), again.out
    assert (project.root / "probed").exists()


def test_a_blocking_gate_that_only_warns_blocks_nothing(project: Project) -> None:
    project.write(
        "gates/test_z.py", "from deploy_guard import gate\n@gate('warn', blocking=True)\ndef test_w(): assert 0\n"
    )
    result = project.run("gates")
    assert (result.code, result.outcome) == (0, "shipped"), result.out


def test_a_post_check_can_not_block(project: Project) -> None:
    project.write(
        "gates/test_z.py", "import pytest\n@pytest.mark.post_check('warn', blocking=True)\ndef test_p(): pass\n"
    )
    result = project.run("gates")
    assert result.code == 2
    assert "it does not know blocking" in result.out
