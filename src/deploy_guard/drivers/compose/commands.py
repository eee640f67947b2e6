"""The commands of docker that are run, and what they say."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deploy_guard.drivers.base import Context, Release
from deploy_guard.drivers.compose import masks
from deploy_guard.drivers.compose.config import ComposeConfig
from deploy_guard.errors import CommandFailed, PlanRejected
from deploy_guard.process import CommandResult, run
from deploy_guard.redact import Redactor

LOWEST = (2, 20)
"""The first Compose that knows all of what today's files hold (``include``, ``depends_on.required``), and whose dry run
covers ``up``."""
_AMBIENT = (
    *("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES", "COMPOSE_REMOVE_ORPHANS"),
    *("COMPOSE_STATUS_STDOUT", "COMPOSE_PROGRESS", "COMPOSE_ANSI", "COMPOSE_MENU"),
)
"""Variables that would change which project is meant, or how Compose speaks: the configuration alone decides."""
_WARNING = re.compile(r'level=warning msg="((?:[^"\\]|\\.)*)"')
_UNSET = re.compile(r'The "(\w+)" variable is not set')
_USUAL = ("/var/run/docker.sock", "/run/docker.sock")
_QUESTION = 20.0
"""Seconds for what only reads files or asks the engine."""


@dataclass(frozen=True)
class Commands:
    """Makes and runs the commands for one project.

    :param release: its version and commit are there for Compose's own interpolation; None on the way back.
    """

    config: ComposeConfig
    context: Context
    project: str
    release: Release | None = None
    redactor: Redactor = field(default_factory=lambda: Redactor({}))

    @property
    def docker(self) -> tuple[str, ...]:
        """The words that every command begins with."""
        return ("docker", "--context", self.config.context) if self.config.context else ("docker",)

    @property
    def files(self) -> tuple[Path, ...]:
        """The Compose files."""
        return tuple(self.context.directory / name for name in self.config.files)

    def environ(self) -> dict[str, str]:
        """Return the environment of every command."""
        environ = {name: value for name, value in self.context.environ.items() if name not in _AMBIENT}
        environ["DEPLOY_ENV"] = self.context.env
        if self.release is not None:
            named = {"VERSION": self.release.version, "COMMIT": self.release.commit}
            environ.update({name: value for name, value in named.items() if value})
        return environ

    def compose(self, *words: str) -> tuple[str, ...]:
        """Return a command of Compose, as a person would type it in the configuration's folder."""
        options = ["--project-name", self.project]
        for option, values in (
            ("--file", self.config.files),
            ("--env-file", self.config.env_files),
            ("--profile", self.config.profiles),
        ):
            options += [word for value in values for word in (option, value)]
        return (*self.docker, "compose", *options, *words)

    def shown(self, *words: str) -> str:
        """Return such a command for people."""
        return "$ " + shlex.join(self.compose(*words))

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        input: str | None = None,  # noqa: A002 - as in process.run
        live: bool = False,
        watch: Callable[[], None] | None = None,
    ) -> CommandResult:
        """Run a command in the configuration's folder; with ``live``, its lines are shown and kept."""

        def show(line: str) -> None:
            if line.strip():
                print(self.redactor.redact(line))
                self.context.progress(self.redactor.redact(line.strip()))

        return run(
            argv,
            timeout=self.config.timeout if timeout is None else timeout,
            cwd=self.context.directory,
            env=self.environ(),
            input=input,
            on_line=show if live else None,
            watch=watch,
        )

    def check(self, done: CommandResult) -> None:
        """Raise what a command that failed said, without secrets."""
        if not done.ok:
            raise CommandFailed(
                f"{self.redactor.redact(shlex.join(done.argv))} ended with exit code {done.rc}"
                f"{self.tail(done.stderr or done.stdout)}"
            )

    def tail(self, text: str, lines: int = 25) -> str:
        """Return the last lines of an output, without secrets, indented, with what must stand before them."""
        last = self.redactor.redact(text).strip().splitlines()[-lines:]
        return ":\n" + "\n".join(f"  {line}" for line in last) if last else ""

    # Questions

    def version(self) -> str:
        """Return Compose's version; raises ``PlanRejected`` where there is none, or one that is too old."""
        try:
            done = self.run([*self.docker, "compose", "version", "--short"], timeout=_QUESTION)
        except CommandFailed as error:
            raise PlanRejected(error.what, hint=error.hint) from error
        found = re.match(r"v?(\d+)\.(\d+)", done.stdout.strip())
        if not done.ok or found is None:
            said = self.tail(done.stderr or done.stdout, 2)
            raise PlanRejected(f"docker has no Compose{said}", hint="install the plugin docker-compose-plugin")
        if (int(found[1]), int(found[2])) < LOWEST:
            lowest = ".".join(map(str, LOWEST))
            raise PlanRejected(
                f"Compose {done.stdout.strip()} is too old: {lowest} is the first whose dry run can be asked what `up` "
                "would do, and that knows `include` and optional dependencies",
                hint=f"install docker-compose-plugin {lowest} or newer",
            )
        return done.stdout.strip()

    def resolve(self) -> tuple[str, tuple[str, ...]]:
        """Return the project as Compose resolves it, as JSON with every secret in it, and Compose's warnings.

        :raises PlanRejected: for a file that is not there, can't be read, or names variables that are not set.
        """
        for path in self.files:
            if not path.is_file():
                raise PlanRejected(
                    f"the Compose file {path} does not exist", hint='correct files: files = ["compose.yaml"]'
                )
        done = self._asked("config", "--format", "json")
        warnings = [_unquoted(text) for text in _WARNING.findall(done.stderr)]
        if unset := sorted({match[1] for text in warnings if (match := _UNSET.search(text))}):
            raise PlanRejected(
                f"variables of the Compose files are not set: {', '.join(unset)}",
                hint="set them, or write a default: ${NAME:-default}; ${NAME-} where nothing is meant",
            )
        if not done.ok:
            raise PlanRejected(
                f"the Compose files can't be resolved{self.hidden().tail(_WARNING.sub('', done.stderr))}",
                hint=f"look at them: {self.shown('config', '--quiet')}",
            )
        return done.stdout, tuple(self.hidden().redactor.redact(text) for text in warnings)

    def resolve_tasks(self, names: Iterable[str]) -> str | None:
        """Return the project with these services, whose profiles are off; None where Compose can't tell.

        Some versions read the ``env_file`` of every other service then, and end where one is missing.
        """
        done = self._asked("config", "--format", "json", *sorted(names))
        return done.stdout if done.ok else None

    def hashes(self, resolved: str) -> dict[str, str]:
        """Return Compose's hash of each service's configuration, as its containers have it.

        Made of the resolved project: from the files, ``config`` leaves out what ``env_file`` brings.
        """
        directory = str(self.files[0].resolve().parent)
        where_ = ("--project-name", self.project, "--project-directory", directory, "--file", "-")
        argv = [*self.docker, "compose", *where_, "--profile", "*"]
        done = self.run([*argv, "config", "--hash", "*"], timeout=_QUESTION, input=resolved)
        self.check(done)
        return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)

    def services_of_all_profiles(self) -> set[str]:
        """Return the names of all services, whatever their profile; nothing where Compose can't tell."""
        words = self.compose("config", "--services")
        at = words.index("config")
        done = self.run([*words[:at], "--profile", "*", *words[at:]], timeout=_QUESTION)
        return set(done.stdout.split()) if done.ok else set()

    def dry_run(self) -> CommandResult:
        """Ask Compose what it would do; no container is started, not even in thought.

        A dry run of all of ``up`` hangs in some versions (2.26) where a service waits for another to complete.
        """
        return self._asked("--dry-run", "up", "--no-start", "--no-build", "--pull", "never", "--remove-orphans")

    def hidden(self) -> Commands:
        """Return commands whose errors hide what the Compose files take from the environment."""
        texts = []
        for path in self.files:
            try:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
            except OSError:  # Compose says it too, and better
                continue
        variables = masks.of_environment(self.environ(), texts)
        return Commands(self.config, self.context, self.project, self.release, masks.redactor(variables))

    def _asked(self, *words: str) -> CommandResult:
        try:
            return self.run(self.compose(*words), timeout=max(_QUESTION, self.config.timeout))
        except CommandFailed as error:
            # Not "from error": its text is not redacted.
            raise PlanRejected(self.hidden().redactor.redact(error.what), hint=error.hint) from None


def _unquoted(text: str) -> str:
    """Return a text as it was before Compose's logger quoted it."""
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:  # an escape that JSON does not have
        return text


def where(config: ComposeConfig, environ: Mapping[str, str]) -> str:
    """Return the engine that docker would speak to, for people; empty for the one on this machine."""
    if config.context:
        return "" if config.context == "default" else config.context
    if host := environ.get("DOCKER_HOST", ""):  # it comes before DOCKER_CONTEXT
        parts = urlsplit(host)
        if parts.scheme == "unix":
            return "" if parts.path in _USUAL else parts.path
        return parts.hostname or "DOCKER_HOST"
    if name := environ.get("DOCKER_CONTEXT", ""):
        return "" if name == "default" else name
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/"), ".docker"))
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("currentContext", "")
    except (OSError, ValueError, AttributeError):  # docker says so itself when it is run
        return ""
    return "" if name in ("", "default") else str(name)


def is_local(config: ComposeConfig, environ: Mapping[str, str]) -> bool:
    """True when the engine is known to publish its ports on this machine."""
    return not where(config, environ)
