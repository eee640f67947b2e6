"""Release notes: the commits since the previous release, read from git and grouped by Conventional Commits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy_guard.config import Releases
from deploy_guard.errors import ConfigurationError, DeployGuardError
from deploy_guard.printable import one_line
from deploy_guard.probes.repo import Repo

TYPES = ("feat", "fix", "perf", "revert", "refactor", "docs", "test", "build", "ci", "style", "chore")
"""The types that get a group of their own, in the order of the groups (conventionalcommits.org and Angular's list)."""
OTHER = "other"

_SUBJECT = re.compile(r"(?P<type>[A-Za-z]+)(?:\((?P<scope>[^()]+)\))?(?P<breaking>!)?: +(?P<text>\S.*)")
_BREAKING = re.compile(r"^BREAKING[ -]CHANGE: \S", re.MULTILINE)
_FIELDS = ("%H", "%h", "%aN", "%aI", "%s", "%B")


@dataclass(frozen=True)
class Entry:
    """One commit. Every text is on one line and without control characters, but otherwise as its author wrote it.

    :param date: when it was written, ISO 8601.
    :param subject: the whole first line.
    :param type: ``feat``, ``fix``, …, or ``other``.
    :param text: the subject without type, scope and mark.
    """

    hash: str
    short: str
    author: str
    date: str
    subject: str
    type: str = OTHER
    scope: str = ""
    breaking: bool = False
    text: str = ""


@dataclass(frozen=True)
class Notes:
    """What a release brings.

    :param version: None where nobody said which one it is.
    :param previous: what the commits are counted from: a version, or what was asked for; None for a first release.
    :param commit: what is released, ``date`` is when it was committed (ISO 8601).
    :param total: all commits of the range but merges; ``entries`` may be fewer, the newest first.
    :param merges: merges in the range, which are left out.
    :param shallow: the clone lacks a part of the history, and so may these notes.
    """

    name: str
    version: str | None
    previous: str | None
    branch: str | None
    commit: str
    date: str
    entries: tuple[Entry, ...]
    total: int
    merges: int = 0
    shallow: bool = False
    paths: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Service and version: ``shop v1.2.3``."""
        return f"{self.name} {self.version or 'unreleased'}".strip()

    @property
    def range(self) -> str:
        """How many commits since when, in words; the empty range and the first release included."""
        where = f" that touch {', '.join(self.paths)}" if self.paths else ""
        since = f"since {self.previous}" if self.previous else "in this first release"
        if not self.total and self.merges:
            merges = "one merge" if self.merges == 1 else f"{self.merges} merges"
            return f"only {merges}{where} {since}"
        if not self.total:
            return f"no commits{where} {since}"
        return f"{self.total} commit{'s' if self.total != 1 else ''}{where} {since}"

    def groups(self) -> list[tuple[str, list[Entry]]]:
        """Return the entries by type, what breaks first; one nameless group where no commit has a type."""
        if not any(entry.breaking or entry.type != OTHER for entry in self.entries):
            return [("", list(self.entries))] if self.entries else []
        grouped: dict[str, list[Entry]] = {kind: [] for kind in ("breaking", *TYPES, OTHER)}
        for entry in self.entries:
            grouped["breaking" if entry.breaking else entry.type].append(entry)
        return [(kind, entries) for kind, entries in grouped.items() if entries]


def notes_for(
    folder: Path,
    releases: Releases | None = None,
    *,
    name: str = "",
    version: str | None = None,
    n: int | None = None,
    since: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Notes:
    """Return the notes of what is checked out in a folder.

    :param releases: the configuration's rules for tags and paths; paths start at ``folder``.
    :param version: by default that of the release tag at this commit, if there is one.
    :param n: this many commits at most, the newest.
    :param since: a tag, commit or branch; by default the tag of the previous release, or the beginning.
    :raises DeployGuardError: outside a repository, before the first commit, when git can't tell.
    :raises ConfigurationError: when there is nothing of the name that ``since`` gives.
    """
    rules = releases or Releases()
    repo = Repo(folder, rules.versions, remote=rules.remote)
    if repo.problem:
        raise DeployGuardError(f"there are no release notes: {repo.problem}", hint="run it in the release's repository")
    if repo.commit is None:
        raise DeployGuardError("there are no release notes: nothing has been committed yet", hint="commit first")
    if version is None:
        here = [repo.versions.version_of(tag) for tag, commit in repo.tags.items() if commit == repo.commit]
        version = here[-1] if here else None
    release = repo.release(version, os.environ if environ is None else environ)
    start, previous = None, since or release.previous
    if since is not None:
        start = repo.resolve(since)
        if start is None:
            raise ConfigurationError(
                f"there is no tag, commit or branch {since!r} here"
                + (", and this clone is shallow" if repo.is_shallow else ""),
                hint="git tag lists the tags; git fetch --tags brings those that are missing",
            )
    elif release.previous is not None:
        start = f"refs/tags/{repo.versions.tag_of(release.previous)}"
    return collect(
        repo, start, n=n, paths=rules.paths, name=name, version=version, previous=previous, branch=release.branch
    )


def collect(
    repo: Repo,
    start: str | None,
    *,
    n: int | None = None,
    paths: Sequence[str] = (),
    name: str = "",
    version: str | None = None,
    previous: str | None = None,
    branch: str | None = None,
) -> Notes:
    """Read the commits of ``start..HEAD``, or all that lead to HEAD; without merges, the newest first."""
    commits = f"{start}..HEAD" if start else "HEAD"
    where = ["--", *(f":(literal){path}" for path in paths)]
    total = repo.count("--no-merges", commits, *where)
    merges = repo.count("--merges", commits, *where) if not total else 0
    limit = [f"--max-count={n}"] if n is not None else []
    output = repo.log(
        "-z", "--no-merges", "--no-show-signature", "--no-color", "--encoding=UTF-8",
        f"--format=tformat:{'%x00'.join(_FIELDS)}", *limit, commits, *where,
    )  # fmt: skip
    date = repo.log("-1", "--no-show-signature", "--format=%cI", "HEAD").decode().strip()
    return Notes(
        name=name,
        version=version,
        previous=previous,
        branch=branch,
        commit=repo.commit or "",
        date=date,
        entries=tuple(_entries(output)),
        total=total,
        merges=merges,
        shallow=repo.is_shallow,
        paths=tuple(paths),
    )


def _entries(output: bytes) -> Iterator[Entry]:
    # A subject that is in no encoding that git knows comes as it is stored.
    values = output.decode("utf-8", "replace").split("\0")
    for start in range(0, len(values) - len(_FIELDS) + 1, len(_FIELDS)):
        commit, short, author, date, subject, message = values[start : start + len(_FIELDS)]
        yield _entry(commit, short, one_line(author), date, one_line(subject).strip() or "(no subject)", message)


def _entry(commit: str, short: str, author: str, date: str, subject: str, message: str) -> Entry:
    match = _SUBJECT.fullmatch(subject)
    footer = _BREAKING.search(message) is not None
    if match is None or match["type"].lower() not in TYPES:
        marked = footer or (match is not None and match["breaking"] is not None)
        return Entry(commit, short, author, date, subject, OTHER, "", marked, subject)
    return Entry(
        commit,
        short,
        author,
        date,
        subject,
        match["type"].lower(),
        (match["scope"] or "").strip(),
        footer or match["breaking"] is not None,
        match["text"],
    )
