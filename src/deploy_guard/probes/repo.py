"""The git repository of the release, read with GitPython; what needs a network is asked by ``gitremote``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_guard.drivers.base import Release
from deploy_guard.errors import DeployGuardError
from deploy_guard.printable import one_line
from deploy_guard.probes.gitremote import Tag, has_remote, remote_tags, without_credentials
from deploy_guard.probes.versions import PLACE, Order, Versions, is_pre_release, order

if TYPE_CHECKING:
    from git import Repo as GitRepo

    from deploy_guard.config import EnvironmentConfig

UNSHALLOW = "git fetch --unshallow --tags"
_OPERATIONS = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
    "sequencer": "cherry-pick or revert",
}
_COMMIT_VARIABLES = ("GITHUB_SHA", "GIT_COMMIT", "CI_COMMIT_SHA")
_CONFLICTS = {"DD", "AU", "UD", "UA", "DU", "AA", "UU"}


class Repo:
    """Reads a repository; outside of one every answer is None or empty, and :attr:`problem` says why.

    :param folder: where paths start, the configuration file's folder.
    :param versions: which tags are releases of this service.
    """

    def __init__(self, folder: Path, versions: Versions | None = None, *, remote: str = "origin") -> None:
        self.folder = folder
        self.versions = versions or Versions()
        self.remote = remote

    @classmethod
    def of(cls, config: EnvironmentConfig) -> Repo:
        """Return the repository of an environment's configuration."""
        return cls(config.directory, config.releases.versions, remote=config.releases.remote)

    @cached_property
    def _git(self) -> GitRepo | str:
        try:
            import git
        except ImportError as error:  # GitPython refuses to be imported where there is no git program
            return f"git can't be used: {error}"
        try:
            found = git.Repo(self.folder, search_parent_directories=True)
            if found.bare:
                return f"{self.folder} is inside a bare repository: there is no working tree to release from"
            found.git.rev_parse("--git-dir")
        except git.InvalidGitRepositoryError:
            return f"{self.folder} is not inside a git repository"
        except git.NoSuchPathError:
            return f"{self.folder} does not exist"
        except git.GitCommandError as error:  # another user's repository, an extension that this git does not know
            return f"{self.folder}: git refuses this repository: {_said(error)}"
        return found

    @property
    def problem(self) -> str:
        """Why there is no repository; empty when there is one."""
        return self._git if isinstance(self._git, str) else ""

    @property
    def commit(self) -> str | None:
        """The commit that is checked out, as 40 hex digits; None outside a repository or before the first commit."""
        return None if isinstance(self._git, str) else self.resolve("HEAD")

    head = commit

    @property
    def branch(self) -> str | None:
        """The branch that is checked out; None on a detached HEAD."""
        if isinstance(self._git, str) or self._git.head.is_detached:
            return None
        return self._git.active_branch.name

    @property
    def is_shallow(self) -> bool:
        """True for a clone without its whole history: tags and commits may be missing in it."""
        return not isinstance(self._git, str) and Path(self._git.common_dir, "shallow").exists()

    @property
    def operation(self) -> str | None:
        """What git is in the middle of: merge, rebase, cherry-pick, revert or bisect; None when it is at rest."""
        if isinstance(self._git, str):
            return None
        folder = Path(self._git.git_dir)
        return next((name for file, name in _OPERATIONS.items() if (folder / file).exists()), None)

    @property
    def tags(self) -> dict[str, str]:
        """The tags of this service's releases and the commits they stand at, lowest version first."""
        found = [tag for tag in self.all_tags.values() if self.versions.version_of(tag.name) is not None]
        return {tag.name: tag.commit for tag in sorted(found, key=lambda tag: self._order(tag.name))}

    @property
    def all_tags(self) -> dict[str, Tag]:
        """Every tag of this clone, by name."""
        if isinstance(self._git, str):
            return {}
        form = "%(objectname) %(*objectname) %(refname:strip=2)"
        found = {}
        for line in self._run("for-each-ref", f"--format={form}", "refs/tags").splitlines():
            value, peeled, name = line.decode("utf-8", "replace").split(" ", 2)
            found[name] = Tag(name, peeled or value, value)
        return found

    def why_no_tag(self, name: str) -> str:
        """Say why a tag is not here: in a shallow clone that proves nothing."""
        if self.is_shallow:
            return f"the tag {name} is not in this clone, which is shallow and may lack it: {UNSHALLOW}"
        return f"there is no tag {name}"

    @cached_property
    def remote_tags(self) -> dict[str, Tag] | None:
        """The tags of this service's releases on the remote, by name; None where no remote is configured.

        Asked once.

        :raises DeployGuardError: with git's own words, when the remote can't be asked.
        """
        if isinstance(self._git, str):
            raise DeployGuardError(self._git)
        if not has_remote(self.folder, self.remote):
            return None
        return remote_tags(self.folder, self.remote, self.versions.tag.replace(PLACE, "*"))

    @property
    def is_clean(self) -> bool:
        """True when nothing is modified, staged or untracked; False outside a repository."""
        return not isinstance(self._git, str) and not self.dirty()

    def dirty(self, paths: Sequence[str] = (), *, but: Sequence[Path] = ()) -> list[str]:
        """Return what differs from the commit, one line each: ``modified: app.py``; empty when all is as committed.

        Modified, staged, conflicted and untracked files count, and submodules that are changed or at another commit;
        ignored files don't, nor does the bytecode that Python leaves beside the gates.

        :param paths: looks at these only; relative to the repository object's folder.
        :param but: files and folders that don't count.
        :raises DeployGuardError: outside a repository, or when git can't tell.
        """
        if isinstance(self._git, str):
            raise DeployGuardError(self._git)
        wanted = [f":(literal){path}" for path in paths] or [":(top)"]
        inside = [path.resolve() for path in but if self._top in path.resolve().parents]
        unwanted = [f":(exclude,top,literal){path.relative_to(self._top)}" for path in inside]
        unwanted.append(":(exclude,top,glob)**/__pycache__/**")
        output = self._run(
            "status", "--porcelain=v2", "-z", "--untracked-files=normal", "--ignore-submodules=none", "--no-renames",
            "--", *wanted, *unwanted,
        )  # fmt: skip
        return [*_offenders(output), *self._hidden(wanted)]

    def _hidden(self, wanted: Sequence[str]) -> Iterator[str]:
        """What git was told not to look at: a change in it is shipped, and nobody sees it (git-update-index(1))."""
        for entry in self._run("ls-files", "-v", "-z", "--full-name", "--", *wanted).split(b"\0"):
            mark, path = entry[:1], entry[2:].decode("utf-8", "surrogateescape")
            if mark.islower():
                yield f"assumed to be unchanged, not looked at: {one_line(path)}"
            elif mark == b"S" and os.path.lexists(os.path.join(self._top, path)):  # noqa: PTH118 - may be 100 000 files
                yield f"skipped, not looked at: {one_line(path)}"

    @property
    def _top(self) -> Path:
        assert not isinstance(self._git, str)
        return Path(str(self._git.working_tree_dir)).resolve()

    def log(self, *words: str) -> bytes:
        """Return what ``git log`` prints; ``DeployGuardError`` with git's own words when it can't."""
        return self._run("log", *words)

    def count(self, *words: str) -> int:
        """Return how many commits ``git rev-list`` finds."""
        return int(self._run("rev-list", "--count", *words))

    def resolve(self, name: str) -> str | None:
        """Return the commit that a name stands for; None when there is none."""
        import git

        try:
            return self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode()
        except DeployGuardError as error:
            if isinstance(error.__cause__, git.GitCommandError):
                return None
            raise

    def _run(self, *words: str) -> bytes:
        if isinstance(self._git, str):
            raise DeployGuardError(self._git)
        import git

        try:
            # In the folder, not at the top of the repository: that is where paths start.
            command = ["git", "--no-optional-locks", *words]  # gates may run at once
            return git.Git(self.folder).execute(command, stdout_as_string=False)
        except git.exc.CommandError as error:  # a git program that is gone as well
            raise DeployGuardError(f"git {words[0]} failed: {_said(error)}") from error

    def release(self, version: str | None, environ: Mapping[str, str]) -> Release:
        """Describe what is released from here; the branch of a detached HEAD comes from the CI service's variables.

        The release before a final version is a final one; before a pre-release it may be a pre-release.
        """
        tags = self.tags
        tag = self.versions.tag_of(version) if version else None
        known = [self.versions.version_of(name) or "" for name in tags]
        return Release(
            version,
            self.commit,
            self.branch or branch_of(environ),
            tag if tag in tags else None,
            _before(version, known),
        )

    def _order(self, tag: str) -> Order:
        return order(self.versions.version_of(tag) or "") or ((), True, ())


