"""The Docker Compose driver: a project on a Docker engine, local or remote, brought up, watched, and brought back."""

from __future__ import annotations

from deploy_guard.drivers.compose.config import ComposeConfig
from deploy_guard.drivers.compose.driver import ComposeDriver

__all__ = ["ComposeConfig", "ComposeDriver"]
