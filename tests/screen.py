"""A terminal as a person sees it: enough of one to tell what stands where after a run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

_SEQUENCE = re.compile(r"\x1b(?:\[(\??[0-9;]*)([A-Za-z])|([78DM]))")


class Screen:
    """Takes what a program writes, and holds the lines, those that went out at the top included."""

    def __init__(self, rows: int = 24, columns: int = 100) -> None:
        self.rows, self.columns = rows, columns
        self.lines: list[list[str]] = [[]]
        self.row = self.column = 0
        self._saved = (0, 0)
        self._wraps = True
        self.seen: set[str] = set()
        """Every line as it stood whenever the cursor left it."""

    def feed(self, text: str) -> None:
        place = 0
        while place < len(text):
            found = _SEQUENCE.match(text, place)
            if found:
                self._control(found[1] or "", found[2] or found[3])
                place = found.end()
                continue
            self._char(text[place])
            place += 1

    @property
    def text(self) -> str:
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip("\n")

    @property
    def _top(self) -> int:
        return max(0, len(self.lines) - self.rows)

    def _char(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down(scroll=True)
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            if self.column >= self.columns:
                if self._wraps:
                    self.column = 0
                    self._down(scroll=True)
                else:
                    self.column = self.columns - 1
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = char
            self.column += 1

    def _down(self, *, scroll: bool) -> None:
        self.seen.add("".join(self.lines[self.row]).rstrip())
        if self.row + 1 == len(self.lines):
            if not scroll and len(self.lines) >= self.rows:
                return
            self.lines.append([])
        self.row += 1

    def _control(self, numbers: str, kind: str) -> None:
        if kind == "D":
            self._down(scroll=True)
        elif kind == "B":
            self._down(scroll=False)
        elif kind == "A":
            self.row = max(self._top, self.row - 1)
        elif kind == "7":
            self._saved = (self.row - self._top, self.column)
        elif kind == "8":
            self.seen.add("".join(self.lines[self.row]).rstrip())
            self.row, self.column = self._top + self._saved[0], self._saved[1]
        elif kind == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif (kind, numbers) in (("h", "?7"), ("l", "?7")):
            self._wraps = kind == "h"
        else:
            assert kind == "m", f"an unknown sequence: {numbers}{kind}"


def run_on_a_terminal(argv: list[str], cwd: Path, environ: Mapping[str, str], rows: int = 24) -> tuple[int, Screen]:
    """Run a program whose output is a terminal; return its exit code and what is to be seen."""
    screen = Screen(rows)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, screen.columns, 0, 0))
    env = {**environ, "TERM": "xterm", "COLUMNS": str(screen.columns)}
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # Linux says so when the other side is closed
        while part := os.read(ours, 65536):
            said += part
    os.close(ours)
    screen.feed(said.decode().replace("\r\n", "\n\r"))
    return process.wait(timeout=30), screen
