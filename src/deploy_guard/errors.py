"""Every error that a user can meet: what happened, why, and what to do next.

Drivers, flow and probes raise these; the session turns them into rows and exit codes.
"""

from __future__ import annotations

from collections.abc import Sequence


class DeployGuardError(Exception):
    """Base of all errors that deploy-guard raises on purpose.

    :param what: what happened and why, one sentence or more.
    :param hint: what to do next; empty where there is nothing to advise.
    """

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  next: {self.hint}" if self.hint else self.what


class ConfigurationError(DeployGuardError):
    """A configuration file or option is wrong; the run ends with exit 4 before anything ran."""


class PlanRejected(DeployGuardError):
    """The driver cannot or must not roll this release out; nothing was changed."""


class RolloutDoomed(DeployGuardError):
    """The rollout failed or cannot succeed any more; a rollback follows."""


class RollbackFailed(DeployGuardError):
    """What was there before could not be brought back."""


class TagFailed(DeployGuardError):
    """The tag of a release could not be made or pushed; the release itself stays as it is."""


class VerifyFailed(DeployGuardError):
    """After a rollback the target is not what the snapshot says.

    :param differences: one line for each difference, ready to be shown.
    """

    def __init__(self, differences: Sequence[str], *, hint: str = "") -> None:
        super().__init__("; ".join(differences) or "the target differs from the snapshot", hint=hint)
        self.differences = tuple(differences)


class CommandFailed(DeployGuardError):
    """A command could not be started, ended with a code other than 0, or ran past its deadline."""
