"""What people see of a wait: a line that goes on, and a printed line when a state changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from deploy_guard.drivers.kubernetes.faults import Fault
from deploy_guard.drivers.kubernetes.health import Health
from deploy_guard.drivers.kubernetes.objects import Ref

_SHOWN = 6
"""Objects that are named in the line."""


class Telling:
    """Tells how a wait goes on.

    :param progress: shows a line to people who watch.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._begun = time.monotonic()
        self._line = ""
        self._healthy: dict[Ref, bool] = {}
        self._away = False

    @property
    def seconds(self) -> str:
        """How long it has been going on, as in ``12 s``."""
        return f"{int(time.monotonic() - self._begun)} s"

    def state(self, ref: Ref, found: Health, *, healthy: bool) -> None:
        """Print when an object became healthy, or is so no longer."""
        before = self._healthy.get(ref)
        self._healthy[ref] = healthy
        if healthy and not before:
            parts = "" if found.wanted == 1 else f": {found.ready}/{found.wanted} ready"
            state = "has completed" if ref.key.kind == "Job" and found.ready else "is healthy"
            print(f"{ref} {state} after {self.seconds}{parts}")
        elif before and not healthy:
            print(f"{ref} is no longer healthy: {found.why or 'its pods started again'}")

    def fault(self, ref: Ref, fault: Fault, dwell: float) -> None:
        """Print that something is wrong, and how long it may be."""
        if dwell:
            print(f"{ref}: {fault}; given up if that stands for {dwell:g} s")

    def away(self, why: str) -> None:
        """Print that the API server is away, once."""
        if not self._away:
            print(f"waiting for the API server: {why}")
        self._away = True

    def back(self) -> None:
        """Print that it is back."""
        if self._away:
            print(f"the API server answers again, {self.seconds} after the wait began")
        self._away = False

    def line(self, states: Mapping[Ref, tuple[Health | None, bool]]) -> None:
        """Show how all objects are: ``web 1/3 ready, 12 s; worker 2/2``."""
        open_, done = [], []
        for ref, (found, healthy) in states.items():
            if found is None:
                open_.append(f"{ref.key.name} not seen yet, {self.seconds}")
            elif healthy:
                done.append(f"{ref.key.name} {found.ready}/{found.wanted}")
            else:
                state = "done" if ref.key.kind == "Job" else "ready"
                open_.append(f"{ref.key.name} {found.ready}/{found.wanted} {state}, {self.seconds}")
        parts = (open_ + done)[:_SHOWN]
        if rest := len(open_) + len(done) - len(parts):
            parts.append(f"{rest} more" if len(open_) <= _SHOWN else f"{rest} more, {len(open_)} not ready in all")
        if (line := "; ".join(parts)) != self._line:
            self._line = line
            self._progress(line)
