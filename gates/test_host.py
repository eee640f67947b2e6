"""Has the machine that the release is made from room to make it?"""

from deploy_guard import gate
from deploy_guard.config import EnvironmentConfig
from deploy_guard.probes.machine import Machine
from deploy_guard.session.fixtures import EvidenceLog


@gate("critical")
def test_disks_have_room(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Every configured path has room left."""
    limits = deploy_config.host.disk
    for path in deploy_config.host.paths:
        used = machine.disk(path).used_percent
        evidence.threshold(f"disk {path}", used, warn=limits.warn, fail=limits.fail, unit="%")


@gate("critical")
def test_memory_is_left(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Memory is available without swapping."""
    limits = deploy_config.host.memory
    evidence.threshold("memory", machine.memory().used_percent, warn=limits.warn, fail=limits.fail, unit="%")
