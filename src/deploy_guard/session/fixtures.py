"""The fixtures: nouns that read aloud. Registered with ``--deploy-env`` only, to shadow nobody's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.config import EnvironmentConfig, load
from deploy_guard.drivers.base import Driver, Plan, Release
from deploy_guard.flow.model import Evidence, measure
from deploy_guard.probes.machine import Machine
from deploy_guard.probes.repo import Repo
from deploy_guard.probes.service import Service
from deploy_guard.redact import Secret
from deploy_guard.session import start
from deploy_guard.session.gates import EVIDENCE
from deploy_guard.session.nouns import configured_driver, known_release
from deploy_guard.session.run import Run


@dataclass(frozen=True)
class RolloutInfo:
    """What post-checks and rollback fixtures know of the rollout. ``plan`` is None in a rollback by another process."""

    env: str
    release: Release
    previous: str | None
    started_at: datetime
    target: str
    plan: Plan | None


class EvidenceLog:
    """What a gate measured; it stands in every report, whether the gate passes or fails."""

    def __init__(self, entries: list[Evidence], folder: Path) -> None:
        self._entries = entries
        self._folder = folder

    def threshold(
        self,
        name: str,
        value: float | None,
        *,
        warn: float | None = None,
        fail: float | None = None,
        unit: str = "",
        worse: str = "above",
    ) -> None:
        """Record a value with its limits; at or past ``fail`` the gate fails, at or past ``warn`` it passes warned.

        None and NaN fail as "no data". ``worse`` says in which direction the value gets worse: ``above`` or ``below``.
        """
        __tracebackhide__ = True
        entry = measure(name, value, warn=warn, fail=fail, unit=unit, worse=worse)
        self._entries.append(entry)
        if entry.status in ("fail", "no-data"):
            pytest.fail(entry.text, pytrace=False)

    def record(self, name: str, value: float | str | bool | None, unit: str = "") -> None:
        """Record something that has no limits."""
        self._entries.append(Evidence(name, value if isinstance(value, (int, float)) else str(value), unit))

    def attach(self, path: Path | str) -> Path:
        """Copy a file beside the reports, and name it in them; returns the copy.

        :raises FileNotFoundError: when there is no such file.
        """
        source = Path(path)
        folder = self._folder / "attachments"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / source.name
        number = 1
        while target.exists():
            target = folder / f"{source.stem}-{number}{source.suffix}"
            number += 1
        shutil.copyfile(source, target)
        self._entries.append(Evidence("attachment", f"attachments/{target.name}"))
        return target


@pytest.fixture(scope="session")
def deploy_run(pytestconfig: pytest.Config) -> Run:
    """The release run of this session."""
    return start.run_of(pytestconfig)


@pytest.fixture(scope="session")
def deploy_env(deploy_run: Run) -> str:
    """The environment, as given with --deploy-env."""
    return deploy_run.env


@pytest.fixture(scope="session")
def deploy_config(deploy_run: Run) -> EnvironmentConfig:
    """The configuration for this environment."""
    return deploy_run.config


@pytest.fixture(scope="session")
def deploy_settings(deploy_config: EnvironmentConfig) -> Mapping[str, Any]:
    """The user's own settings, those of the environment merged over the general ones."""
    return deploy_config.settings


@pytest.fixture(scope="session")
def deploy_settings_of(deploy_config: EnvironmentConfig) -> Callable[[str], Mapping[str, Any]]:
    """The settings of any environment, by its name: for gates that compare environments."""
    whole = load(deploy_config.path, directory=deploy_config.directory)
    return lambda env: whole.for_env(env).settings


@pytest.fixture(scope="session")
def release(deploy_run: Run) -> Release:
    """What is to be shipped: version, commit, branch, tag, previous."""
    return known_release(deploy_run)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The machine that the gates run on."""
    return Machine()


@pytest.fixture(scope="session")
def repo(deploy_config: EnvironmentConfig) -> Repo:
    """The git repository of the configuration file."""
    return Repo.of(deploy_config)


@pytest.fixture(scope="session")
def service(deploy_config: EnvironmentConfig) -> Service:
    """The service, by its URL: ``service-url`` of the configuration or ``SERVICE_URL``."""
    return Service.of(deploy_config)


@pytest.fixture(scope="session")
def secrets(deploy_config: EnvironmentConfig) -> Mapping[str, Secret]:
    """The secrets that are set, by name; ``Secret.reveal()`` is the only way to a value."""
    return Secret.from_environment(deploy_config.secret_groups)


@pytest.fixture
def evidence(request: pytest.FixtureRequest, deploy_run: Run) -> EvidenceLog:
    """What this gate measures: ``threshold``, ``record``, ``attach``."""
    return EvidenceLog(request.node.stash.setdefault(EVIDENCE, []), deploy_run.folder)


@pytest.fixture(scope="session")
def deploy_driver(deploy_run: Run) -> Driver:
    """The driver; override this in a conftest to bring one of your own."""
    return configured_driver(deploy_run)


@pytest.fixture
def rollout(pytestconfig: pytest.Config, deploy_run: Run) -> RolloutInfo:
    """The rollout under way, for post-checks and rollback fixtures."""
    state = start.rollout_of(pytestconfig)
    if state is None or (state.snapshot_ is None and state.plan_ is None and not state.unfinished):
        pytest.fail("the rollout fixture is for post-checks and rollback fixtures: nothing is rolled out yet", False)
    return RolloutInfo(deploy_run.env, state.release, state.previous, deploy_run.started, state.target, state.plan_)
