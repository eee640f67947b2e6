"""Has the machine that the release is made from what it takes to make it?"""

import os

import pytest

from deploy_guard import gate
from deploy_guard.config import EnvironmentConfig
from deploy_guard.probes.machine import Machine
from deploy_guard.probes.service import Service
from deploy_guard.probes.tools import OF_DRIVER, Requirement
from deploy_guard.session.fixtures import EvidenceLog

NOT_CONFIGURED = "not configured"


@pytest.fixture
def looked_at(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Note which machine is measured: with a remote engine or a cluster it is not the one that is deployed to."""
    context = str(deploy_config.driver_config.get("context", ""))
    evidence.record("machine", machine.looked_at(deploy_config.driver, os.environ, context))


@gate("critical")
@pytest.mark.usefixtures("looked_at")
def test_disks_have_room(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Every configured path has room left."""
    limits = deploy_config.host.disk
    for path in deploy_config.host.paths:
        used = machine.disk(path).used_percent
        evidence.threshold(f"disk {path}", used, warn=limits.warn, fail=limits.fail, unit="%")


@gate("critical")
@pytest.mark.usefixtures("looked_at")
def test_disks_have_inodes(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Every configured path has inodes left, where its file system counts them."""
    limits = deploy_config.host.inodes
    for path in deploy_config.host.paths:
        if (inodes := machine.inodes(path)) is None:
            evidence.record(f"inodes {path}", "not counted by this file system")
        else:
            used = inodes.used_percent
            evidence.threshold(f"inodes {path}", used, warn=limits.warn, fail=limits.fail, unit="%")


@gate("critical")
@pytest.mark.usefixtures("looked_at")
def test_memory_is_left(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Memory is available without swapping; in a container, below the limit of its control group."""
    limits = deploy_config.host.memory
    memory = machine.memory()
    evidence.record("memory in all", round(memory.total / 1024**2), "MiB")
    evidence.threshold(memory.what, memory.used_percent, warn=limits.warn, fail=limits.fail, unit="%")


@gate("critical")
def test_tools_are_installed(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """The tools that the driver and the configuration name are on the PATH, and new enough."""
    wanted = dict.fromkeys([*OF_DRIVER.get(deploy_config.driver or "", ()), *deploy_config.host.tools])
    if not wanted:
        evidence.record("tools", NOT_CONFIGURED)
    problems = []
    for requirement in map(Requirement.parse, wanted):
        name, minimum = requirement.name, requirement.minimum
        tool = machine.tool(name)
        asked = f" (at least {minimum})" if minimum else ""
        evidence.record(f"tool {name}", f"{tool.version or 'no data'}{asked}" if tool.path else "not there")
        if tool.path is None:
            problems.append(f"{tool.problem}: install {name}")
        elif minimum and tool.version is None:
            problems.append(f"{tool.problem}: no data, and {minimum} or newer is asked for")
        elif minimum and not tool.at_least(minimum):
            problems.append(f"{name} is {tool.version}, and {minimum} or newer is asked for ({tool.path})")
    _none_of(problems)


@gate("critical")
def test_processes_run(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """The processes that the configuration names are running."""
    if not deploy_config.host.processes:
        evidence.record("processes", NOT_CONFIGURED)
    problems = []
    for name in deploy_config.host.processes:
        pids = ", ".join(str(process.pid) for process in machine.processes(name))
        evidence.record(f"process {name}", f"runs ({pids})" if pids else "does not run")
        if not pids:
            problems.append(f"{name} does not run on {machine.name}")
    _none_of(problems)


@gate("critical")
def test_ports_are_open_and_free(machine: Machine, deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """Somebody listens at the ports that must be open, and nobody at those that must be free."""
    ports = deploy_config.host.ports
    if not ports.open and not ports.free:
        evidence.record("ports", NOT_CONFIGURED)
    problems = []
    for address in ports.open:
        why = machine.reach(address)
        evidence.record(f"port {address}", why or "open")
        if why:
            problems.append(f"{address} must be open: {why}")
    for port in ports.free:
        holder = machine.taken(port)
        evidence.record(f"port {port}", holder or "free")
        if holder:
            problems.append(f"port {port} must be free: it is {holder}")
    _none_of(problems)


@gate("recoverable")
def test_the_clock_agrees_with_the_service(
    service: Service, deploy_config: EnvironmentConfig, evidence: EvidenceLog
) -> None:
    """The clock of this machine is not far from the one that the service puts into its answers."""
    limits = deploy_config.host.clock_skew
    if limits is None:
        evidence.record("clock skew", NOT_CONFIGURED)
        return
    skew = abs(service.clock_skew())
    evidence.threshold("clock skew", skew, warn=limits.warn, fail=limits.fail, unit="s")


def _none_of(problems: list[str]) -> None:
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
