"""``kubectl proxy`` on a private unix socket: it holds the user's credentials, and answers to nobody but this run.

It runs by ``process.run`` in a thread, so it is under a guardian: when the run is gone, even by SIGKILL, it is ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import psutil

from deploy_guard import process
from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.drivers.unixhttp import LONGEST_PATH
from deploy_guard.errors import CommandFailed

FLAGS = (
    "--append-server-path",  # the address of a cluster may have a path, as behind Rancher; since kubectl 1.23
    "--accept-hosts=^localhost$",
    # The defaults differ between versions, and refuse more than they say: a ConfigMap "exec" in a namespace "pods".
    "--reject-paths=^/api/v1/namespaces/[^/]+/pods/[^/]+/(exec|attach|portforward|proxy)(/|$)",
)
_PATIENT = {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10", "HTTP2_PING_TIMEOUT_SECONDS": "5"}
"""After so long kubectl takes a connection for broken that nothing comes over; its own defaults are 30 and 15."""
_FOREVER = 14 * 24 * 3600.0
_FROZEN = 3.0
"""Seconds that kubectl may be stopped (SIGSTOP) before it is given up."""
_LOG_HEAD = re.compile(r"[IWEF]\d{4} [\d:.]+ +\d+ [^\]]+\] ")
"""Of a line that kubectl logs: time, process and place."""
_PREFIX = "deploy-guard-kubectl-"
_SOCKET = "api"
_STALE = 60.0
"""Seconds after which a folder that nobody holds was left by a run that was killed."""


class Proxy:
    """One run of ``kubectl proxy``.

    :param environ: kubectl's environment; it is found on its PATH.
    :raises CommandFailed: when there is no place for the socket.
    """

    def __init__(self, target: Target, environ: Mapping[str, str]) -> None:
        self._folder = private_folder(environ)
        self._held = os.open(self._folder, os.O_RDONLY)  # until the end of this process, however it comes
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.socket = self._folder / _SOCKET
        self.argv = target.kubectl("proxy", f"--unix-socket={self.socket}", *FLAGS)
        self.worked = False
        """Whether the API server ever did what was asked through it."""
        self._environ = {**_PATIENT, **environ}
        self._lines: deque[str] = deque(maxlen=25)
        self._serves, self._over = threading.Event(), threading.Event()
        self._why = ""
        self._reading, self._writing = os.pipe()
        self._thread = threading.Thread(target=self._run, name="kubectl proxy", daemon=True)
        self._pid: int | None = None
        self._frozen_since: float | None = None
        self._looked = 0.0

    def start(self, deadline: Deadline) -> None:
        """Start it, and return when it listens.

        :raises CommandFailed: when it ends, or does not listen in time.
        """
        self._thread.start()
        served = self._serves.wait(deadline.remaining)
        if not served or self.ended:
            why = self.ended or f"kubectl proxy did not begin to serve within {deadline.limit:.3g} s{self.said()}"
            self.stop()
            raise CommandFailed(why)

    @property
    def ended(self) -> str:
        """How it ended and what it said, for people; empty while it runs."""
        return self._why if self._over.is_set() else ""

    def wait_for_end(self, seconds: float) -> str:
        """As :attr:`ended`, where the end is a matter of moments: the socket tells of it before the guardian does."""
        self._over.wait(seconds)
        return self.ended

    def said(self) -> str:
        """The last lines of its output so far, ready to stand at the end of a message; empty when there are none."""
        lines = list(dict.fromkeys(self._lines))[-5:]
        return "".join(f"\n  kubectl: {line}" for line in lines)

    def frozen(self) -> bool:
        """True when it has been stopped (SIGSTOP) for a while. May be asked often."""
        now = time.monotonic()
        if now - self._looked < _FROZEN / 10:
            return self._frozen_since is not None and now - self._frozen_since > _FROZEN
        self._looked = now
        with contextlib.suppress(psutil.Error):  # it ended just now
            if self._pid is None:
                self._pid = self._find()
            if self._pid is not None and psutil.Process(self._pid).status() == psutil.STATUS_STOPPED:
                self._frozen_since = self._frozen_since or now
                return now - self._frozen_since > _FROZEN
        self._frozen_since = None
        return False

    def kill(self) -> None:
        """End it at once: for one that is frozen, and so can't end in an orderly way."""
        if self._pid is not None and not self._over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        self._over.wait(5)

    def stop(self) -> None:
        """End it, with everything it started, and remove its socket; once is enough."""
        if self._thread.is_alive():
            with contextlib.suppress(BrokenPipeError):  # it ended just now
                os.write(self._writing, b"x")
            self._thread.join()
        if self._folder.exists():
            os.close(self._writing)
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._held)

    def _run(self) -> None:
        try:
            result = process.run(
                self.argv, timeout=_FOREVER, env=self._environ, on_line=self._take, until=self._reading
            )
            self._why = f"kubectl proxy {process.ending(result.rc)}{self.said()}"
        except CommandFailed as error:  # it can't be started, or its guardian was ended
            self._why = error.what
        finally:
            os.close(self._reading)
            self._over.set()
            self._serves.set()  # start() need not wait any longer

    def _take(self, line: str) -> None:
        if line.startswith("Starting to serve"):
            self._serves.set()
        elif text := _LOG_HEAD.sub("", line).strip():
            self._lines.append(text)

    def _find(self) -> int | None:
        """Return kubectl's process: a child of the guardian, which is a child of this process."""
        word = self.argv[-len(FLAGS) - 1]
        own = psutil.Process(os.getpid())
        for child in own.children():
            if word in child.cmdline():
                return next((one.pid for one in child.children() if word in one.cmdline()), None)
        return None


def private_folder(environ: Mapping[str, str], longest: int = LONGEST_PATH) -> Path:
    """Make a folder that nobody else can enter, where a socket in it has a path that is short enough.

    Those beside it that runs left that were killed are removed.

    :raises CommandFailed: when there is no such place.
    """
    tried = []
    for place in dict.fromkeys((environ.get("TMPDIR") or tempfile.gettempdir(), "/tmp", "/var/tmp")):  # noqa: S108 - mkdtemp is safe there
        if len(os.fsencode(f"{os.path.abspath(place)}/{_PREFIX}12345678/{_SOCKET}")) > longest:  # noqa: PTH100 - no resolving
            tried.append(f"{place} is too long a path for a socket")
            continue
        try:
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)).absolute()
            _sweep(made)
            return made
        except OSError as error:
            tried.append(f"{place}: {error.strerror}")
    raise CommandFailed(
        "there is no folder for the private socket of kubectl proxy: " + "; ".join(tried),
        hint="set TMPDIR to a folder with a short path that can be written to",
    )


def _sweep(made: Path) -> None:
    """Remove folders beside this one that nobody holds: what is in them is a socket without a server."""
    for folder in made.parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, held by its run, or gone
            if time.time() - folder.stat().st_mtime < _STALE:
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
