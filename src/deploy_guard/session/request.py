"""What is asked for: the command line and the configuration, refused or made into a run."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy_guard import config as configuration
from deploy_guard.config import EnvironmentConfig
from deploy_guard.drivers.base import Release
from deploy_guard.errors import ConfigurationError
from deploy_guard.flow.model import Mode
from deploy_guard.ledger.store import FileStore
from deploy_guard.redact import Redactor
from deploy_guard.roots import Root, packaged
from deploy_guard.session.nouns import driver_context
from deploy_guard.session.progress import Progress, own_handle
from deploy_guard.session.run import Run
from deploy_guard.session.waivers import waivers_of

_KEYS = "name the keys with --set KEY=VALUE; --manifest PATH, --context and --namespace are some of them"


def refuse(config: pytest.Config) -> None:
    """Raise for whatever can never lead to a rollout that is right."""
    options = config.known_args_namespace
    if sys.platform == "win32" and not options.no_deploy:
        raise pytest.UsageError("on Windows gates can be run with --no-deploy only; deploy from Linux or macOS")
    if sys.flags.optimize:
        raise pytest.UsageError(
            "Python runs with -O or PYTHONOPTIMIZE, which removes assert statements: a gate could not fail. Unset it"
        )
    modes = ("no_deploy", "deploy_plan", "deploy_back")
    if len(given := [f"--{name.replace('_', '-')}" for name in modes if getattr(options, name)]) > 1:
        raise pytest.UsageError(f"{' and '.join(given)} exclude each other: say which one is meant")
    waivers_of(options)  # for its errors
    # `deploy-guard release --tag` judges the release alone, and tags what others roll out.
    if options.deploy_tag and (options.deploy_plan or (options.no_deploy and not options.deploy_standard)):
        raise pytest.UsageError("--deploy-tag tags what was rolled out, and nothing will be: remove one of the options")
    for name, package in (("timeout", "pytest-timeout"), ("junitxml", "pytest's JUnit XML")):
        if not config.pluginmanager.has_plugin(name):
            raise pytest.UsageError(
                f"{package} is switched off, and a release run needs it; remove -p no:{name} "
                "(it may stand in addopts or PYTEST_ADDOPTS)"
            )
    if getattr(options, "looponfail", False):
        raise pytest.UsageError("--looponfail runs tests again and again; a release is run once. Remove it")
    if getattr(options, "dist", "no") == "each":
        raise pytest.UsageError(
            "--dist=each runs every gate once on each worker, so no gate has one result; use -n N or --dist=load"
        )


def describe(config: pytest.Config) -> Run:
    """Return the run that the command line and the configuration ask for.

    :raises pytest.UsageError: for a configuration that can't be used.
    """
    options = config.known_args_namespace
    cwd = config.invocation_params.dir
    try:
        path = _find(options.file_or_dir, cwd)
        override = json.loads(options.deploy_override or "{}")
        settings = configuration.load(path, directory=path.parent if path else cwd, override=override)
        environment = settings.for_env(options.deploy_env)
        roots = _standard(options.deploy_standard) if options.deploy_standard else _gate_roots(config, environment)
        taken_back = _taken_back(environment) if options.deploy_back else None
        version = options.deploy_version or os.environ.get("VERSION", "").strip() or None
        if taken_back is not None:
            version = taken_back.version
        if override or not options.no_deploy:
            _check_driver(environment, version, named_by_option=bool(override))
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error
    if options.deploy_tag:
        _refuse_tag(environment, version)
    mode = Mode.CHECK if options.no_deploy else Mode.PLAN if options.deploy_plan else Mode.DEPLOY
    if taken_back is not None:
        mode = Mode.BACK
    started = datetime.now(UTC)
    redactor = Redactor.from_environment(os.environ, environment.hidden)
    reports = Path(options.deploy_reports) if options.deploy_reports else Path("reports") / environment.env
    return Run(
        id=f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        env=environment.env,
        mode=mode,
        version=version,
        config=environment,
        folder=(cwd / reports).absolute(),
        roots=roots,
        unnamed=_unnamed_roots(config, roots),
        named=bool(options.file_or_dir),
        started=started,
        redactor=redactor,
        arguments=tuple(str(arg) for arg in config.invocation_params.args),
        tag=options.deploy_tag,
        own_junit=options.xmlpath is None,
        taken_back=taken_back,
        screen=own_handle(),
        progress=Progress(redactor.redact),
    )


def _gate_roots(config: pytest.Config, environment: EnvironmentConfig) -> tuple[Root, ...]:
    """Return what has to run: the roots of the configuration, and the packages that the command line names.

    Without a configuration, the folders that the command line names, or ``gates/``.
    """
    options = config.known_args_namespace
    cwd = config.invocation_params.dir
    named = [str(arg).split("::", 1)[0] for arg in options.file_or_dir]
    roots = configuration.gate_roots(environment)
    packages = [packaged(arg) for arg in named if options.pyargs and not (cwd / arg).exists()]
    roots += [root for root in packages if root is not None and not any(r.holds(root.path.resolve()) for r in roots)]
    if roots or environment.path is not None:
        if not roots:
            raise ConfigurationError(
                f"{environment.path} names no gates, and there is no folder gates beside it: nothing would be checked",
                hint='write gates = ["..."], make the folder, or use the standard ones: '
                "add --pyargs deploy_guard.gates",
            )
        return tuple(roots)
    folders = [cwd / arg for arg in named if (cwd / arg).exists()] or [cwd / "gates"]
    folders = [folder if folder.is_dir() else folder.parent for folder in folders]
    return tuple(Root(folder, folder.name) for folder in dict.fromkeys(folders) if folder.is_dir())


def _refuse_tag(config: EnvironmentConfig, version: str | None) -> None:
    """Raise where it is known before anything runs that no tag can be made."""
    from deploy_guard.probes.repo import Repo

    repo, versions = Repo.of(config), config.releases.versions
    if version is None:
        raise pytest.UsageError("--deploy-tag needs a version: set VERSION, or give --deploy-version")
    if repo.problem:
        raise pytest.UsageError(f"--deploy-tag needs a git repository: {repo.problem}")
    if repo.commit is None:
        raise pytest.UsageError("--deploy-tag needs a commit: nothing has been committed yet")
    if not config.releases.guard and not versions.is_well_formed(version):  # with the guard on, a gate says so
        raise pytest.UsageError(f"--deploy-tag: the version {version!r} must be {versions.form}")


def _standard(names: str) -> tuple[Root, ...]:
    """Return the packaged standard gates by the names of their files, or ``all``."""
    root = packaged("deploy_guard.gates")
    if root is None:
        raise ConfigurationError("the standard gates are not installed", hint="install deploy-guard again")
    if names == "all":
        return (root,)
    files = [f"test_{name}.py" for name in names.split(",")]
    if gone := [file for file in files if not (root.path / file).is_file()]:
        raise ConfigurationError(f"there are no standard gates {', '.join(gone)}", hint="install deploy-guard again")
    return tuple(Root(root.path / file, f"{root.name}/{file}", root.package) for file in files)


def _check_driver(config: EnvironmentConfig, version: str | None, *, named_by_option: bool) -> None:
    """Refuse a driver that can't be made before anything runs.

    A conftest may bring another one, which nobody can know before it is collected: what the configuration says is
    wrong all the same.
    """
    if config.driver is None:
        return
    from deploy_guard.drivers import check_driver

    try:
        check_driver(config.driver, config.driver_config, driver_context(config, version))
    except ConfigurationError as error:
        if named_by_option:
            what, hint = f"--driver={config.driver}: {error.what}", error.hint or _KEYS
        else:
            what, hint = f"{config.path}: {error.what}", error.hint
        raise ConfigurationError(what, hint=hint) from error


def _taken_back(config: EnvironmentConfig) -> Release:
    """Return the release that a run goes back from; an empty one where there is none."""
    store = FileStore(config.directory / ".deploy-guard", config.env)
    record = store.load() or store.shipped() or {"release": {"version": None, "commit": None}}
    return Release(record["release"]["version"], record["release"]["commit"])


def _find(args: list[str], cwd: Path) -> Path | None:
    """Search from what is named on the command line upward; without a configuration there, from where we are."""
    found: list[Path] = []
    for arg in args:
        start = cwd / str(arg).split("::", 1)[0]
        if start.exists() and (path := configuration.find(start)) is not None and path not in found:
            found.append(path)
    if len(found) > 1:
        raise ConfigurationError(
            "the arguments belong to more than one configuration: " + ", ".join(map(str, found)),
            hint="one run ships one service to one environment: run them one after the other",
        )
    return found[0] if found else configuration.find(cwd)


def arguments(config: pytest.Config, run: Run) -> list[str]:
    """Return the command line for the session: the user's own, with the record's files added in front."""
    extra = [f"--deploy-run={run.id}"]
    if run.own_junit:
        suite = f"{run.config.name}.{run.env}"
        extra += [f"--junitxml={run.folder / 'junit.xml'}"]
        extra += ["-o", f"junit_suite_name={suite}", "-o", "junit_logging=all"]
    return [*extra, *(str(arg) for arg in config.invocation_params.args), *_folders(config, run)]


def _folders(config: pytest.Config, run: Run) -> list[str]:
    """Return the folders that the session shall collect too, where nothing is named: not what it would take itself.

    Roots elsewhere are added when the session collects: named here, they would move pytest's root folder.
    """
    if config.known_args_namespace.file_or_dir:
        return []
    cwd = config.invocation_params.dir
    return [str(root.path) for root in run.roots if not root.package and root.path.is_relative_to(cwd)]


def _unnamed_roots(config: pytest.Config, roots: Iterable[Root]) -> tuple[str, ...]:
    """Return the gate roots that the command line says nothing about: all of them must run."""
    cwd = config.invocation_params.dir
    named = [(cwd / str(arg).split("::", 1)[0]).resolve() for arg in config.known_args_namespace.file_or_dir]
    if config.known_args_namespace.pyargs:
        named += [root.path.resolve() for arg in config.known_args_namespace.file_or_dir if (root := packaged(arg))]
    return tuple(
        str(root.path)
        for root in roots
        if not any(root.holds(arg) or arg in root.path.resolve().parents for arg in named)
    )
