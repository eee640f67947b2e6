"""What a driver is: the only thing that knows one kind of target.

A driver knows neither pytest nor the flow. It is made from configuration alone, so that a rollback works from
another process. What it prints while it works is shown as the captured output of the step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from deploy_guard.deadline import Deadline

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None


@dataclass(frozen=True)
class Release:
    """What is to be shipped; what can't be known is None."""

    version: str | None
    commit: str | None = None
    branch: str | None = None
    tag: str | None = None
    previous: str | None = None


@dataclass(frozen=True)
class Change:
    """One object of the plan. ``diff`` is text for a reviewer, already redacted."""

    action: Literal["create", "change", "remove", "none"]
    object: str
    diff: str = ""


@dataclass(frozen=True)
class Plan:
    """The read-only result of a dry run. ``digest`` identifies what would be applied, ``data`` is the driver's own."""

    changes: tuple[Change, ...]
    digest: str
    data: JSON = None

    @property
    def unchanged(self) -> bool:
        """True when applying it would change nothing."""
        return all(change.action == "none" for change in self.changes)

    @property
    def summary(self) -> str:
        """Counts by action, as in ``1 created, 3 changed, 6 unchanged``."""
        words = {"create": "created", "change": "changed", "remove": "removed", "none": "unchanged"}
        counts = [
            f"{n} {word}" for action, word in words.items() if (n := sum(c.action == action for c in self.changes))
        ]
        return ", ".join(counts) or "no objects"


@dataclass(frozen=True)
class Snapshot:
    """What was running before, enough to bring it back, as plain serialisable data.

    For a first release ever ``previous`` is None: rolling back removes what was made.
    """

    driver: str
    schema: int
    target: str
    previous: str | None
    data: JSON = None

    def to_json(self) -> dict[str, JSON]:
        """Return the snapshot as JSON-able data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Snapshot:
        """Read what :meth:`to_json` gave; ``KeyError`` when a field is missing."""
        return cls(data["driver"], data["schema"], data["target"], data["previous"], data["data"])


@dataclass(frozen=True)
class Context:
    """What every driver is told besides its own configuration.

    :param service: the service's name.
    :param env: the environment.
    :param directory: relative paths in the configuration start here (the folder of the configuration file).
    :param environ: the run's environment variables (``VERSION`` and others for child commands).
    :param variables: the names of those that are replaced in manifests.
    :param progress: shows a line to people who watch, while a step goes on: ``web 1/3 ready, 12 s``. It may be called
        from any thread and at every look at the target; it never raises and never blocks. Nothing of it is kept: what
        is printed stands in the reports.
    """

    service: str
    env: str
    directory: Path
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    variables: tuple[str, ...] = ("VERSION", "COMMIT")
    progress: Callable[[str], None] = field(default=lambda _line: None, repr=False)


@runtime_checkable
class Driver(Protocol):
    """One kind of target. Implementations take ``(config: Config, context: Context)``.

    Two methods more are called where a driver has them: ``notices() -> Iterable[str]`` says what belongs into the
    headline of the reports, and ``close()`` ends what the driver holds (connections, child processes), once, at the end
    of the run, whatever became of it; an error there becomes a notice.

    A run that is told to end (Ctrl-C, SIGTERM) raises ``KeyboardInterrupt`` in ``plan``, ``snapshot``, ``apply`` and
    ``wait``, which are called in the main thread; a rollback follows. A driver that works in threads ends or joins
    them before it lets any exception out: nothing of an apply may go on beside its rollback. ``rollback`` and
    ``verify`` are not interrupted.
    """

    Config: ClassVar[type[Any]]
    """The driver's own table, ``[env.X.<driver>]``: a msgspec Struct, best a :class:`deploy_guard.Table`."""

    target: str
    """What is deployed to, for people: ``local .deploy/dev``, ``kubernetes eks-prod/shop``."""

    def plan(self, release: Release) -> Plan:
        """Say what a rollout would change. Read-only; raises ``PlanRejected``."""
        ...

    def snapshot(self, plan: Plan) -> Snapshot:
        """Describe what is there now, enough to bring it back. Read-only; ``PlanRejected`` when not restorable."""
        ...

    def apply(self, plan: Plan) -> None:
        """Make the changes; idempotent. Raises ``RolloutDoomed`` or ``CommandFailed``."""
        ...

    def wait(self, plan: Plan, deadline: Deadline) -> None:
        """Return when the release is healthy; raises ``RolloutDoomed`` as soon as it cannot succeed."""
        ...

    def rollback(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Bring the snapshot back. Idempotent and usable from another process; raises ``RollbackFailed``."""
        ...

    def verify(self, snapshot: Snapshot, deadline: Deadline) -> None:
        """Check that the target is what the snapshot says; raises ``VerifyFailed``."""
        ...
