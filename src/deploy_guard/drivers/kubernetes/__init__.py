"""The Kubernetes driver: server-side apply through the user's own kubectl, and all of it back again."""

from __future__ import annotations

from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.driver import KubernetesDriver

__all__ = ["KubernetesConfig", "KubernetesDriver"]