def branch_of(environ: Mapping[str, str]) -> str | None:
    """Return the branch that a CI service says it builds: Jenkins, GitHub Actions, GitLab; None when none does.

    Where it builds a tag, the variables of the branch hold the tag's name, and are not believed.
    """

    def said(name: str) -> str:
        value = environ.get(name, "").strip()
        for start in ("refs/heads/", "refs/remotes/", "origin/"):
            value = value.removeprefix(start)
        return "" if value in ("HEAD", "detached") else value

    names = ["CHANGE_BRANCH"]
    if not said("TAG_NAME"):
        names += ["BRANCH_NAME", "GIT_BRANCH"]
    names.append("GITHUB_HEAD_REF")
    if said("GITHUB_REF_TYPE") != "tag":
        names.append("GITHUB_REF_NAME")
    names += ["CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH"]
    if not said("CI_COMMIT_TAG"):
        names.append("CI_COMMIT_REF_NAME")
    return next((said(name) for name in names if said(name)), None)


def commits_told(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the commits that shall be released, by the variable that says so; ``COMMIT`` overrides a CI service's."""
    told = {name: environ[name].strip() for name in ("COMMIT", *_COMMIT_VARIABLES) if environ.get(name, "").strip()}
    return {"COMMIT": told["COMMIT"]} if "COMMIT" in told else told


def _before(version: str | None, known: Sequence[str]) -> str | None:
    """Return the highest of the known versions that lies below this one."""
    limit = order(version or "")
    if limit is None:
        return known[-1] if known else None
    lower = [other for other in known if (place := order(other)) is not None and place < limit]
    if not is_pre_release(version or ""):
        lower = [other for other in lower if not is_pre_release(other)]
    return lower[-1] if lower else None


def _offenders(output: bytes) -> Iterator[str]:
    """Read ``git status --porcelain=v2 -z`` (git-status(1))."""
    for entry in output.decode("utf-8", "replace").split("\0"):
        kind, _, rest = entry.partition(" ")
        if kind == "?":
            yield f"untracked: {one_line(rest)}"
        elif kind in ("1", "u"):
            # <XY> <sub> and the modes and hashes of the sides, of which an unmerged entry has one more each
            state, sub, *_, path = rest.split(" ", 7 if kind == "1" else 9)
            yield f"{_change(state, sub)}: {one_line(path)}"


def _change(state: str, sub: str) -> str:
    if state in _CONFLICTS:
        return "conflicted"
    if sub[0] == "S" and state[0] == ".":
        return "submodule at another commit" if sub[1] == "C" else "submodule with changes"
    if state[0] != ".":
        return "staged"
    return {"D": "deleted", "T": "type changed"}.get(state[1], "modified")


def _said(error: Exception) -> str:
    """Return git's own words from GitPython's error; its text holds the command line and markup around them."""
    words = str(getattr(error, "stderr", "")).strip().removeprefix("stderr: '").removesuffix("'").strip()
    return without_credentials(" ".join(one_line(line) for line in words.splitlines())) or str(error)
