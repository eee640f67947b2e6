"""The service process: started in a session of its own, known by pid and start time, stopped for certain."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.local.ready import address, answers, listens
from deploy_guard.errors import RolloutDoomed
from deploy_guard.ledger.files import remove_durably, write_json

MARKER = "DEPLOY_GUARD_SERVICE"
"""In the service's environment, the root it belongs to: how workers, and a start that was cut off, are found again."""
_ALLOWED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
)
_LOG_LIMIT = 10 * 1024 * 1024
_LAST_WORDS = 64 * 1024
_DWELL = 1.0
"""Seconds that a service must stay up when nothing but that tells that it is the one that answers."""
_KILL_PATIENCE = 5.0
_POLL = 0.05


class _Lasting(subprocess.Popen[bytes]):
    """A process that is meant to outlive this one."""

    def __del__(self) -> None:
        """Say nothing: Python warns of a process that is still running, and this one is to."""


_started: list[_Lasting] = []
"""Those of this run: when one ends early, the system keeps it as a zombie until it is asked for."""


class Service:
    """At most one service, recorded in ``<root>/service.json``.

    The record holds ``release``, ``pid``, ``created`` (its start time), ``argv`` and ``log`` (where its output begins);
    ``next`` while another is about to replace it, ``starting`` before its number is known.
    """

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._file = root / "service.json"
        self.log = root / "log" / "service.log"

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the process; empty when none was started."""
        try:
            data = json.loads(self._file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def alive(self) -> bool:
        """True while the recorded process, and no other of its number, is running."""
        return self._leader() is not None

    @property
    def anything(self) -> bool:
        """True while any process of a service of this root is running: its workers, or one whose start was cut off."""
        return bool(self._members())

    def serves(self, name: str) -> bool:
        """True while this release is the one that runs."""
        return self.record.get("release") == name and self.alive

    def listens(self, port: int) -> bool:
        """True when a process of the service is known to listen on a port."""
        return listens(self._members(), port)

    def environment(self, meta: Mapping[str, Any]) -> dict[str, str]:
        """Return the service's whole environment: an allow-list, what the configuration adds, the release."""
        names = [*_ALLOWED, *meta["environment"], *(n for n in self._environ if n.startswith("LC_"))]
        chosen = {name: self._environ[name] for name in names if name in self._environ}
        chosen.update(meta["variables"])
        chosen.update(release_variables(meta))
        chosen[MARKER] = str(self._root)
        return chosen

    def intend(self, name: str) -> None:
        """Write down that this release comes next; on a full disk this fails while the old one still runs."""
        write_json(self._file, {**self.record, "next": name})

    def handed_over(self, name: str, *, done: bool) -> None:
        """Write down which release another supervisor was told to run."""
        write_json(self._file, {"release": name, "by": "restart-command", "starting": not done})

    def start(self, name: str, folder: Path, meta: Mapping[str, Any]) -> None:
        """Start the release's command in its folder; raises ``RolloutDoomed`` when it can't be started."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        environ = self.environment(meta)
        argv = [resolved(meta["command"][0], folder, environ) or meta["command"][0], *meta["command"][1:]]
        # Intent first: if this run is killed between the start and the record of it, the next one knows to search.
        write_json(self._file, {"release": name, "starting": True})
        with self.log.open("ab") as log:
            log.write(f"--- deploy-guard starts {name}\n".encode())
            log.flush()
            offset = log.tell()
            try:
                process = _Lasting(
                    argv,
                    cwd=folder,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:  # ValueError: a null byte in a word
                remove_durably(self._file)
                raise RolloutDoomed(
                    f"the service can't be started: {argv[0]}: {error}", hint="check command and its file mode"
                ) from error
        _started.append(process)
        try:
            created = psutil.Process(process.pid).create_time()
        except psutil.NoSuchProcess:  # it ended at once; waiting for it tells why
            created = 0.0
        command = meta["command"]
        write_json(
            self._file,
            {"release": name, "pid": process.pid, "created": created, "argv": command, "log": offset},
        )
        print(f"service {name}: pid {process.pid}")

    def stop(self, timeout: float) -> None:
        """End every process of the service: terminate, wait, kill. Nothing is fine too.

        :raises RolloutDoomed: when even the kill did not end them.
        """
        left: list[psutil.Process] = []
        for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, _KILL_PATIENCE)):
            deadline = Deadline.after(patience)
            told: set[int] = set()
            while left := self._members():
                for process in left:
                    if process.pid not in told:
                        told.add(process.pid)
                        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                            process.send_signal(number)
                if deadline.expired:
                    break
                time.sleep(_POLL)
            if not left:
                break
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            raise RolloutDoomed(f"the service process {pids} does not end, not even by SIGKILL", hint="end it by hand")
        remove_durably(self._file)

    def wait(self, name: str, url: str | None, deadline: Deadline) -> None:
        """Return when the service is ready; raises ``RolloutDoomed`` as soon as it has ended, or at the deadline.

        An answer counts when the service itself listens on the port, or stays up for a second after it: the answer of
        another process on the port of a service that is about to fail must not do.
        """
        said, since = "no answer", None
        while True:
            leader = self._leader()
            if leader is None or self.record.get("release") != name:
                raise RolloutDoomed(f"the service ended before it was ready{self._last_words()}")
            if url is None:
                if time.time() - leader.create_time() >= _DWELL:
                    return
                said = "it has just been started"
            else:
                ready, said = answers(url, min(2.0, deadline.remaining or 0.1))
                if ready and self.serves(name):
                    since = since or time.monotonic()
                    if time.monotonic() - since >= _DWELL or self.listens(address(url)[1]):
                        return
                    said += ", from a process that may not be this service: it does not listen on that port"
                else:
                    since = None
            if deadline.expired:
                where = f"{url}: " if url else ""
                raise RolloutDoomed(
                    f"the service was not ready after {deadline.limit:.3g} s: {where}{said}{self._last_words()}",
                    hint="mend it, or give it more time with ready-timeout",
                )
            time.sleep(min(_POLL, deadline.remaining))

    def forget(self) -> None:
        """Remove the log of a service that was the first; its last lines are printed."""
        print(f"the log is removed with the first release{self._last_words()}")
        for path in (self.log, self.log.with_suffix(".log.1")):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or the user keeps something in it
            self.log.parent.rmdir()

    def _last_words(self) -> str:
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(int(self.record.get("log", 0)), end - _LAST_WORDS))
                lines = file.read().decode("utf-8", "replace").splitlines()[-25:]
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"; its log can't be read: {error}"
        return "; its last log lines:\n" + "\n".join(f"  {line}" for line in lines) if lines else "; its log is empty"

    def _leader(self) -> psutil.Process | None:
        record = self.record
        for process in _started:
            process.poll()  # an ended child of this process stays visible until it is asked for
        try:
            process_ = psutil.Process(int(record["pid"]))
            # Numbers are used again: the start time tells this process from a later one. The clock that it is told
            # in may have been set since; then the marker tells.
            same = abs(process_.create_time() - float(record["created"])) < 1.0 or self._marked(process_)
            return process_ if same and process_.status() != psutil.STATUS_ZOMBIE else None
        except (KeyError, psutil.Error):
            return None

    def _members(self) -> list[psutil.Process]:
        """Every process of the service: the leader, its group, and whoever carries the marker."""
        leader = self._leader()
        mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        found = []
        for process in psutil.process_iter():
            # Another user's process, or one that ended just now, is none of ours.
            with suppress(psutil.Error, ProcessLookupError, PermissionError):
                group = leader is not None and os.getpgid(process.pid) == leader.pid
                ours = process == leader or group or self._marked(process)
                if ours and process.pid not in mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _marked(self, process: psutil.Process) -> bool:
        return process.environ().get(MARKER) == str(self._root)


def release_variables(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that name a release, for its service and its commands."""
    named = {"VERSION": meta["version"], "COMMIT": meta["commit"], "DEPLOY_ENV": meta["env"]}
    return {name: value for name, value in named.items() if value}


def resolved(program: str, folder: Path, environ: Mapping[str, str]) -> str | None:
    """Return the path of a program: in the release where its name holds a slash, else from the PATH or the release."""
    path = folder / program
    inside = str(path) if path.is_file() and os.access(path, os.X_OK) else None
    if "/" in program:
        return inside
    return shutil.which(program, path=environ.get("PATH")) or inside
