"""The tag of a release: annotated, pushed alone, and never left behind where the remote does not have it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy_guard.errors import CommandFailed, DeployGuardError, TagFailed
from deploy_guard.probes.gitremote import Tag, git, git_words, has_remote, remote_tags
from deploy_guard.probes.versions import is_tag_name

PUSHING = 60.0
"""Seconds for a push of one tag; the other side's hooks take part of it."""
_LOCAL = 20.0
"""Seconds for what git does on this machine; signing asks an agent."""
_AGAIN = "nothing is half-done; run again when that is mended"


@dataclass(frozen=True)
class TagResult:
    """What was done for a tag.

    :param made: this run made it; otherwise it was there.
    :param pushed: this run pushed it; otherwise the remote had it, or there is no remote.
    :param said: one line for people.
    """

    tag: str
    commit: str
    made: bool
    pushed: bool
    said: str


def tag_release(
    folder: Path, tag: str, commit: str, message: str, remote: str = "origin", deadline: float = PUSHING
) -> TagResult:
    """Make an annotated tag and push it, or find that it is there; a second run does nothing.

    It is made by the git program, so that identity, signing and hooks are those that the user configured.

    :param folder: a folder of the repository.
    :param message: what the tag says.
    :param remote: where it is pushed to; where no remote is configured at all, the tag stays here.
    :param deadline: seconds for the push; questions to the remote have their own.
    :raises TagFailed: with git's own words. A tag that this call made is removed again, one that was here stays.
    """
    if not is_tag_name(tag):
        raise TagFailed(f"git accepts no tag named {tag!r}", hint="mend the version, or tag in the configuration")
    return _Tagging(folder, tag, commit, remote, deadline).done(message)


