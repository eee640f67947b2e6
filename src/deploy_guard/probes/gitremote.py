"""The git program where it talks to others: with a deadline, without a prompt, without credentials in what is shown."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from deploy_guard.errors import CommandFailed, DeployGuardError
from deploy_guard.printable import one_line
from deploy_guard.process import CommandResult, run

ASKING = 20.0
"""Seconds for a question to a remote; hosting services answer in one or two."""
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")
_WORDS = 12
"""Lines of git's own words that are quoted."""


@dataclass(frozen=True)
class Tag:
    """A tag, here or on a remote.

    :param object: the tag object of an annotated tag, the commit itself of a lightweight one.
    """

    name: str
    commit: str
    object: str

    @property
    def annotated(self) -> bool:
        """True for a tag that is an object of its own, with author, date and message."""
        return self.object != self.commit


def git(folder: Path, *words: str, seconds: float, text: str | None = None, network: bool = False) -> CommandResult:
    """Run git in a folder; what it prints may hold credentials until it went through :func:`git_words`.

    :param text: what git reads from its standard input.
    :param network: it talks to a remote, and must not ask anybody for a password.
    :raises CommandFailed: past the deadline, or when git can't be started.
    """
    env = _quiet(folder, os.environ) if network else None
    try:
        return run(["git", *words], cwd=folder, timeout=seconds, input=text, env=env)
    except CommandFailed as error:
        raise CommandFailed(without_credentials(error.what), hint=error.hint) from None


def git_words(result: CommandResult) -> str:
    """Return what git said about a failure, for people: its last lines, without credentials."""
    # Of what a push prints for programs, the lines with "!" say what was rejected, and why (git-push(1), OUTPUT).
    rejected = [line for line in result.stdout.splitlines() if line.startswith("!\t")]
    spoken = result.stderr.splitlines() or ([] if rejected else result.stdout.splitlines())
    lines = [one_line(line).rstrip() for line in [*spoken, *rejected] if line.strip()]
    return without_credentials("\n".join(lines[-_WORDS:])) or f"git ended with exit code {result.rc}"


def without_credentials(text: str) -> str:
    """Return the text with the user and the query of every URL taken out."""
    return _QUERY.sub(r"\1", _USER.sub("", text))


def remotes(folder: Path) -> list[str]:
    """Return the names of the configured remotes."""
    return _ask(folder, "remote").stdout.split()


def has_remote(folder: Path, name: str) -> bool:
    """Whether the remote is there; False where none is configured at all.

    :raises DeployGuardError: when there are remotes, but not this one: nobody knows which one counts.
    """
    known = remotes(folder)
    if known and name not in known:
        raise DeployGuardError(
            f"there is no git remote {name}; there is {', '.join(known)}", hint="name the right one as tag-remote"
        )
    return bool(known)


def shown_url(folder: Path, name: str) -> str:
    """Return where a remote is, without user, password and query."""
    url = _ask(folder, "remote", "get-url", name).stdout.strip()
    return without_credentials(one_line(url))


def remote_tags(folder: Path, name: str, tags: str, *, seconds: float = ASKING) -> dict[str, Tag]:
    """Ask a remote for its tags; nothing is fetched.

    :param tags: a name, or a pattern with ``*``.
    :raises DeployGuardError: with git's own words, when the remote can't be asked or does not answer in time.
    """
    asked = f"refs/tags/{tags}"
    try:
        result = git(folder, "ls-remote", "--tags", name, asked, f"{asked}^{{}}", seconds=seconds, network=True)
    except CommandFailed as error:
        raise DeployGuardError(f"the git remote {name} can't be asked for its tags: {error.what}") from None
    if not result.ok:
        raise DeployGuardError(f"the git remote {name} can't be asked for its tags:\n{git_words(result)}")
    objects: dict[str, str] = {}
    peeled: dict[str, str] = {}
    for line in result.stdout.splitlines():
        value, _, ref = line.partition("\t")
        tag = ref.removeprefix("refs/tags/")
        if tag.endswith("^{}"):
            peeled[tag.removesuffix("^{}")] = value
        else:
            objects[tag] = value
    return {tag: Tag(tag, peeled.get(tag, value), value) for tag, value in objects.items()}


def _ask(folder: Path, *words: str) -> CommandResult:
    result = git(folder, *words, seconds=ASKING)
    if not result.ok:
        raise DeployGuardError(f"git {words[0]} failed:\n{git_words(result)}")
    return result


def _quiet(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which neither git nor ssh asks a person; there is no terminal either."""
    quiet = {**environ, "GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "SSH_ASKPASS_REQUIRE": "never"}
    quiet.pop("SSH_ASKPASS", None)  # a window; a GIT_ASKPASS is how CI services hand credentials over, and stays
    ssh = environ.get("GIT_SSH_COMMAND", "")
    if not ssh and "GIT_SSH" not in environ:
        ssh = run(["git", "config", "--get", "core.sshCommand"], cwd=folder, timeout=ASKING).stdout.strip() or "ssh"
    try:
        program = PurePath(shlex.split(ssh)[0]).name if ssh else ""
    except (ValueError, IndexError):  # not for us to understand: the shell that git starts will say what is wrong
        program = ""
    if program == "ssh":  # the option is OpenSSH's; other programs are the user's own choice
        quiet["GIT_SSH_COMMAND"] = f"{ssh} -oBatchMode=yes"
    return quiet
