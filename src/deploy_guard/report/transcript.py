"""What the page of a run shows beyond its record: captured output and tracebacks, item by item."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploy_guard.report.text import LONGEST, cut

if TYPE_CHECKING:
    import pytest

_LEAST = 1024
"""Characters that a text may have when its item has said too much already."""


@dataclass
class Output:
    """What one item left behind.

    :param failures: for each report that was not a pass: its phase and pytest's own text, mostly a traceback.
    :param sections: what was captured: its title (``Captured stdout call``) and the text.
    """

    failures: list[tuple[str, str]] = field(default_factory=list)
    sections: list[tuple[str, str]] = field(default_factory=list)
    _known: set[tuple[str, int]] = field(default_factory=set)

    @property
    def size(self) -> int:
        """Characters held."""
        return sum(len(text) for _, text in (*self.failures, *self.sections))

    def fail(self, phase: str, text: str) -> None:
        """Keep the text of a failure."""
        self.failures.append((phase, self._fitting(text)))

    def say(self, title: str, text: str) -> None:
        """Keep a captured text, once: each report of an item repeats what those before it had."""
        key = (title, hash(text))
        if text.strip() and key not in self._known:
            self._known.add(key)
            self.sections.append((title, self._fitting(text)))

    def _fitting(self, text: str) -> str:
        return cut(text, max(_LEAST, LONGEST - self.size))


class Transcript:
    """The outputs of a session, by node id."""

    def __init__(self) -> None:
        self._outputs: dict[str, Output] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Take in one report that is not a silent pass; what it says has been redacted."""
        longrepr = report.longrepr
        failed = longrepr is not None and not isinstance(longrepr, (tuple, list))  # those are a skip's place and reason
        if failed or report.sections:
            # pytest-xdist's loadgroup distribution appends the group to the id
            output = self._outputs.setdefault(report.nodeid.rsplit("@", 1)[0], Output())
            if failed:
                output.fail(str(report.when), report.longreprtext)
            for title, text in report.sections:
                output.say(title, text)

    def of(self, node_id: str) -> Output | None:
        """Return what an item left behind; None where it was silent."""
        return self._outputs.get(node_id.rsplit("@", 1)[0])
