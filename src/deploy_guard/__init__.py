"""Deployment gates as pytest tests.

What users import: the marks :func:`gate` and :func:`post_check`, the decorator :func:`rollback`, and the types that
a driver of one's own is written with. Each is loaded when it is asked for; importing this package loads nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy_guard.deadline import Deadline
    from deploy_guard.drivers.base import Change, Context, Driver, Plan, Release, Snapshot
    from deploy_guard.errors import (
        CommandFailed,
        ConfigurationError,
        DeployGuardError,
        PlanRejected,
        RollbackFailed,
        RolloutDoomed,
        VerifyFailed,
    )
    from deploy_guard.flow.model import Severity
    from deploy_guard.marks import gate, post_check, rollback
    from deploy_guard.tables import Table

__all__ = [
    "Change",
    "CommandFailed",
    "ConfigurationError",
    "Context",
    "Deadline",
    "DeployGuardError",
    "Driver",
    "Plan",
    "PlanRejected",
    "Release",
    "RollbackFailed",
    "RolloutDoomed",
    "Severity",
    "Snapshot",
    "Table",
    "VerifyFailed",
    "__version__",
    "gate",
    "post_check",
    "rollback",
]

__version__ = "0.1.0"

_HOMES = {
    "Deadline": "deadline",
    "Change": "drivers.base",
    "Context": "drivers.base",
    "Driver": "drivers.base",
    "Plan": "drivers.base",
    "Release": "drivers.base",
    "Snapshot": "drivers.base",
    "CommandFailed": "errors",
    "ConfigurationError": "errors",
    "DeployGuardError": "errors",
    "PlanRejected": "errors",
    "RollbackFailed": "errors",
    "RolloutDoomed": "errors",
    "VerifyFailed": "errors",
    "Severity": "flow.model",
    "gate": "marks",
    "post_check": "marks",
    "rollback": "marks",
    "Table": "tables",
}


def __getattr__(name: str) -> Any:
    """Load the public names when they are asked for: neither a plain test session nor ``--help`` pays for them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
