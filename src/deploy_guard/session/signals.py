"""Signals during a session: the first one interrupts what may be interrupted, none abandons a rollback."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Signals:
    """Turns Ctrl-C, SIGTERM (an aborted job, an evicted pod) and SIGHUP into one interruption.

    :param told: called at each signal with its name and whether it is the first; must be quick.
    """

    def __init__(self, told: Callable[[str, bool], None]) -> None:
        self._told = told
        self._before: dict[int, Any] = {}
        self.first = ""
        self.interruptible = True

    def install(self) -> None:
        """Take the signals over; one that was ignored on purpose (nohup) stays ignored."""
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is None:
                continue
            before = signal.getsignal(number)
            if before is signal.SIG_IGN and name != "SIGTERM":
                continue
            self._before[number] = before
            signal.signal(number, self._handle)

    def restore(self) -> None:
        """Put back what was there."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        first = not self.first
        self.first = self.first or name
        self._told(name, first)
        # Once only: a job that is aborted sends the same signal to each process, and the parent forwards it as well.
        if first and self.interruptible:
            raise KeyboardInterrupt(name)
