"""The service process: started in a session of its own, known by pid and start time, stopped for certain."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from deploy_guard.deadline import Deadline
from deploy_guard.errors import RolloutDoomed
from deploy_guard.ledger.files import remove_durably, write_json

MARKER = "DEPLOY_GUARD_SERVICE"
"""In the service's environment, the root it belongs to: how a start that was cut off is found again."""
_ALLOWED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_LOG_LIMIT = 10 * 1024 * 1024
_DWELL = 1.0
"""Seconds that a service without a readiness URL must stay up."""
_started: list[subprocess.Popen[bytes]] = []
"""Kept, because Python complains about the garbage of a process that lives on, as it is meant to."""


class Service:
    """At most one process, recorded in ``<root>/service.json``."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ
        self._file = root / "service.json"
        self.log = root / "log" / "service.log"

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the process: pid, created, release; empty when none was started."""
        try:
            data = json.loads(self._file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    @property
    def alive(self) -> bool:
        """True while the recorded process, and no other of its number, is running."""
        return self._process() is not None

    @property
    def left(self) -> bool:
        """True while any process of ours runs, also one whose start was cut off before it was recorded."""
        return bool(self._processes())

    def serves(self, name: str) -> bool:
        """True while this release is the one that runs."""
        return self.record.get("release") == name and self.alive

    def environment(self, meta: Mapping[str, Any]) -> dict[str, str]:
        """Return the service's whole environment: an allow-list, what the configuration adds, the release."""
        names = [*_ALLOWED, *meta["environment"], *(n for n in self._environ if n.startswith("LC_"))]
        chosen = {name: self._environ[name] for name in names if name in self._environ}
        chosen.update(meta["variables"])
        release = {"VERSION": meta["version"], "COMMIT": meta["commit"], "DEPLOY_ENV": meta["env"]}
        chosen.update({name: value for name, value in release.items() if value})
        chosen[MARKER] = str(self._root)
        return chosen

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
                process = subprocess.Popen(
                    argv,
                    cwd=folder,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                remove_durably(self._file)
                raise RolloutDoomed(
                    f"the service can't be started: {argv[0]}: {error.strerror}", hint="check command and its file mode"
                ) from error
        _started.append(process)
        with suppress(psutil.NoSuchProcess):  # it ended at once; waiting for it tells why
            created = psutil.Process(process.pid).create_time()
            write_json(
                self._file,
                {"release": name, "pid": process.pid, "created": created, "argv": meta["command"], "log": offset},
            )
        print(f"service {name}: pid {process.pid}")

    def stop(self, timeout: float) -> None:
        """End the process and its group: terminate, wait, kill. Nothing is fine too.

        :raises RolloutDoomed: when even the kill did not end it.
        """
        for process in self._processes():
            self._end(process, timeout)
        remove_durably(self._file)

    def wait(self, name: str, url: str | None, deadline: Deadline) -> None:
        """Return when the service is ready; raises ``RolloutDoomed`` as soon as it has ended, or at the deadline."""
        up_since = time.monotonic()
        said = ""
        while True:
            if not self.serves(name):
                raise RolloutDoomed(f"the service ended before it was ready{self._last_words()}")
            if url is None:
                if time.monotonic() - up_since >= _DWELL:
                    return
            else:
                ready, said = answers(url, min(2.0, deadline.remaining or 0.1))
                if ready and self.serves(name):
                    return
            if deadline.expired:
                raise RolloutDoomed(
                    f"the service was not ready after {deadline.limit:g} s: {url}: {said}{self._last_words()}"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        try:
            with self.log.open("rb") as file:
                file.seek(int(self.record.get("log", max(0, self.log.stat().st_size - 65536))))
                lines = file.read()[-65536:].decode("utf-8", "replace").splitlines()[-25:]
        except OSError as error:
            return f"; its log can't be read: {error}"
        return "; its last log lines:\n" + "\n".join(f"  {line}" for line in lines) if lines else "; its log is empty"

    def _process(self) -> psutil.Process | None:
        record = self.record
        try:
            process = psutil.Process(int(record["pid"]))
            # Numbers are used again: the start time tells this process from a later one.
            same = abs(process.create_time() - float(record["created"])) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (KeyError, psutil.Error):
            return None

    def _processes(self) -> list[psutil.Process]:
        process = self._process()
        if process is not None:
            return [process]
        if not self.record.get("starting"):
            return []
        found = []
        for candidate in psutil.process_iter():
            with suppress(psutil.Error):
                if candidate.environ().get(MARKER) == str(self._root) and candidate.status() != psutil.STATUS_ZOMBIE:
                    found.append(candidate)
        return found

    @staticmethod
    def _end(process: psutil.Process, timeout: float) -> None:
        for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
            # It leads a group of its own; its workers are ended with it.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with suppress(psutil.Error):
                process.send_signal(number)
            for child in _started:
                child.poll()
            deadline = Deadline.after(patience)
            while not deadline.expired:
                with suppress(psutil.Error):
                    if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                        for child in _started:
                            child.poll()
                        time.sleep(0.02)
                        continue
                return
        raise RolloutDoomed(f"the old service process {process.pid} does not end, not even by SIGKILL")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def answers(url: str, timeout: float) -> tuple[bool, str]:
    """Ask a URL once: whether it answered 2xx, and what it said. No proxy, no redirect."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(url, timeout=timeout) as response:
            return 200 <= response.status < 300, f"status {response.status}"
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection
            return False, f"status {error.code}"
    except (OSError, ValueError) as error:  # refused, timed out, reset, or half an answer
        return False, str(error)


def resolved(program: str, folder: Path, environ: Mapping[str, str]) -> str | None:
    """Return the path of a program: relative to the release where it holds a slash, else from the PATH."""
    if "/" in program:
        path = folder / program
        return str(path) if path.is_file() and os.access(path, os.X_OK) else None
    return shutil.which(program, path=environ.get("PATH"))
