"""Versions and the tags that carry them: what is well formed, and which of two is the newer one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
VERSION = rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
"""``vX.Y.Z``; semver.org, clause 2: no leading zeros."""
PRE_RELEASE = rf"-{_IDENTIFIER}(?:\.{_IDENTIFIER})*"
"""``-rc.1``; semver.org, clause 9."""
PLACE = "{version}"

# Compiled when they are first asked for: the configuration imports this module, and most runs compare nothing.
_CORE = r"[A-Za-z]*([0-9]+(?:\.[0-9]+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
# git-check-ref-format(1); a leading dash would be read as an option
_NOT_A_TAG = r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-./]|\.lock(?:/|$)|[./]$|^@$"

Order = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def order(version: str) -> Order | None:
    """Return what versions are sorted by, as semver.org, clause 11, says; None for one that can't be compared.

    Any number of numeric parts is taken, so that calendar versions compare as well; build metadata doesn't count.
    """
    match = re.fullmatch(_CORE, version)
    if match is None:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    before = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (match[2] or "").split(".")
    )
    return tuple(numbers), match[2] is None, before


def is_pre_release(version: str) -> bool:
    """True for ``v1.2.0-rc.1`` and the like."""
    key = order(version)
    return key is not None and not key[1]


def is_tag_name(name: str) -> bool:
    """True for a name that git accepts for a tag."""
    return bool(name) and re.search(_NOT_A_TAG, name) is None


@dataclass(frozen=True)
class Versions:
    """How a team names its versions and tags.

    :param tag: the tag of a version, with the place of the version in it: ``{version}``, ``shop/{version}``.
    :param pattern: what a version must match, whole; empty for ``vX.Y.Z``.
    :param pre_releases: a suffix such as ``-rc.1`` is allowed as well.
    """

    tag: str = PLACE
    pattern: str = ""
    pre_releases: bool = False

    @cached_property
    def _form(self) -> re.Pattern[str]:
        form = self.pattern or VERSION
        return re.compile(rf"(?:{form})(?:{PRE_RELEASE})?" if self.pre_releases else form)

    @property
    def form(self) -> str:
        """What a version looks like, for people."""
        base = f"the pattern {self.pattern}" if self.pattern else "vX.Y.Z"
        return f"{base}, or that with a suffix such as -rc.1" if self.pre_releases else base

    def is_well_formed(self, version: str) -> bool:
        """True when the whole version matches, and is good for a tag."""
        return self._form.fullmatch(version) is not None and is_tag_name(self.tag_of(version))

    def tag_of(self, version: str) -> str:
        """Return the name of a version's tag."""
        return self.tag.replace(PLACE, version)

    def version_of(self, tag: str) -> str | None:
        """Return the version that a tag carries; None for a tag that is not one of this service's releases."""
        before, _, after = self.tag.partition(PLACE)
        if len(tag) <= len(before) + len(after) or not (tag.startswith(before) and tag.endswith(after)):
            return None
        version = tag[len(before) : len(tag) - len(after)]
        return version if self.is_well_formed(version) and order(version) is not None else None
