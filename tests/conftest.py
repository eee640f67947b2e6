"""A project as a user has it, in a temporary folder, run by pytest in a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cli import Command
from gitrepo import HERMETIC, TOLD_BY_CI, Sandbox, new

FILE_DRIVER = '''
import json
import os
import pathlib
import time

import pytest

from deploy_guard import Change, PlanRejected, Plan, RolloutDoomed, Snapshot, VerifyFailed

HERE = pathlib.Path(__file__).resolve().parent.parent
TARGET = HERE / "target.json"
LOG = HERE / "driver.log"


def log(line):
    with LOG.open("a") as file:
        file.write(f"{line}\\n")


def now():
    return json.loads(TARGET.read_text()) if TARGET.exists() else None


class FileDriver:
    """Deploys a version into a file; DRIVER_FAULT names a step that goes wrong."""

    target = "file target.json"

    def __init__(self):
        self.fault = os.environ.get("DRIVER_FAULT", "")
        self.release = None

    def _step(self, name):
        log(name)
        if self.fault == name:
            raise {"plan": PlanRejected, "snapshot": PlanRejected}.get(name, RolloutDoomed)(f"{name} was told to fail")
        if self.fault == f"hang {name}":
            (HERE / "hanging").touch()
            time.sleep(60)
        if self.fault == f"die {name}":
            os._exit(0)

    def plan(self, release):
        self._step("plan")
        self.release = release
        return Plan((Change("none" if now() == release.version else "change", "file", f"{now()} -> {release.version}"),), "d")

    def snapshot(self, plan):
        self._step("snapshot")
        return Snapshot("file", 1, self.target, now(), now())

    def apply(self, plan):
        log("apply begins")
        TARGET.write_text(json.dumps(self.release.version))
        self._step("apply")

    def wait(self, plan, deadline):
        self._step("wait")

    def rollback(self, snapshot, deadline):
        self._step("rollback")
        if snapshot.data is None:
            TARGET.unlink(missing_ok=True)
        else:
            TARGET.write_text(json.dumps(snapshot.data))

    def verify(self, snapshot, deadline):
        self._step("verify")
        if now() != snapshot.data:
            raise VerifyFailed([f"target is {now()}, it was {snapshot.data}"])


@pytest.fixture(scope="session")
def deploy_driver():
    return FileDriver()
'''

PASSING = """
from deploy_guard import gate

@gate("critical")
def test_passes():
    pass
"""


@dataclass
class Result:
    """How a subprocess with pytest ended."""

    code: int
    out: str
    folder: Path

    @property
    def verdict(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / "verdict.json").read_text())
        return data

    @property
    def outcome(self) -> str:
        return str(self.verdict["outcome"])

    @property
    def codes(self) -> list[str]:
        return [reason["code"] for reason in self.verdict["reasons"]]

    def gate(self, name: str) -> dict[str, Any]:
        return next(g for g in self.verdict["gates"] if g["id"].endswith(name))

    def step(self, name: str) -> dict[str, Any]:
        return next(s for s in self.verdict["steps"] if s["name"] == name)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]


@dataclass
class Project:
    """A folder with gates, a driver that deploys into a file, and a way to run pytest in it."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    @property
    def target(self) -> str | None:
        """What is deployed."""
        path = self.root / "target.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def steps(self) -> list[str]:
        """What the driver did, in order, over all runs."""
        path = self.root / "driver.log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def applied(self) -> bool:
        return "apply begins" in self.steps

    def command(self, *args: str, env: str | None = "stage") -> list[str]:
        options = [f"--deploy-env={env}"] if env else []
        return [sys.executable, "-m", "pytest", *options, *args]

    def environ(self, **more: str) -> dict[str, str]:
        hidden = ("PYTEST_", "PYTHONDONTWRITEBYTECODE", "DEPLOY_GUARD_RUN", "CI", "JENKINS", "GITHUB_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        return {**clean, "VERSION": "v1.0.0", **self.env, **more}

    def run(
        self,
        *args: str,
        env: str | None = "stage",
        timeout: float = 60,
        more: dict[str, str] | None = None,
        **env_vars: str,
    ) -> Result:
        done = subprocess.run(
            self.command(*args, env=env),
            cwd=self.root,
            env=self.environ(**(more or {}), **env_vars),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return Result(done.returncode, done.stdout, self.root / "reports" / (env or ""))

    def start(self, *args: str, env: str = "stage", **more: str) -> subprocess.Popen[str]:
        """Start a run without waiting for it, in a process group of its own."""
        return subprocess.Popen(
            self.command(*args, env=env),
            cwd=self.root,
            env=self.environ(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ended(self, process: subprocess.Popen[str], env: str = "stage", timeout: float = 60) -> Result:
        out, _ = process.communicate(timeout=timeout)
        return Result(process.returncode, out, self.root / "reports" / env)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with one passing gate; ``gates/`` is the gate root."""
    made = Project(tmp_path)
    made.write("deploy-guard.toml", 'name = "shop"\ngates = ["gates"]\n')
    made.write("gates/conftest.py", FILE_DRIVER)
    made.write("gates/test_first.py", PASSING)
    return made


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command ``deploy-guard``, run in a folder that is empty unless ``project`` is asked for too."""
    return Command(tmp_path)


@pytest.fixture
def hermetic_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git as on an empty machine, outside of any CI service."""
    for name in TOLD_BY_CI:
        monkeypatch.delenv(name, raising=False)
    for name, value in HERMETIC.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def sandbox(tmp_path: Path, hermetic_git: None) -> Sandbox:
    """A repository with one commit."""
    made = new(tmp_path / "work")
    made.commit("Begin")
    return made
