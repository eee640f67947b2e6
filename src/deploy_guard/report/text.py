"""Text from outside, made fit for the page: redacted, visible, and never markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from deploy_guard.printable import COLOURS, counted

LONGEST = 64 * 1024
"""Characters of one captured text that are kept; its middle is cut out beyond that."""

FEW = 6
"""Lines of what somebody said that stand as they are; of a longer text, the first."""
_LONG_LINE = 600
"""Characters of its first line that stand in the open."""
_NEXT = "\n  next: "  # how errors begin what to do next

# Controls but for tab and newline, the ones that turn the direction of text around, and halves of characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_UNFIT = re.compile(r"[^\w.:/-]+", re.ASCII)


class Writer:
    """Turns outside text into HTML: each text goes through here exactly once."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.redact = redact
        self._ids: set[str] = set()

    def __call__(self, value: object) -> str:
        """Return a text for the page, inside an element or a quoted attribute."""
        return escape(visible(self.redact(str(value))))

    def block(self, value: str) -> str:
        """Return the inside of a ``<pre>``: without terminal colours, and cut where it is too long."""
        return self(cut(COLOURS.sub("", self.redact(value).replace("\r\n", "\n")).strip("\n")))

    def anchor(self, value: str) -> str:
        """Return an id for an element, readable, the same in each run, and fit for a link as it is."""
        name = base = _UNFIT.sub("-", self.redact(value)) or "-"
        number = 2
        while name in self._ids:
            name, number = f"{base}-{number}", number + 1
        self._ids.add(name)
        return name


@dataclass(frozen=True)
class Told:
    """What was said, for readers who want the point first.

    :param first: the whole of a short text, or the first line.
    :param rest: the other lines of a long one: events, the last lines of a log.
    :param following: what to do next, where a long text ends with it.
    """

    first: str
    rest: str = ""
    following: str = ""

    @property
    def count(self) -> str:
        """How much the rest is: ``31 more lines``."""
        return counted(self.rest.count("\n") + 1, "more line")

    @property
    def brief(self) -> str:
        """The point, as text, and how much more there is."""
        more = [f"… {self.count}"] if self.rest else []
        return "\n".join([self.first, *more, *([f"next: {self.following}"] if self.following else [])])


def told(text: str) -> Told:
    """Take a text apart: short ones stay whole."""
    text = text.strip("\n")
    if text.count("\n") < FEW and len(text) <= 4 * _LONG_LINE:
        return Told(text)
    what, found, following = text.rpartition(_NEXT)
    what = what if found else text
    first, _, rest = what.strip("\n").partition("\n")
    if len(first) > _LONG_LINE:
        first, rest = f"{first[:_LONG_LINE]} …", what
    return Told(first, rest.strip("\n"), following if found else "")


def visible(text: str) -> str:
    """Return the text with a sign for each character that could not be seen."""
    return _INVISIBLE.sub(_shown, text) if _INVISIBLE.search(text) else text


def cut(text: str, limit: int = LONGEST) -> str:
    """Return the text, or its two ends where it is longer than ``limit``, saying how much is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters were cut out here …]\n{text[-half:]}"


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\\u{code:04x}"
