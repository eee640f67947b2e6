"""The parent that outlives the gates.

The process that was started forks before any of the user's code is imported. The child runs the pytest session; the
parent forwards signals, ends a session that hangs where no signal reaches it, and knows how the child ended: an
``os._exit(0)`` in a gate, a crash or a kill can't pass for a green build. When the session did not finish, the parent
forks once more, and the second session reports what the first had recorded and rolls back what it had begun.

Where there is no ``fork``, and under ``--pdb``, the session runs in the process itself; the verdict file that says
``incomplete`` is then the only witness of a process that vanishes.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import secrets
import select
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from deploy_guard import config as configuration
from deploy_guard import log
from deploy_guard.config import EnvironmentConfig
from deploy_guard.drivers.base import Context, Release
from deploy_guard.errors import ConfigurationError
from deploy_guard.flow.model import Mode
from deploy_guard.ledger.store import FileStore
from deploy_guard.redact import Redactor
from deploy_guard.report.files import ReportFolder
from deploy_guard.roots import Root, packaged
from deploy_guard.session import spool
from deploy_guard.session.nouns import find_facts
from deploy_guard.session.run import RUN_VARIABLE, Death, Run, Stage
from deploy_guard.session.waivers import waivers_of

GRACE = 3.0
"""Seconds that an item may run past its limit before it is ended from outside; the timeout inside comes first."""
STUCK = 10.0
"""Seconds that a session may take to react to a signal before it is ended."""

_FORWARDED = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)

active: Run | None = None
"""The run of this process, in the process that runs the session; None in the parent and in plain sessions."""


def enter(config: pytest.Config, *, nested: bool) -> None:
    """Return in the process that shall run the session; never return in the parent.

    :raises pytest.UsageError: for options and configurations that can't be used; nothing has run then.
    :raises SystemExit: in the parent, with the run's exit code.
    """
    global active  # noqa: PLW0603 - one process runs one session, and pytest.main takes no other messenger
    options = config.known_args_namespace
    if active is not None or options.deploy_run is not None:
        return  # inside the session already, or in one of its xdist workers
    if options.help or options.version:
        return  # pytest shows something and ends
    if nested or RUN_VARIABLE in os.environ:
        raise pytest.UsageError(
            "a release run was started inside a test or gate of another session: a gate can't deploy. "
            "Use --no-deploy in a process of its own, or start the second run after the first"
        )
    _refuse(config)
    run = _describe(config)
    folder = ReportFolder(run)
    try:
        folder.open()
    except BlockingIOError:
        sys.stderr.write(
            f"deploy-guard: WITHHELD: the reports folder {run.folder} is in use by another run; "
            "wait for it, or name another folder with --deploy-reports\n"
        )
        raise SystemExit(1) from None
    except OSError as error:
        raise pytest.UsageError(
            f"the reports folder {run.folder} can't be written to: {error}; name another one with --deploy-reports"
        ) from error
    if options.deploy_log_format:
        # A handle of its own: pytest takes the usual one away while tests run.
        run.log = log.sink(os.dup(2), options.deploy_log_format, run.redactor.redact, os.environ)
    if not hasattr(os, "fork") or options.usepdb or options.trace:
        active = run
        run.pid = os.getpid()
        return
    arguments = _arguments(config, run)
    code = _Watch(run, folder, arguments, config.invocation_params.plugins).code()
    folder.close()
    raise SystemExit(code)


def _refuse(config: pytest.Config) -> None:
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


def _describe(config: pytest.Config) -> Run:
    options = config.known_args_namespace
    cwd = config.invocation_params.dir
    try:
        path = _find(options.file_or_dir, cwd)
        override = json.loads(options.deploy_override or "{}")
        settings = configuration.load(path, directory=path.parent if path else cwd, override=override)
        environment = settings.for_env(options.deploy_env)
        if override:
            _check_driver(environment)
        roots = _standard(options.deploy_standard) if options.deploy_standard else _gate_roots(config, environment)
        taken_back = _taken_back(environment) if options.deploy_back else None
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from error
    version = options.deploy_version or os.environ.get("VERSION", "").strip() or None
    if options.deploy_tag:
        _refuse_tag(environment, version)
    mode = Mode.CHECK if options.no_deploy else Mode.PLAN if options.deploy_plan else Mode.DEPLOY
    if taken_back is not None:
        mode, version = Mode.BACK, taken_back.version
    started = datetime.now(UTC)
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
        redactor=Redactor.from_environment(os.environ, environment.hidden),
        arguments=tuple(str(arg) for arg in config.invocation_params.args),
        tag=options.deploy_tag,
        own_junit=options.xmlpath is None,
        taken_back=taken_back,
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


def _check_driver(config: EnvironmentConfig) -> None:
    """Refuse a driver that the command line names and that can't be made, before anything runs."""
    if config.driver is None:
        return
    from deploy_guard.drivers import make_driver

    try:
        make_driver(config.driver, config.driver_config, Context(config.name, config.env, config.directory))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"--driver={config.driver}: {error.what}", hint=error.hint or "name the keys with --set KEY=VALUE"
        ) from error


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


def _arguments(config: pytest.Config, run: Run) -> list[str]:
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


