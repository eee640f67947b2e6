"""A point in time after which waiting is over; monotonic, so that a clock that is set does not move it."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """Made with :meth:`after`; ``limit`` is what was asked for, in seconds, for messages."""

    at: float
    limit: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return a deadline ``seconds`` from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """True once nothing remains."""
        return self.remaining <= 0.0

    def sleep(self) -> None:
        """Sleep until it has passed."""
        time.sleep(self.remaining)
