"""The local driver: copy, switch, start; and all of it back again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Change, Context, Plan, Release, Snapshot
from deploy_guard.drivers.local import checks, content
from deploy_guard.drivers.local.config import LocalConfig
from deploy_guard.drivers.local.ready import address, answers
from deploy_guard.drivers.local.releases import ArtifactChanged, Releases
from deploy_guard.drivers.local.service import Service, release_variables, resolved
from deploy_guard.errors import CommandFailed, PlanRejected, RollbackFailed, RolloutDoomed, VerifyFailed
from deploy_guard.process import run

_PROBE = 5.0
"""Seconds that verify gives the service to answer."""


class LocalDriver:
    """Deploys to folders and, if configured, a service process on the machine that the run is on.

    The service outlives the run on purpose; every other command runs under ``deploy_guard.process``.
    """

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
        version = checks.version(release.version)
        checks.root(self._root, self._artifact)
        files = checks.artifact(self._artifact, self._config.artifact)
        meta = self._meta(version, release.commit, files.digest)
        name = f"{version}-{meta['digest'][:12]}"
        current = self._current(PlanRejected)
        there = self._releases.has(name)
        if not there:
            checks.disk(self._root, files.size)
        environ = self._service.environment(meta)
        for argv in filter(None, (self._config.command, self._config.restart_command)):
            checks.command(argv, self._artifact, environ)
        if self._config.command and self._config.ready_url and not self._holds(self._config.ready_url, current):
            checks.port(self._config.ready_url)
        change = f"{current or 'nothing'} -> {name}"
        changes = [
            Change("none", f"release {name}") if there else Change("create", f"release {name}", self._diff(files)),
            Change("none", "current") if current == name else Change("change", "current", change),
        ]
        if self._config.command and self._service.serves(name) and current == name:
            changes.append(Change("none", "service"))
        elif self._config.command:
            was = self._service.record.get("release", "unknown") if self._service.alive else "not running"
            changes.append(Change("change", "service", f"{was} -> {name}: {shlex.join(self._config.command)}"))
        elif self._config.restart_command:
            again = current != name or not self._was_handed(name)
            diff = f"{change}: {shlex.join(self._config.restart_command)}"
            changes.append(Change("change", "service", diff) if again else Change("none", "service"))
        data = {"name": name, "version": version, "commit": release.commit, "content": files.digest}
        return Plan(tuple(changes), meta["digest"], {**data, "previous": current})

    def snapshot(self, plan: Plan) -> Snapshot:
        """Remember what is current and whether its service runs; how it is started is stored beside the release."""
        name = self._data(plan)["name"]
        current = self._current(PlanRejected)
        record = self._service.record
        data: dict[str, Any] = {
            "current": current,
            "running": self._service.alive,
            "service": {key: record[key] for key in ("release", "pid", "created") if key in record},
            "new": name,
            "new_existed": self._releases.has(name),
        }
        if current is None:
            url = self._config.ready_url if self._config.restart_command else None
            data["answered"] = bool(url) and answers(str(url), 2.0)[0]
            return Snapshot("local", 1, self.target, None, data)
        if not self._releases.has(current):
            raise PlanRejected(
                f"the current release {current} is not complete: a rollback could not bring it back",
                hint=f"end its service, remove {self._root}, and deploy again",
            )
        meta = self._meta_of(current, PlanRejected)
        data.update({key: meta[key] for key in ("command", "restart_command", "ready_url", "environment")})
        data["variables"] = sorted(meta["variables"])  # the names; the values stay on the target
        return Snapshot("local", 1, self.target, str(meta["version"]), data)

    # Going forward

    def apply(self, plan: Plan) -> None:
        """Copy, run the commands before, switch, start."""
        data = self._data(plan)
        name = data["name"]
        meta = self._meta(data["version"], data["commit"], data["content"])
        with _told("the release can't be copied; what served before still serves"):
            if not self._releases.has(name):
                self._releases.add(name, self._artifact, meta)
        folder = self._releases.path(name)
        self._commands(self._config.before, folder, meta, "before", self._config.command_timeout)
        if self._config.command and self._current(RolloutDoomed) == name and self._service.serves(name):
            return  # done already
        with _told("the switch can't be made; what served before still serves"):
            if self._config.command or self._service.record:
                self._service.intend(name)
            self._releases.switch(name)
        with _told("the service can't be started"):
            if self._service.anything:  # the old release had a command, even if this one has none
                self._service.stop(self._config.stop_timeout)
            if self._config.command:
                self._service.start(name, folder, meta)
            elif self._config.restart_command:
                self._restart(name, meta)

    def wait(self, plan: Plan, deadline: Deadline) -> None:
        """Wait until ready, run the commands after, drop old releases."""
        data = self._data(plan)
        name = data["name"]
        meta = self._meta(data["version"], data["commit"], data["content"])
        self._wait_ready(name, meta, deadline)
        if plan.unchanged:
            return
        self._commands(self._config.after, self._releases.path(name), meta, "after", deadline.remaining or 0.1)
        for old in self._releases.prune(self._config.keep, {name, str(data["previous"])}):
            print(f"removed the old release {old}")

    # Going back

    def rollback(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Bring back what was current, and its service if it was running."""
        state: Any = snapshot.data
        old = state["current"]
        try:
            if old is None:
                self._service.stop(self._config.stop_timeout)
                self._releases.unlink()
                self._remove_new(state)
                if self._releases.remove_empty() and self._service.log.exists():
                    self._service.forget()
                self._releases.remove_empty()
                if self._config.restart_command:
                    print("another supervisor runs the service: if it was started, end it there")
            else:
                self._bring_back(old, state, deadline)
        except (OSError, RolloutDoomed, CommandFailed) as error:
            raise RollbackFailed(
                f"{old or 'nothing'} could not be brought back: {error}", hint=self._where_to_look
            ) from error

    def _bring_back(self, old: str, state: Mapping[str, Any], deadline: Deadline) -> None:
        meta = self._meta_of(old, RollbackFailed)
        if not self._releases.path(old).is_dir():
            raise RollbackFailed(f"the files of {old} are gone", hint=f"deploy {meta['version']} again")
        running = state["running"]
        untouched = self._current(RollbackFailed) == old and (
            self._was_handed(old)
            if meta["restart_command"]
            else (self._service.serves(old) if running else not self._service.anything)
        )
        if untouched:
            idle = meta["command"] and not running
            print(f"{old} was not replaced" + ("; it was not running before, and is not started" if idle else ""))
        else:
            if self._service.anything or meta["command"]:
                self._service.stop(self._config.stop_timeout)
            self._releases.switch(old)
        self._remove_new(state)  # before the old one is started: the disk may be full
        if not untouched:
            if meta["command"] and running:
                self._service.start(old, self._releases.path(old), meta)
            elif meta["restart_command"]:
                self._restart(old, meta)
            elif meta["command"]:
                print(f"{old} was not running before, and is not started")
        if running or not meta["command"]:
            self._wait_ready(old, meta, deadline)

    def _remove_new(self, state: Mapping[str, Any]) -> None:
        self._releases.sweep()
        if not state["new_existed"] and state["new"] != state["current"]:
            self._releases.remove(state["new"])

    def verify(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Compare with the snapshot: link, files, process, readiness."""
        state: Any = snapshot.data
        old = state["current"]
        try:
            current = self._releases.current
        except OSError as error:
            current = f"no link ({error.strerror})"
        differences = [] if current == old else [f"current is {current or 'nothing'}, it was {old or 'nothing'}"]
        if old is None:
            if self._service.anything:
                differences.append("a service is running, and none was")
            if not state["new_existed"] and self._releases.path(state["new"]).exists():
                differences.append(f"the release {state['new']} is still there")
            url = self._config.ready_url if self._config.restart_command else None
            if url and not state.get("answered") and answers(url, _PROBE)[0]:
                differences.append(f"{url} still answers, and did not before: end the service in its supervisor")
        else:
            try:
                differences += self._differences_of(old, running=state["running"], deadline=deadline)
            except (OSError, ValueError) as error:
                differences.append(f"{old} can't be read: {error}")
        if differences:
            raise VerifyFailed(differences, hint=self._where_to_look)

    def _differences_of(self, old: str, *, running: bool, deadline: Deadline) -> list[str]:
        meta = self._releases.meta(old)
        found = [f"{old}: {text}" for text in self._releases.files(old).differences(self._releases.path(old))]
        if meta["command"] and not running:
            return [*found, "a service is running, and none was"] if self._service.anything else found
        try:
            if meta["command"] and not self._service.serves(old):
                found.append(f"the service of {old} is not running")
            else:
                self._wait_ready(old, meta, Deadline.after(min(_PROBE, deadline.remaining or 0.1)))
        except RolloutDoomed as error:
            found.append(error.what)
        return found

    def notices(self) -> tuple[str, ...]:
        """Say where the service ends, or may end, with the job that started it."""
        if not self._config.command:
            return ()
        # Pods and units end every process in them; CI agents end those that they find.
        places = {
            "KUBERNETES_SERVICE_HOST": "ends with this pod",
            "JENKINS_URL": "may end with this Jenkins build",
            "GITHUB_ACTIONS": "ends with this GitHub Actions job, unless the runner is your own",
            "GITLAB_CI": "may end with this GitLab job",
            "BUILD_ID": "may end with this build",
            "INVOCATION_ID": "ends with this systemd unit",
        }
        for variable, ends in places.items():
            if self._context.environ.get(variable):
                return (f"the service {ends}; restart-command and a supervisor let it live on",)
        return ()

    # The parts

    def _meta(self, version: str, commit: str | None, digest: str) -> dict[str, Any]:
        """Return what is stored beside a release: what it is, and how it is started."""
        config = self._config
        meta: dict[str, Any] = {
            "version": version,
            "env": self._context.env,
            "content": digest,
            "command": list(config.command) if config.command else None,
            "restart_command": list(config.restart_command) if config.restart_command else None,
            "ready_url": config.ready_url,
            "environment": list(config.environment),
            "variables": dict(config.variables),
        }
        identity = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
        return {**meta, "commit": commit, "ready_timeout": config.ready_timeout, "digest": identity}

    def _diff(self, files: content.Content) -> str:
        try:
            current = self._releases.current
            return files.diff(self._releases.files(current) if current else None)
        except (OSError, ValueError):  # snapshot refuses it, and says so; here it only costs the comparison
            return files.diff(None)

    def _current(self, kind: type[PlanRejected] | type[RolloutDoomed] | type[RollbackFailed]) -> str | None:
        try:
            return self._releases.current
        except OSError as error:
            raise kind(
                f"{self._releases.link} is not a link that deploy-guard made: {error.strerror}",
                hint="choose another root, or move it away",
            ) from error

    def _meta_of(self, name: str, kind: type[PlanRejected] | type[RollbackFailed]) -> dict[str, Any]:
        try:
            return self._releases.meta(name)
        except (OSError, ValueError) as error:
            raise kind(
                f"the release {name} can't be read: {error}",
                hint=f"end its service, remove {self._root}, and deploy again",
            ) from error

    @staticmethod
    def _data(plan: Plan) -> dict[str, Any]:
        assert isinstance(plan.data, dict)
        return plan.data

    @property
    def _where_to_look(self) -> str:
        return f"look at {self._root}: current, service.json and log/service.log"

    def _was_handed(self, name: str) -> bool:
        record = self._service.record
        return record.get("release") == name and not record.get("starting")

    def _holds(self, url: str, current: str | None) -> bool:
        """True when the port is that of the service that runs now, which is stopped before the next one starts."""
        where = address(url)
        if not self._service.anything:
            return False
        before = self._meta_of(current, PlanRejected)["ready_url"] if current is not None else None
        return (before is not None and address(before) == where) or self._service.listens(where[1])

    def _wait_ready(self, name: str, meta: Mapping[str, Any], deadline: Deadline) -> None:
        limit = Deadline.after(min(deadline.remaining, meta["ready_timeout"]))
        url = meta["ready_url"]
        self._context.progress(f"waiting for {url or name}, at most {limit.limit:.3g} s")
        if meta["command"]:
            self._service.wait(name, url, limit)
        elif url:
            ready, said = False, "no time was left to ask"
            while not limit.expired:
                ready, said = answers(url, min(2.0, limit.remaining or 0.1))
                if ready:
                    return
                Deadline.after(min(0.1, limit.remaining)).sleep()
            raise RolloutDoomed(f"{url} was not ready after {limit.limit:.3g} s: {said}")

    def _commands(
        self, commands: Sequence[Sequence[str]], folder: Path, meta: Mapping[str, Any], which: str, timeout: float
    ) -> None:
        limit = Deadline.after(timeout)
        for argv in commands:
            self._say(f"{which}: {shlex.join(argv)}")
            self._command(argv, folder, meta, limit.remaining or 0.1, detach=False)

    def _restart(self, name: str, meta: Mapping[str, Any]) -> None:
        self._service.handed_over(name, done=False)
        timeout = self._config.command_timeout
        self._command(meta["restart_command"], self._releases.path(name), meta, timeout, detach=True)
        self._service.handed_over(name, done=True)

    def _command(
        self, argv: Sequence[str], folder: Path, meta: Mapping[str, Any], timeout: float, *, detach: bool
    ) -> None:
        environ = {**self._context.environ, **meta["variables"], **release_variables(meta)}
        program = resolved(argv[0], folder, environ) or argv[0]
        run([program, *argv[1:]], timeout=timeout, cwd=folder, env=environ, on_line=self._say, detach=detach).check()

    def _say(self, line: str) -> None:
        print(line)
        self._context.progress(line)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the file system says into the end of the rollout."""
    try:
        yield
    except ArtifactChanged as error:
        raise RolloutDoomed(
            f"{what}: the artifact changed after it was planned", hint="build it before the run"
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RolloutDoomed(
            f"{what}: {'the disk is full' if full else error}", hint="make room, or lower keep" if full else ""
        ) from error
    except ValueError as error:  # a link that leads out appeared in the artifact after the plan
        raise RolloutDoomed(f"{what}: {error}", hint="build the artifact before the run") from error
