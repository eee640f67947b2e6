"""What a step says while it goes on, for people who watch: a line that is rewritten, or a line now and then."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

import pytest

from deploy_guard.printable import one_line

_DURATION = re.compile(r"(\b\d+(\.\d+)? ?(ms|s|m|min|h)\b ?)+")
"""What grows by itself is no news."""
_BELOW = "\x1bD\x1b[A\x1b7\x1b[B\r"
"""Make sure that there is a line below (index scrolls, and keeps the column), remember the place, go there."""
_BACK = "\x1b8"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class Display(Protocol):
    """Where lines are shown.

    ``first``: seconds from the beginning of a step to its first line; ``every``: at least between two lines that say
    something new; ``again``: between two that say the same.
    """

    first: float
    every: float
    again: float

    def show(self, step: str, text: str) -> None:
        """Show a line of a step; ``OSError`` where nobody can see it."""
        ...

    def clear(self) -> None:
        """The step is over."""
        ...


class LiveLine:
    """One line below what pytest writes, written anew each time; pytest's cursor is where it was."""

    first, every, again = 0.3, 0.1, 0.1

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def show(self, step: str, text: str) -> None:
        """Rewrite the line, which ends at the terminal's edge, wide characters or not."""
        columns = os.get_terminal_size(self._handle).columns or 80
        line = f"{step}: {text}"[:columns]
        self._write(f"{_BELOW}\x1b[K{_NO_WRAP}{line}{_WRAP}{_BACK}")

    def clear(self) -> None:
        """Leave nothing behind."""
        self._write(f"{_BELOW}\x1b[K{_BACK}")

    def _write(self, text: str) -> None:
        _write(self._handle, text)  # in one piece: a process that ends in the middle leaves the terminal as it was


class PlainLines:
    """A line now and then, for logs: nothing of short steps, and of long ones what is new."""

    first, every, again = 5.0, 10.0, 60.0

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._step = ""

    def show(self, step: str, text: str) -> None:
        """Add a line; the first of a step ends the one that pytest has begun."""
        begin, self._step = "" if self._step else "\n", step
        _write(self._handle, f"{begin}deploy-guard: {step}: {text}\n")

    def clear(self) -> None:
        """Nothing to take away."""
        self._step = ""


class Progress:
    """Takes lines from a driver, in any thread and as often as it likes, and shows the newest at the display's pace.

    Nothing that it does is an error, and no terminal that stands still holds up the driver: a thread of its own
    writes. Without a display, and outside of a step, it is silent.

    :param redact: takes secrets out of each line.
    """

    def __init__(self, redact: Callable[[str], str] = str, display: Display | None = None) -> None:
        self.display = display
        self._redact = redact
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._current: _Step | None = None

    def __call__(self, line: str) -> None:
        """Show this line soon, unless a newer one comes before."""
        if self.display is None or self._current is None:
            return
        text = one_line(self._redact(next(iter(str(line).strip().splitlines()), "")))
        with self._changed:
            step = self._current
            if step is None or not text:
                return
            step.newest = text
            if step.writer is None:
                step.writer = threading.Thread(target=self._write, args=(step,), name="progress", daemon=True)
                with suppress(RuntimeError):  # no more threads: then nobody sees it
                    step.writer.start()
            self._changed.notify()

    @contextmanager
    def during(self, step: str) -> Iterator[None]:
        """Show what is said until this ends."""
        self._current = _Step(step)
        try:
            yield
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            step, self._current = self._current, None
            self._changed.notify()
        if step is None or step.writer is None or self.display is None:
            return
        with self._writing:
            if step.shown:
                with suppress(OSError):  # nobody reads any more; a release does not fail for it
                    self.display.clear()

    def _write(self, step: _Step) -> None:
        display = self.display
        assert display is not None
        while True:
            with self._changed:
                while self._current is step and (wait := step.due(display) - time.monotonic()) > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                text = step.newest
            with self._writing:
                if self._current is not step:
                    return
                step.note(text)
                with suppress(OSError):
                    display.show(step.name, text)


class _Step:
    """What was said and shown of one step."""

    def __init__(self, name: str) -> None:
        self.name = one_line(name)
        self.newest = self.shown = ""
        self.writer: threading.Thread | None = None
        self._began = time.monotonic()
        self._last = 0.0

    def due(self, display: Display) -> float:
        """Return when the newest line may be shown."""
        if not self.shown:
            return self._began + display.first
        if self.newest == self.shown:
            return float("inf")
        same = _DURATION.sub("", self.newest) == _DURATION.sub("", self.shown)
        return self._last + (display.again if same else display.every)

    def note(self, text: str) -> None:
        """Remember what is shown now."""
        self.shown, self._last = text, time.monotonic()


def own_handle() -> int:
    """Return a handle of where standard output goes now, before pytest takes it away; -1 where it is no file."""
    try:
        return os.dup(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # none at all, or a program's own object
        return -1


def display_for(config: pytest.Config, handle: int, environ: Mapping[str, str], *, logged: bool) -> Display | None:
    """Return how progress is shown in this session; None where nobody wants to see it.

    :param logged: the events of the run are written to the terminal as well.
    """
    if handle < 0 or config.get_verbosity() < -1 or not config.pluginmanager.has_plugin("terminalreporter"):
        return None
    terminal = os.isatty(handle) and environ.get("TERM", "") not in ("", "dumb")
    # A line is rewritten only where nothing but pytest writes meanwhile, and where a person watches.
    alone = config.getoption("capture") in ("fd", "sys") and not logged and not _logs_live(config)
    return LiveLine(handle) if terminal and alone and not environ.get("CI") else PlainLines(handle)


def _logs_live(config: pytest.Config) -> bool:
    if not config.pluginmanager.has_plugin("logging"):
        return False
    return bool(config.getini("log_cli")) or config.getoption("log_cli_level", None) is not None


def _write(handle: int, text: str) -> None:
    os.write(handle, text.encode("utf-8", "backslashreplace"))
