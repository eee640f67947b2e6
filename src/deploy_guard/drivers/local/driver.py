"""The local driver: copy, switch, start; and all of it back again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Change, Context, Plan, Release, Snapshot
from deploy_guard.drivers.local.config import LocalConfig
from deploy_guard.drivers.local.releases import Releases, digest_of, size_of
from deploy_guard.drivers.local.service import Service, answers, resolved
from deploy_guard.errors import CommandFailed, PlanRejected, RollbackFailed, RolloutDoomed, VerifyFailed
from deploy_guard.process import run

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SPARE = 1024 * 1024


class LocalDriver:
    """Deploys to folders and, if configured, a service process on the machine that the run is on."""

    Config: ClassVar[type[LocalConfig]] = LocalConfig

    def __init__(self, config: LocalConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._root = Path(os.path.abspath(context.directory / config.root))  # noqa: PTH100 - links are kept as they are
        self._artifact = context.directory / config.artifact
        self._releases = Releases(self._root)
        self._service = Service(self._root, context.environ)
        self.target = f"local {config.root}"

    # Looking

    def plan(self, release: Release) -> Plan:
        """Compare the artifact with what is current; nothing is changed."""
        version = release.version
        if version is None:
            raise PlanRejected("there is no version to release", hint="set VERSION or give --deploy-version=vX.Y.Z")
        if not _VERSION.fullmatch(version):
            raise PlanRejected(f"the version {version!r} can't be a folder's name", hint="use letters, digits, . _ + -")
        meta = self._meta(release)
        name = f"{version}-{meta['digest'][:12]}"
        current = self._current()
        self._check_room(name)
        self._check_command()
        self._check_port(current)
        old = current or "nothing"
        changes = [
            Change("none" if self._releases.has(name) else "create", f"release {name}"),
            Change("none" if current == name else "change", "current", "" if current == name else f"{old} -> {name}"),
        ]
        if self._config.command:
            running = self._service.serves(name)
            was = self._service.record.get("release", "none") if self._service.alive else "not running"
            changes.append(Change("none" if running else "change", "service", "" if running else f"{was} -> {name}"))
        elif self._config.restart_command:
            changes.append(
                Change("none" if current == name else "change", "service", "" if current == name else "restart")
            )
        return Plan(tuple(changes), meta["digest"], {"name": name, "meta": meta, "previous": current})

    def snapshot(self, plan: Plan) -> Snapshot:
        """Remember what is current and whether its service runs."""
        name = self._data(plan)["name"]
        current = self._current()
        previous = None
        if current is not None:
            previous = self._meta_of(current, PlanRejected)["version"]
            if not self._releases.has(current):
                raise PlanRejected(
                    f"the current release {current} is not complete: a rollback could not bring it back",
                    hint=f"deploy it again, or remove {self._root}",
                )
        data: dict[str, Any] = {
            "current": current,
            "running": self._service.alive,
            "new": name,
            "new_existed": self._releases.has(name),
        }
        return Snapshot("local", 1, self.target, previous, data)

    # Going forward

    def apply(self, plan: Plan) -> None:
        """Copy, run the commands before, switch, start."""
        data = self._data(plan)
        name, meta = data["name"], data["meta"]
        with _told("the release can't be copied"):
            if not self._releases.has(name):
                self._releases.add(name, self._artifact, meta)
                if digest_of(self._releases.path(name)) != meta["content"]:
                    raise RolloutDoomed("the artifact changed while it was copied", hint="build it before the run")
        self._commands(self._config.before, self._releases.path(name), meta, "before", self._config.command_timeout)
        if self._config.command:
            self._service.stop(self._config.stop_timeout)
        with _told("current can't be switched"):
            self._releases.switch(name)
        if self._config.command:
            with _told("the service can't be started"):
                self._service.start(name, self._releases.path(name), meta)
        elif self._config.restart_command:
            self._restart(meta, self._config.restart_command)

    def wait(self, plan: Plan, deadline: Deadline) -> None:
        """Wait for readiness, run the commands after, drop old releases."""
        data = self._data(plan)
        name, meta = data["name"], data["meta"]
        self._wait_ready(name, meta, deadline)
        if not plan.unchanged:
            self._commands(self._config.after, self._releases.path(name), meta, "after", deadline.remaining or 0.1)
            never = {name, str(data["previous"])}
            for old in self._releases.prune(self._config.keep, never):
                print(f"removed the old release {old}")

    # Going back

    def rollback(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Bring back what was current, and its service if it was running."""
        state: Any = snapshot.data
        old = state["current"]
        try:
            if old is None:
                self._service.stop(self._config.stop_timeout)
                self._releases.remove_all()
                return
            meta = self._meta_of(old, RollbackFailed)
            untouched = self._current() == old and (self._service.serves(old) or not state["running"])
            if untouched and not self._config.restart_command:
                print(f"{old} was never replaced")
            else:
                self._bring_back(old, meta, running=state["running"], deadline=deadline)
            if not state["new_existed"] and state["new"] != old:
                self._releases.remove(state["new"])
        except (OSError, RolloutDoomed, CommandFailed) as error:
            raise RollbackFailed(
                f"{old or 'nothing'} could not be brought back: {error}",
                hint=f"look at {self._root}: current, service.json and log/service.log",
            ) from error

    def _bring_back(self, old: str, meta: dict[str, Any], *, running: bool, deadline: Deadline) -> None:
        if meta["command"] or self._config.command:
            self._service.stop(self._config.stop_timeout)
        self._releases.switch(old)
        if meta["command"] and running:
            self._service.start(old, self._releases.path(old), meta)
        elif meta["restart_command"]:
            self._restart(meta, meta["restart_command"])
        if meta["restart_command"] or running:
            self._wait_ready(old, meta, deadline)
        elif meta["command"]:
            print(f"{old} was not running before, and is not started")

    def verify(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Compare with the snapshot: link, content, process, readiness."""
        state: Any = snapshot.data
        old = state["current"]
        differences = []
        current = self._current()
        if current != old:
            differences.append(f"current is {current or 'nothing'}, it was {old or 'nothing'}")
        if old is None:
            if self._service.alive:
                differences.append("a service is running, and none was")
        else:
            try:
                meta = self._meta_of(old, RollbackFailed)
                if digest_of(self._releases.path(old)) != meta["content"]:
                    differences.append(f"the files of {old} are not what was released")
                url = meta["ready_url"]
                if state["running"] and meta["command"] and not self._service.serves(old):
                    differences.append(f"the service of {old} is not running")
                elif url and (state["running"] or meta["restart_command"]):
                    ready, said = answers(url, min(5.0, deadline.remaining or 0.1))
                    if not ready:
                        differences.append(f"{url}: {said}")
            except (OSError, ValueError, RollbackFailed) as error:
                differences.append(f"{old} can't be read: {error}")
        if differences:
            raise VerifyFailed(differences, hint=f"look at {self._root}: current, service.json and log/service.log")

    def notices(self) -> tuple[str, ...]:
        """Say where the service ends with the job that started it."""
        if not self._config.command:
            return ()
        environ = self._context.environ
        places = {
            "KUBERNETES_SERVICE_HOST": "pod",
            "JENKINS_URL": "Jenkins build",
            "GITHUB_ACTIONS": "GitHub Actions job",
            "GITLAB_CI": "GitLab job",
            "INVOCATION_ID": "systemd unit",
        }
        for variable, place in places.items():
            if environ.get(variable):
                return (f"the service ends with this {place}; use restart-command and a supervisor to let it live on",)
        return ()

    # The parts

    def _meta(self, release: Release) -> dict[str, Any]:
        config = self._config
        try:
            if not self._artifact.exists():
                raise PlanRejected(f"the artifact {config.artifact} does not exist", hint="build it before the run")
            content = digest_of(self._artifact)
        except (OSError, ValueError) as error:
            raise PlanRejected(f"the artifact {config.artifact} can't be released: {error}") from error
        meta: dict[str, Any] = {
            "version": release.version,
            "commit": release.commit,
            "env": self._context.env,
            "content": content,
            "command": list(config.command) if config.command else None,
            "restart_command": list(config.restart_command) if config.restart_command else None,
            "ready_url": config.ready_url,
            "environment": list(config.environment),
            "variables": dict(config.variables),
        }
        identity = {key: value for key, value in meta.items() if key != "commit"}
        meta["digest"] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return meta

    def _current(self) -> str | None:
        try:
            return self._releases.current
        except OSError as error:
            raise PlanRejected(
                f"{self._root / 'current'} is not a link that deploy-guard made: {error}",
                hint="choose another root, or move it away",
            ) from error

    def _meta_of(self, name: str, kind: type[PlanRejected] | type[RollbackFailed]) -> dict[str, Any]:
        try:
            return self._releases.meta(name)
        except (OSError, ValueError) as error:
            raise kind(f"the release {name} can't be read: {error}", hint=f"look into {self._root}") from error

    @staticmethod
    def _data(plan: Plan) -> dict[str, Any]:
        assert isinstance(plan.data, dict)
        return plan.data

    def _check_room(self, name: str) -> None:
        there = next(path for path in (self._root, *self._root.parents) if path.exists())
        if not os.access(there, os.W_OK):
            raise PlanRejected(f"{there} can't be written to", hint="choose another root, or another user")
        if not self._releases.has(name):
            need, free = size_of(self._artifact) + _SPARE, shutil.disk_usage(there).free
            if free < need:
                raise PlanRejected(
                    f"the disk of {there} is too full: {need / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free"
                )

    def _check_command(self) -> None:
        folder = self._artifact if self._artifact.is_dir() else self._artifact.parent
        for argv in filter(None, (self._config.command, self._config.restart_command)):
            if resolved(argv[0], folder, self._context.environ) is None:
                raise PlanRejected(
                    f"the command {argv[0]!r} is neither in the artifact nor on the PATH, or not executable",
                    hint="install it, or write ./name for a file of the artifact",
                )

    def _check_port(self, current: str | None) -> None:
        url = self._config.ready_url
        if url is None or not self._config.command:
            return
        host, port = _address(url)
        if current is not None and self._service.left:
            before = self._meta_of(current, PlanRejected)["ready_url"]
            if before and _address(before) == (host, port):
                return
        try:
            info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise PlanRejected(f"ready-url: {host} can't be resolved: {error}") from error
        with socket.socket(info[0], info[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(info[4])
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PlanRejected(
                        f"port {port} of {host} is in use by a process that deploy-guard did not start",
                        hint="end that process, or choose another port in ready-url",
                    ) from error
                # Another machine's address, or a port that only the service may open: nothing is known.

    def _wait_ready(self, name: str, meta: dict[str, Any], deadline: Deadline) -> None:
        if meta["command"]:
            self._service.wait(name, meta["ready_url"], deadline)
        elif meta["ready_url"]:
            said = ""
            while not deadline.expired:
                ready, said = answers(meta["ready_url"], min(2.0, deadline.remaining or 0.1))
                if ready:
                    return
                Deadline.after(0.1).sleep()
            raise RolloutDoomed(f"{meta['ready_url']} was not ready after {deadline.limit:g} s: {said}")

    def _commands(
        self, commands: Sequence[Sequence[str]], folder: Path, meta: dict[str, Any], which: str, timeout: float
    ) -> None:
        environ = {**self._context.environ, **self._config.variables}
        environ["VERSION"] = str(meta["version"])
        for argv in commands:
            program = resolved(argv[0], folder, environ) or argv[0]
            print(f"{which}: {' '.join(argv)}")
            run([program, *argv[1:]], timeout=timeout, cwd=folder, env=environ, on_line=print).check()

    def _restart(self, meta: dict[str, Any], argv: Sequence[str]) -> None:
        environ = {**self._context.environ, "VERSION": str(meta["version"])}
        folder = self._releases.link.resolve()
        program = resolved(argv[0], folder, environ) or argv[0]
        timeout = self._config.command_timeout
        run([program, *argv[1:]], timeout=timeout, cwd=folder, env=environ, on_line=print, detach=True).check()


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except shutil.Error as error:
        # copytree gathers what went wrong with each file: (from, to, why)
        source, _, why = error.args[0][0]
        reason = "the disk is full" if os.strerror(errno.ENOSPC) in str(why) else f"{source}: {why}"
        raise RolloutDoomed(f"{what}: {reason}") from error
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise RolloutDoomed(f"{what}: {reason}") from error


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
