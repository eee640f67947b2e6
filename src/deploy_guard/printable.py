"""Text from outside (subjects of commits, names of files, answers of servers, logs) made safe to be shown."""

from __future__ import annotations

import re
import unicodedata

COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
"""What colours text on a terminal."""


def one_line(text: str) -> str:
    """Return the text without what could move a cursor, turn the reading direction, or break out of its line.

    Control and format characters, line breaks and lone surrogates become U+FFFD; tabs become spaces.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if c == "\t" else c if unicodedata.category(c)[0] not in "CZ" or _plain(c) else "�" for c in text
    )


def lines(text: str) -> str:
    """Return the text, of several lines, without what :func:`one_line` takes out, and without colours."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    plain = COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    return "\n".join(map(one_line, plain.split("\n")))


def counted(number: int, noun: str) -> str:
    """Return ``1 line``, ``25 lines``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _plain(char: str) -> bool:
    # Zs are the spaces (a line separator is Zl); a zero-width joiner is part of many emoji and scripts.
    return unicodedata.category(char) == "Zs" or char in "\u200c\u200d"


def shortened(lines: list[str], most: int = 10) -> list[str]:
    """Return the first lines and, if there are others, one that counts them: ``and 5 more``."""
    rest = len(lines) - most
    return [*lines[:most], f"and {rest} more"] if rest > 0 else lines
