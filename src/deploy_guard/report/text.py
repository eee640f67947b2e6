"""Text from outside, made fit for the page: redacted, visible, and never markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

LONGEST = 64 * 1024
"""Characters of one captured text that are kept; its middle is cut out beyond that."""

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
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
        return self(cut(_COLOURS.sub("", self.redact(value).replace("\r\n", "\n")).strip("\n")))

    def anchor(self, value: str) -> str:
        """Return an id for an element, readable, the same in each run, and fit for a link as it is."""
        name = base = _UNFIT.sub("-", self.redact(value)) or "-"
        number = 2
        while name in self._ids:
            name, number = f"{base}-{number}", number + 1
        self._ids.add(name)
        return name


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
