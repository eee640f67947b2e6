"""The wheel that users install holds what a checkout has: gates, starter, schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli import Command
from wheels import install

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it is installed from its wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run([*argv, "--disable-pip-version-check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return install(next(folder.glob("deploy_guard-*.whl")), folder / "site")


def test_the_wheel_holds_the_standard_gates_and_the_starter(site: Path, command: Command) -> None:
    for path in (ROOT / "gates").glob("*.py"):
        assert (site / "deploy_guard/gates" / path.name).read_text() == path.read_text()
    assert not (site / "deploy_guard/gates").is_symlink()
    environ = {"PYTHONPATH": str(site), "SERVICE_URL": "http://127.0.0.1:1", "TOKEN": "x", "VERSION": "v1.0.0"}
    where = subprocess.run(
        [sys.executable, "-c", "import deploy_guard; print(deploy_guard.__file__)"],
        cwd=command.cwd,
        env=command.environ(**environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(site))
    done = command("env", "--env", "dev", "--json", **environ)
    assert (done.code, done.json["outcome"]) == (0, "checked"), done.err
    assert command("init", **environ).code == 0
    assert (command.cwd / "gates/test_host.py").read_text() == (ROOT / "gates/test_host.py").read_text()


def test_a_repository_whose_warnings_are_errors_can_be_rolled_out(site: Path, command: Command) -> None:
    (command.cwd / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (command.cwd / "gates").mkdir()
    (command.cwd / "gates/test_ok.py").write_text("def test_ok(): pass\n")
    (command.cwd / "shop").write_text("the artifact\n")
    options = ("--driver", "local", "--set", "root=out", "--set", "artifact=shop", "--version", "v1.0.0")
    done = command("apply", "--env", "dev", *options, PYTHONPATH=str(site))
    assert done.code == 0, done.out + done.err
    assert "Module already imported" not in done.out + done.err
