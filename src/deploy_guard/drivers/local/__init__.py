"""The embedded driver: release folders, an atomically switched ``current``, an optional service, on this machine."""

from __future__ import annotations

from deploy_guard.drivers.local.config import LocalConfig
from deploy_guard.drivers.local.driver import LocalDriver

__all__ = ["LocalConfig", "LocalDriver"]
