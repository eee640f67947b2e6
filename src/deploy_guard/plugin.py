"""The pytest plugin's door: options, marks, and nothing else until ``--deploy-env`` is given.

Loaded in every pytest session of every user who has deploy-guard installed, so it imports nothing that pytest has not
imported already, and hides nobody's tests where there is no deploy-guard configuration.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_MARKS = (
    "gate(severity='critical', *, env=None, timeout=None, blocking=False): runs before a rollout.",
    "post_check(severity='critical', *, env=None, timeout=None): runs after a rollout; critical or warn.",
)
_NEEDS_ENV = {
    "deploy_version": "--deploy-version",
    "no_deploy": "--no-deploy",
    "deploy_plan": "--deploy-plan",
    "deploy_tag": "--deploy-tag",
    "deploy_reports": "--deploy-reports",
    "deploy_waive": "--deploy-waive",
    "deploy_reason": "--deploy-reason",
    "deploy_log_format": "--deploy-log-format",
    "deploy_standard": "--deploy-standard",
    "deploy_back": "--deploy-back",
    "deploy_override": "--deploy-override",
}
_configured: list[pytest.Config] = []
"""Sessions of this process that are under way; more than none, and a release run would be inside a test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, in a group of their own."""
    group = parser.getgroup("deploy-guard", "deployment gates (deploy-guard)")
    group.addoption(
        "--deploy-env",
        metavar="ENV",
        help="run the gates for this environment (dev, stage, prod, or those of the configuration) and, when every "
        "gate passed, roll the release out. Everything below needs this one.",
    )
    group.addoption(
        "--deploy-waive",
        metavar="ID",
        action="append",
        help="let the release pass though this gate fails; it still runs, and all records say that it was waived, by "
        "whom and why. Needs --deploy-reason; may be given more than once.",
    )
    group.addoption(
        "--deploy-reason",
        metavar="TEXT",
        action="append",
        help="why gates are waived: one reason for all, or one for each --deploy-waive, in order.",
    )
    group.addoption("--deploy-version", metavar="vX.Y.Z", help="the version to release; by default $VERSION.")
    group.addoption("--no-deploy", action="store_true", help="run the gates only; exit as they say.")
    group.addoption(
        "--deploy-plan",
        action="store_true",
        help="run the gates, then only plan the rollout and write plan.json; exit as the gates say.",
    )
    group.addoption(
        "--deploy-tag",
        action="store_true",
        help="tag the release, with its notes, once it is verified, and push the tag; when that fails the release "
        "stays, and the exit code is 1.",
    )
    group.addoption(
        "--deploy-reports", metavar="DIR", help="where this run's files are written; by default reports/ENV."
    )
    group.addoption(
        "--deploy-log-format",
        choices=("human", "json"),
        help="write the events of the run to standard error as well, as lines for people or as JSON lines.",
    )
    # Given by the command deploy-guard: standard gates instead of the configured ones, only the way back, and tables
    # that lie over those of the configuration file.
    group.addoption("--deploy-standard", metavar="NAME,…", help=argparse.SUPPRESS)
    group.addoption("--deploy-back", action="store_true", help=argparse.SUPPRESS)
    group.addoption("--deploy-override", metavar="JSON", help=argparse.SUPPRESS)
    # Given by deploy-guard itself to the session it watches; xdist hands it on to its workers with all the rest.
    group.addoption("--deploy-run", help=argparse.SUPPRESS)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Put a watching parent around a release run before the first line of the user's code is imported."""
    if early_config.known_args_namespace.deploy_env is not None:
        from deploy_guard.session import supervisor

        supervisor.enter(early_config, nested=bool(_configured))
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and for a release run the session that does the work."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    if config.option.help or config.option.version:
        return
    if config.option.deploy_env is None:
        given = [option for name, option in _NEEDS_ENV.items() if getattr(config.option, name)]
        if given:
            raise pytest.UsageError(f"{', '.join(given)} needs --deploy-env: say which environment is meant")
        config.pluginmanager.register(_PlainSession(config), "deploy_guard_plain")
    else:
        from deploy_guard.session import start

        start.configure(config)
    _configured.append(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Have the last word on the exit code of a release session: later writers change pytest's own."""
    if config.option.deploy_env is None or config.option.help or hasattr(config, "workerinput"):
        return (yield)
    from deploy_guard.session import start

    code, error = int(pytest.ExitCode.INTERNAL_ERROR), None
    try:
        code = int((yield) or 0)
    except pytest.UsageError:
        raise
    except BaseException as escaped:  # noqa: BLE001 - whatever escapes from pytest, the record decides the code
        error = escaped
    return start.last_word(config, code, error)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget the session."""
    if config in _configured:
        _configured.remove(config)


class _PlainSession:
    """An ordinary test session: gates are not unit tests, so where a configuration names them they stay out of it."""

    def __init__(self, config: pytest.Config) -> None:
        self._known: dict[Path, frozenset[Path]] = {}
        self._hidden: list[str] = []
        for arg in config.args:
            path = config.invocation_params.dir / arg.split("::", 1)[0]
            for folder in (path, *path.parents):
                if folder in self._roots(folder.parent):
                    raise pytest.UsageError(
                        f"{arg} holds deployment gates, which run for an environment: add --deploy-env=ENV "
                        "(and --no-deploy to run them without a rollout)"
                    )

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Leave the gate roots out."""
        if collection_path.suffix == ".py" or collection_path not in self._roots(collection_path.parent):
            return None
        self._hidden.append(collection_path.name)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say in one line what was left out."""
        if self._hidden:
            names = ", ".join(f"{name}/" for name in sorted(set(self._hidden)))
            terminalreporter.write_line(f"deploy-guard: {names} not collected: gates run with --deploy-env=ENV")

    def _roots(self, folder: Path) -> frozenset[Path]:
        """Return the gate roots of the configuration in this folder or, as in ``gates = ["ci/gates"]``, above it."""
        known = self._known.get(folder)
        if known is None:
            known = self._own_roots(folder)
            if folder.parent != folder:
                known |= self._roots(folder.parent)
            self._known[folder] = known
        return known

    @staticmethod
    def _own_roots(folder: Path) -> frozenset[Path]:
        if not (folder / "deploy-guard.toml").is_file() and not (folder / "pyproject.toml").is_file():
            return frozenset()
        from deploy_guard import configfile

        return configfile.gate_folders(folder)