class _Watch:
    """One run seen from the parent: start the session, watch it, and report for it if it dies."""

    def __init__(self, run: Run, folder: ReportFolder, arguments: list[str], plugins: object) -> None:
        self._run = run
        self._folder = folder
        self._arguments = arguments
        self._plugins = plugins
        self._signal = ""
        self._signalled = 0.0
        self._killed_for = ""
        self._child = 0

    def code(self) -> int:
        """Run to the end and return the exit code."""
        self._run.spool = spool.create()
        self._run.facts = spool.create()
        with self._signals():
            ended = self._session(self._arguments)
            if self._run.board.stage is Stage.DONE:
                return self._run.board.code
            from deploy_guard.session import aftermath  # hardly ever needed, and it costs what ten gates do

            death = self._death(ended)
            refused = os.WIFEXITED(ended) and os.WEXITSTATUS(ended) == int(pytest.ExitCode.USAGE_ERROR)
            if refused and not death.reports and not death.item:
                # The options or a conftest were refused before anything ran; pytest has said why.
                return aftermath.refused(self._run, self._folder)
            self._run.death = death
            self._run.board.stage = Stage.GATES
            self._run.board.idle()
            self._killed_for = ""
            self._signalled = time.monotonic() if self._signal else 0.0
            self._session([*self._arguments, *aftermath.quiet_options(self._arguments)])
            if self._run.board.stage is Stage.DONE:
                return self._run.board.code
            return aftermath.without_pytest(self._run, self._folder, death)

    def _session(self, arguments: list[str]) -> int:
        """Fork, run pytest in the child, and return its wait status."""
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # A plugin may have started a thread; the child runs no code of that thread.
            warnings.simplefilter("ignore", DeprecationWarning)
            signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
            parent = os.getpid()
            # Both processes share what there is; to look through it for garbage would copy it, and this one, when it
            # ends, would look through it once more.
            gc.freeze()
            self._child = os.fork()
        if self._child == 0:
            self._become_session(arguments, parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        if self._run.death is None:
            find_facts(self._run)
        return self._wait()

    def _become_session(self, arguments: list[str], parent: int) -> NoReturn:
        global active  # noqa: PLW0603 - as above: how pytest.main in this process finds its run
        code = 2
        try:
            _die_with(parent)
            for number in _FORWARDED:
                signal.signal(number, self._before[number] or signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
            self._folder.forget()
            atexit._clear()  # noqa: SLF001 - what the parent registered is the parent's; multiprocessing does the same
            self._run.pid = os.getpid()
            os.environ[RUN_VARIABLE] = self._run.id
            active = self._run
            self._run.pause_collector()
            code = int(pytest.main(arguments, plugins=self._plugins))  # type: ignore[arg-type]
            atexit._run_exitfuncs()  # noqa: SLF001 - as above
        except SystemExit as error:  # a plugin's way out of pytest.main; its code counts as pytest's own
            code = error.code if isinstance(error.code, int) else 2
        except BaseException:  # noqa: BLE001 - whatever it is, it must not reach the code that called pytest in the parent
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError, ValueError):  # a closed stdout must not change the code
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> int:
        while True:
            done, status = os.waitpid(self._child, os.WNOHANG)
            if done:
                return status
            self._guard()
            readable, _, _ = select.select([self._wakeup], [], [], 0.2)
            if readable:
                os.read(self._wakeup, 4096)

    def _guard(self) -> None:
        """End a session that hangs where no Python code runs any more."""
        now = time.monotonic()
        item, until = self._run.board.current
        if until and now > until + GRACE:
            self._end("ran past its limit and did not react; ended from outside")
        elif (
            self._signalled
            and now > self._signalled + STUCK
            and item
            and self._run.board.stage in (Stage.GATES, Stage.APPLYING)
        ):
            self._end(f"did not react to {self._signal}; ended from outside")

    def _end(self, why: str) -> None:
        if not self._killed_for:
            from deploy_guard.session import aftermath

            self._killed_for = why
            aftermath.kill_family(self._child)

    def _death(self, status: int) -> Death:
        item, _ = self._run.board.current
        if os.WIFSIGNALED(status):
            try:
                name = signal.Signals(os.WTERMSIG(status)).name
            except ValueError:  # a real-time signal has a number only
                name = f"signal {os.WTERMSIG(status)}"
            text = self._killed_for or f"the process was ended by {name}"
        else:
            text = f"the process ended itself with exit code {os.WEXITSTATUS(status)} before the run was finished"
        return Death(text, item, bool(self._killed_for), spool.read(self._run.spool), self._signal)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Forward what asks the run to end; wake up when the child ends."""
        self._wakeup, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(self._wakeup, False)
        before_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._before = {number: signal.getsignal(number) for number in _FORWARDED}
        before_child = signal.signal(signal.SIGCHLD, lambda *_: None)
        for number, handler in self._before.items():
            # nohup and background jobs of a shell have a signal ignored on purpose; SIGTERM is never one of them
            if handler is not signal.SIG_IGN or number == signal.SIGTERM:
                signal.signal(number, self._forward)
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            signal.signal(signal.SIGCHLD, before_child)
            signal.set_wakeup_fd(before_fd)
            os.close(self._wakeup)
            os.close(writing)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        if not self._signal:
            self._signal = signal.Signals(number).name
            self._signalled = time.monotonic()
            self._run.interrupted = self._signal
            self._folder.interrupted(self._signal)
        elif self._run.board.stage is Stage.ROLLING_BACK:
            os.write(2, b"\ndeploy-guard: the rollback is under way and is finished first\n")
        if self._child:
            with contextlib.suppress(ProcessLookupError):  # it ended just now; waitpid tells the rest
                os.kill(self._child, number)


def _die_with(parent: int) -> None:
    """Make the kernel end this process when the parent is killed: nobody would be left to report for it.

    What is needed to finish the job is on disk by then. Linux only; elsewhere the session ends by itself.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(2)
