"""The git repository of the release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deploy_guard.drivers.base import Release

if TYPE_CHECKING:
    from git import Repo as GitRepo

_BRANCH_VARIABLES = ("BRANCH_NAME", "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "GIT_BRANCH", "CI_COMMIT_REF_NAME")
_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


class Repo:
    """Reads a repository; outside of one every answer is None and :attr:`problem` says why."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _git(self) -> GitRepo | str:
        try:
            import git
        except ImportError as error:  # GitPython refuses to be imported where there is no git program
            return f"git can't be used: {error}"
        try:
            return git.Repo(self._folder, search_parent_directories=True)
        except git.InvalidGitRepositoryError:
            return f"{self._folder} is not inside a git repository"
        except git.NoSuchPathError:
            return f"{self._folder} does not exist"

    @property
    def problem(self) -> str:
        """Why there is no repository; empty when there is one."""
        return self._git if isinstance(self._git, str) else ""

    @property
    def commit(self) -> str | None:
        """The commit that is checked out, as 40 hex digits; None outside a repository or before the first commit."""
        if isinstance(self._git, str) or not self._git.head.is_valid():
            return None
        return self._git.head.commit.hexsha

    @property
    def branch(self) -> str | None:
        """The branch that is checked out; None on a detached HEAD."""
        if isinstance(self._git, str) or self._git.head.is_detached:
            return None
        return self._git.active_branch.name

    @property
    def tags(self) -> dict[str, str]:
        """The release tags ``vX.Y.Z`` and the commits they stand at, lowest version first."""
        if isinstance(self._git, str):
            return {}
        listed = self._git.git.for_each_ref("refs/tags/v*", format="%(refname:short) %(objectname) %(*objectname)")
        found = {}
        for line in listed.splitlines():
            name, *commits = line.split()
            if _TAG.fullmatch(name):
                found[name] = commits[-1]
        return dict(sorted(found.items(), key=lambda entry: _order(entry[0])))

    @property
    def is_clean(self) -> bool:
        """True when nothing is modified, staged or untracked; False outside a repository."""
        return not isinstance(self._git, str) and not self._git.is_dirty(untracked_files=True)

    def release(self, version: str | None, environ: Mapping[str, str]) -> Release:
        """Describe what is released from here; the branch of a detached HEAD comes from the CI service's variables."""
        branch = self.branch or next((environ[name] for name in _BRANCH_VARIABLES if environ.get(name)), None)
        commit, tags = self.commit, self.tags
        tag = version if version in tags else None
        known = _TAG.fullmatch(version or "")
        before = [name for name in tags if not known or _order(name) < _order(version or "")]
        return Release(version, commit, branch, tag, before[-1] if before else None)


def _order(tag: str) -> tuple[int, ...]:
    match = _TAG.fullmatch(tag)
    return tuple(int(part) for part in match.groups()) if match else ()
