"""Real git repositories for tests: no configuration of the machine's, fixed names and dates."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERMETIC = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.invalid",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.invalid",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05+00:00",
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+00:00",
}
TOLD_BY_CI = (
    "COMMIT", "GITHUB_SHA", "GIT_COMMIT", "CI_COMMIT_SHA", "BRANCH_NAME", "GIT_BRANCH", "CHANGE_BRANCH", "TAG_NAME",
    "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "GITHUB_REF_TYPE", "CI_COMMIT_BRANCH", "CI_COMMIT_REF_NAME", "CI_COMMIT_TAG",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_DIR", "GIT_WORK_TREE", "ENV",
)  # fmt: skip


@dataclass
class Sandbox:
    """A repository in a folder, driven by the git program."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    def git(self, *words: str, text: str | bytes | None = None, check: bool = True) -> str:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words],
            cwd=self.path,
            env={**os.environ, **self.env},
            input=text.encode() if isinstance(text, str) else text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out = done.stdout.decode("utf-8", "replace").strip()
        assert not check or done.returncode == 0, f"git {' '.join(words)}: {out}"
        return out

    def commit(self, subject: str = "Change", file: str = "file.txt", body: str = "") -> str:
        """Change a file, commit it, and return the commit."""
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as opened:
            opened.write(f"{subject}\n")
        self.git("add", "--", file)
        self.git("commit", "--quiet", "-F", "-", text=f"{subject}\n\n{body}" if body else subject)
        return self.head

    def raw_commit(self, message: bytes, header: bytes = b"") -> str:
        """Commit a message that no well-behaved client would write."""
        tree, parent = self.git("rev-parse", "HEAD^{tree}"), self.head
        who = b"Ann <ann@example.invalid> 1767323045 +0000"
        data = b"tree %s\nparent %s\nauthor %s\ncommitter %s\n%s\n%s" % (
            tree.encode(), parent.encode(), who, who, header, message,
        )  # fmt: skip
        made = self.git("hash-object", "-t", "commit", "-w", "--stdin", text=data)
        self.git("reset", "--quiet", "--hard", made)
        return made

    def tag(self, name: str, *more: str) -> None:
        self.git("tag", "-a", "-m", name, name, *more)

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def tags(self) -> dict[str, str]:
        """The tags and the commits they stand at."""
        listed = self.git("for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)", "refs/tags")
        return {words[0]: words[-1] for words in map(str.split, listed.splitlines())}

    def remote(self, folder: Path) -> Sandbox:
        """Make a bare repository, and make it this one's origin."""
        bare = new(folder, "--bare")
        self.git("remote", "add", "origin", str(folder))
        self.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
        return bare

    def clone(self, folder: Path, *options: str) -> Sandbox:
        """Clone this repository by a URL, so that options such as ``--depth`` count."""
        self.git("clone", "--quiet", *options, f"file://{self.path}", str(folder))
        return Sandbox(folder, self.env)

    def hook(self, name: str, script: str) -> None:
        folder = self.path / ("hooks" if (self.path / "HEAD").exists() else ".git/hooks")
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def new(folder: Path, *options: str) -> Sandbox:
    """Make a repository."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Sandbox(folder)
    made.git("init", "--quiet", "--initial-branch=main", *options)
    return made
