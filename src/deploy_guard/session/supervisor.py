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
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import pytest

from deploy_guard import log
from deploy_guard.report.files import ReportFolder
from deploy_guard.session import request, spool
from deploy_guard.session.nouns import find_facts
from deploy_guard.session.run import RUN_VARIABLE, Death, Run, Stage

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
    request.refuse(config)
    run = request.describe(config)
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
    arguments = request.arguments(config, run)
    code = _Watch(run, folder, arguments, config.invocation_params.plugins).code()
    folder.close()
    raise SystemExit(code)


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
            if self._run.version:  # gates that read the variable must not judge another version than the one that ships
                os.environ["VERSION"] = self._run.version
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
        return Death(
            text, item, bool(self._killed_for), spool.read(self._run.spool), self._signal, self._run.board.stage
        )

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
