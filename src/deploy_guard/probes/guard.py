"""The release guard: is what is released from here committed, meant, newer than what was, and free to be tagged?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy_guard.config import EnvironmentConfig
from deploy_guard.drivers.base import Release
from deploy_guard.errors import DeployGuardError
from deploy_guard.printable import one_line, shortened
from deploy_guard.probes.gitremote import Tag, shown_url
from deploy_guard.probes.repo import UNSHALLOW, Repo, commits_told
from deploy_guard.probes.versions import order

_SHORTEST_HASH = 7
"""Hex digits of a shortened commit that are believed; git shortens to no fewer by default."""


@dataclass
class Findings:
    """What one look found.

    :param facts: what was seen, by name, for the reports.
    :param problems: what stands in the way, ready to be shown; none means that all is well.
    """

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All problems, a line or more each."""
        return "\n".join(self.problems)


class ReleaseGuard:
    """Judges a release by its repository; what it can't find out is a problem too.

    :param release: what is to be shipped.
    :param reports: the folder that this run writes to.
    """

    def __init__(
        self, config: EnvironmentConfig, repo: Repo, release: Release, environ: Mapping[str, str], reports: Path
    ) -> None:
        self._config = config
        self._rules = config.releases
        self._repo = repo
        self._release = release
        self._environ = environ
        self._reports = reports

    def tree(self) -> Findings:
        """Nothing is modified, staged, untracked or conflicted, and git is in the middle of nothing."""
        found = self._begin()
        if not self._is_on(found):
            return found
        paths = self._rules.paths
        found.facts["looked at"] = ", ".join(paths) or "the whole repository"
        missing = [path for path in paths if not (self._config.directory / path).exists()]
        found.problems += [
            f"paths names {one_line(path)}, which is not here: mend the configuration" for path in missing
        ]
        if (operation := self._repo.operation) is not None:
            found.problems.append(f"a {operation} is in progress: finish or abort it first (git status says how)")
        if not missing:
            offenders = self._repo.dirty(paths, but=self._own())
            found.facts["differences"] = str(len(offenders))
            if offenders:
                found.problems.append("what would be shipped is not what is committed:")
                found.problems += [f"  {line}" for line in shortened(offenders)]
        return found

    def commit(self) -> Findings:
        """The commit that is checked out is the one that is to be released."""
        found = self._begin()
        if not self._is_on(found):
            return found
        head = self._repo.commit
        found.facts["commit"] = head or "none"
        found.facts["branch"] = self._release.branch or "unknown"
        if head is None:
            found.problems.append("there is no commit yet: commit what is to be released")
            return found
        if self._release.commit not in (None, head):
            text = f"HEAD was {self._release.commit} when this run began, and is {head} now: somebody moved it"
            found.problems.append(text)
        for name, commit in commits_told(self._environ).items():
            said = commit.lower()
            if len(said) >= _SHORTEST_HASH and head.startswith(said):
                found.facts["told by"] = name
            else:
                found.problems.append(
                    f"{name} says {one_line(commit)}, and HEAD is {head}: check that commit out, "
                    "or set COMMIT to the one that is meant"
                )
        return found

    def version(self) -> Findings:
        """The version is well formed and newer than every release before it."""
        found = self._begin()
        if not self._is_on(found):
            return found
        version, versions = self._release.version, self._rules.versions
        found.facts["version"] = version or "none"
        if version is None:
            found.problems.append("there is no version: set VERSION, or give --deploy-version")
        elif not versions.is_well_formed(version):
            found.problems.append(f"the version {one_line(version)!r} is not well formed: it must be {versions.form}")
        else:
            self._compare(version, found)
        return found

    def tag(self) -> Findings:
        """The tag of the version is free, or stands at this very commit, annotated."""
        found = self._begin()
        if not self._is_on(found):
            return found
        version = self._release.version
        if version is None or not self._rules.versions.is_well_formed(version):
            found.problems.append("without a well-formed version there is no tag to look for")
            return found
        name = self._rules.versions.tag_of(version)
        found.facts["tag"] = name
        local, there = self._repo.all_tags.get(name), None
        if (tags := self._shared(found)) is not None:
            there = tags.get(name)
        elif local is None and self._repo.is_shallow:
            found.problems.append(self._repo.why_no_tag(name))
        remote = f"on {self._rules.remote}"
        found.problems += self._misplaced(local, "here") + self._misplaced(there, remote)
        # A checkout in CI may copy the tag without its object; what the remote has is what counts.
        found.problems += self._lightweight(there, remote) if there is not None else self._lightweight(local, "here")
        if not found.problems:
            found.facts["state"] = "free" if local is there is None else "a re-run: it stands at this commit"
        return found

    def _begin(self) -> Findings:
        found = Findings()
        if not self._rules.guard:
            found.facts["guard"] = f"release guard is off for {self._config.env}"
        elif self._repo.problem:
            found.problems.append(
                f"{self._repo.problem}, so nobody can say what would be released: run from a clone, "
                f"or write release-guard = false under [env.{self._config.env}]"
            )
        return found

    def _is_on(self, found: Findings) -> bool:
        return self._rules.guard and not found.problems

    def _compare(self, version: str, found: Findings) -> None:
        versions = self._rules.versions
        known = dict.fromkeys(self._repo.tags)
        if (tags := self._shared(found)) is not None:
            known |= dict.fromkeys(tags)
        elif self._repo.is_shallow:
            found.problems.append(f"this clone is shallow and may lack the tags of earlier releases: {UNSHALLOW}")
        own, place = versions.tag_of(version), order(version)
        others = {
            tag: key for tag in known if tag != own and (key := order(versions.version_of(tag) or "")) is not None
        }
        newest = max(others, key=others.__getitem__, default=None)
        found.facts["newest release"] = newest or "none yet"
        if self._rules.allow_downgrade:
            found.facts["downgrade"] = "allowed"
        elif place is None:
            text = f"the version {version} can't be compared with {newest}: set allow-downgrade = true"
            found.problems += [text] if newest is not None else []
        elif newest is not None and others[newest] >= place:
            found.problems.append(
                f"the version {version} is not newer than the newest release, {newest}: take the next version, "
                "or write allow-downgrade = true to go back on purpose"
            )

    def _shared(self, found: Findings) -> dict[str, Tag] | None:
        """Return the release tags on the remote; None without any remote, or with a problem noted."""
        try:
            tags = self._repo.remote_tags
            if tags is None:
                found.facts["remote"] = "no remote"
            else:
                found.facts["remote"] = f"{self._rules.remote}: {shown_url(self._repo.folder, self._rules.remote)}"
        except DeployGuardError as error:
            found.problems.append(str(error))
            return {}
        return tags

    def _misplaced(self, tag: Tag | None, where: str) -> list[str]:
        if tag is None or tag.commit == self._release.commit:
            return []
        text = f"the tag {tag.name} stands at commit {tag.commit} {where}, and the release is {self._release.commit}"
        return [f"{text}: a version is released once, take the next one"]

    @staticmethod
    def _lightweight(tag: Tag | None, where: str) -> list[str]:
        if tag is None or tag.annotated:
            return []
        text = f"the tag {tag.name} {where} is a lightweight one; a release has annotated tags only"
        return [f"{text}: remove it, and let --deploy-tag or git tag -a make it"]

    def _own(self) -> list[Path]:
        """What runs write themselves: this one, and those for other environments in the same checkout."""
        folders = [self._reports]
        if root := self._config.driver_config.get("root"):
            folders.append(self._config.directory / str(root))
        own = [self._config.directory / ".deploy-guard", *folders]
        return own + [
            folder.parent / env
            for folder in folders
            if folder.name == self._config.env
            for env in self._config.environments
        ]