class _Tagging:
    def __init__(self, folder: Path, tag: str, commit: str, remote: str, deadline: float) -> None:
        self._folder = folder
        self._tag = tag
        self._commit = commit
        self._remote = remote
        self._deadline = deadline
        self._asking = min(deadline, 20.0)

    def done(self, message: str) -> TagResult:
        local = self._here()
        self._refuse_another(local, "here")
        try:
            shared = has_remote(self._folder, self._remote)
            there = self._there() if shared else None
        except DeployGuardError as error:
            raise TagFailed(f"{self._tag} was not made: {error.what}", hint=error.hint or _AGAIN) from error
        self._refuse_another(there, f"on {self._remote}")
        if there is not None:
            self._refuse_lightweight(there, f"on {self._remote}")
            return self._result("is on {remote} already")
        self._refuse_lightweight(local, "here")
        made = None
        if local is None:
            made = self._make(message)
        if not shared:
            words = "made; no remote is configured, so it was not pushed" if made else "was here; there is no remote"
            return self._result(words, made=made is not None)
        try:
            return self._push(made)
        except BaseException as error:  # Ctrl-C and SIGTERM as well: no tag may stay that the remote does not have
            # One that somebody else's push brought in meanwhile has another object, and stays.
            said = self._remove(made)
            if said and isinstance(error, TagFailed):
                raise TagFailed(f"{error.what}\n{said}", hint=error.hint) from error
            if said:
                print(said)  # captured as the output of the step
            raise

    def _push(self, made: str | None) -> TagResult:
        ref = f"refs/tags/{self._tag}"
        options = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no")
        try:
            words = ("push", *options, self._remote, f"{ref}:{ref}")
            result = git(self._folder, *words, seconds=self._deadline, network=True)
        except CommandFailed as error:
            return self._after_a_failed_push(made, error.what, unclear=True)
        if result.ok:
            return self._result("made and pushed to {remote}" if made else "pushed to {remote}", made, pushed=True)
        return self._after_a_failed_push(made, git_words(result), unclear=False)

    def _after_a_failed_push(self, made: str | None, words: str, *, unclear: bool) -> TagResult:
        """The remote decides: the tag may have arrived all the same, or somebody else's may have."""
        try:
            there = self._there()
        except DeployGuardError as error:
            text = f"{self._tag} could not be pushed to {self._remote}: {words}"
            if unclear:
                text += f"\nWhether it arrived is not known: {error.what}"
                raise TagFailed(text, hint="the next run finds out, and pushes it if it did not arrive") from error
            raise TagFailed(text, hint=_AGAIN) from error
        if there is not None and there.commit == self._commit and there.annotated:
            ours = there.object == (made or self._object())
            if not ours and made:
                self._remove(made)
            return self._result(
                "arrived on {remote}, though the push did not end well" if ours else "was pushed by somebody else",
                made if ours else None,
                pushed=ours,
            )
        self._refuse_another(there, f"on {self._remote}, pushed meanwhile")
        raise TagFailed(f"{self._tag} could not be pushed to {self._remote}: {words}", hint=_AGAIN)

    def _make(self, message: str) -> str:
        """Make the tag and return its object."""
        text = message.replace("\0", "").encode("utf-8", "replace").decode().strip() or self._tag
        words = ("tag", "--annotate", "--cleanup=whitespace", "--file=-", "--", self._tag, self._commit)
        try:
            result = git(self._folder, *words, seconds=_LOCAL, text=text + "\n")
            made = self._object()
        except BaseException as error:  # Ctrl-C and SIGTERM as well
            self._remove(self._object())
            if isinstance(error, CommandFailed):
                raise TagFailed(f"{self._tag} could not be made: {error.what}", hint=_AGAIN) from error
            raise
        if not result.ok:
            raise TagFailed(f"{self._tag} could not be made: {git_words(result)}", hint=_AGAIN)
        return made

    def _remove(self, made: str | None) -> str:
        """Remove the tag that this run made, if it still is that one; returns what is to be said of it."""
        if not made:
            return ""
        try:
            result = git(self._folder, "update-ref", "-d", f"refs/tags/{self._tag}", made, seconds=_LOCAL)
        except CommandFailed as error:
            return f"The local tag {self._tag} is still here: {error.what}"
        if not result.ok:
            return f"The local tag {self._tag} is still here: {git_words(result)}"
        return f"The local tag {self._tag} was removed again."

    def _here(self) -> Tag | None:
        value = self._parsed(f"refs/tags/{self._tag}")
        if value is None:
            return None
        # A tag of something that is no commit stands at none.
        return Tag(self._tag, self._parsed(f"refs/tags/{self._tag}^{{commit}}") or "", value)

    def _there(self) -> Tag | None:
        return remote_tags(self._folder, self._remote, self._tag, seconds=self._asking).get(self._tag)

    def _object(self) -> str:
        return self._parsed(f"refs/tags/{self._tag}") or ""

    def _parsed(self, name: str) -> str | None:
        result = git(self._folder, "rev-parse", "--verify", "--quiet", name, seconds=_LOCAL)
        return result.stdout.strip() if result.ok else None

    def _refuse_another(self, tag: Tag | None, where: str) -> None:
        if tag is not None and tag.commit != self._commit:
            raise TagFailed(
                f"the tag {self._tag} stands at commit {tag.commit[:12] or 'none'} {where}; "
                f"the release is {self._commit[:12]}",
                hint="a version is released once: release the next version",
            )

    def _refuse_lightweight(self, tag: Tag | None, where: str) -> None:
        if tag is not None and not tag.annotated:
            raise TagFailed(
                f"the tag {self._tag} {where} is a lightweight one; a release has annotated tags only",
                hint=f"remove it (git tag -d {self._tag}), and on the remote too, then run again",
            )

    def _result(self, words: str, made: str | bool | None = None, *, pushed: bool = False) -> TagResult:
        said = f"{self._tag} {words.format(remote=self._remote)}"
        return TagResult(self._tag, self._commit, bool(made), pushed, said)
