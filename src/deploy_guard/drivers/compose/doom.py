"""Whether containers are well, on their way, or doomed. Pure: looks at what the engine says, and remembers looks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from deploy_guard.drivers.compose.state import Container

_AFTER_A_CRASH = 2
"""Dwell times that a container must run which has crashed: one that crashes every few seconds runs in between."""


@dataclass(frozen=True)
class Finding:
    """What makes a rollout doomed: a container, or None where there is none, and what is wrong with it."""

    container: Container | None
    text: str


@dataclass(frozen=True)
class Look:
    """What one look found. Healthy when neither ``doomed`` nor ``waiting`` holds anything."""

    doomed: tuple[Finding, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Everything is well."""
        return not self.doomed and not self.waiting


@dataclass(frozen=True)
class Expected:
    """What is to be there.

    :param services: how many containers each service has.
    :param completed: services that end with exit code 0, and others wait for that.
    :param dwell: seconds that a container without a healthcheck must run.
    :param tolerated: ids of containers whose health is not asked for: they were not well before either.
    """

    services: Mapping[str, int]
    completed: Collection[str] = ()
    dwell: float = 5.0
    tolerated: Collection[str] = ()


@dataclass
class _Memory:
    started: str
    since: float
    base: int
    crashes: int = 0
    first_crash: float = 0.0
    last_crash: float = 0.0


@dataclass
class Judge:
    """Looks again and again.

    :param restarts: how often each container had been restarted before the rollout, by id; a new one never was.
    """

    expected: Expected
    restarts: Mapping[str, int] = field(default_factory=dict)
    _memory: dict[str, _Memory] = field(default_factory=dict)

    def look(
        self,
        containers: Iterable[Container],
        at: float,
        now: float,
        *,
        complete: bool = True,
        but: Collection[str] = (),
    ) -> Look:
        """Judge what is there.

        :param at: monotonic seconds.
        :param now: the engine's clock.
        :param complete: False while containers are still being made: nothing is missing yet.
        :param but: ids of containers that are about to be replaced or stopped.
        """
        doomed: list[Finding] = []
        waiting: list[str] = []
        count = dict.fromkeys(self.expected.services, 0)
        for container in containers:
            if container.one_off or container.service not in count:
                continue
            count[container.service] += 1
            if container.id in but:
                continue
            state, text = self._judge(container, at, now)
            if state == "doomed":
                doomed.append(Finding(container, text))
            elif state == "waiting":
                waiting.append(f"{container.service}: {text}")
        for service, number in self.expected.services.items():
            if count[service] < number:
                missing = f"{number - count[service]} of {number} containers" if number > 1 else "its container"
                if complete:
                    doomed.append(Finding(None, f"{service}: {missing} is gone"))
                else:
                    waiting.append(f"{service}: not made yet")
        return Look(tuple(doomed), tuple(waiting))

    def _judge(self, container: Container, at: float, now: float) -> tuple[str, str]:
        memory = self._remembered(container, at)
        status = container.status
        tolerated = container.id in self.expected.tolerated
        if status in ("exited", "dead", "removing"):
            return self._ended(container)
        if status == "created":
            return "waiting", "not started yet"
        if status == "paused":
            return "waiting", "paused"
        crashes = container.restarts - memory.base + (status == "restarting")
        if crashes > memory.crashes:
            memory.first_crash = memory.first_crash if memory.crashes else at
            memory.crashes, memory.last_crash = crashes, at
        ran = max(at - memory.since, container.age(now)) if status == "running" else 0.0
        needed = self.expected.dwell * (_AFTER_A_CRASH if crashes else 1)
        if status == "running" and (container.health == "healthy" or (tolerated and container.checked)):
            return "well", ""
        # A container that crashed is "unhealthy" to the engine until it runs again, without a failed check.
        if status == "running" and container.health == "unhealthy" and container.failed_checks:
            return "doomed", _unhealthy(container)
        if status == "running" and not container.checked and ran >= needed:
            return "well", ""
        # A crash or two while another service starts heal by themselves; what still crashes after the dwell does not.
        latest = at if status == "restarting" else memory.last_crash
        if crashes > 1 and latest - memory.first_crash >= self.expected.dwell:
            return "doomed", f"crashes again and again: {crashes} times, the last time {_exit(container)}"
        if status == "restarting":
            return "waiting", f"crashed {_exit(container)}, is started again"
        if container.checked:
            return "waiting", "health: starting"
        return "waiting", f"runs for {ran:.0f} of {needed:g} s"

    def _remembered(self, container: Container, at: float) -> _Memory:
        memory = self._memory.get(container.id)
        if memory is None:
            base = self.restarts.get(container.id, 0)
            memory = self._memory[container.id] = _Memory(container.started, at, base)
        if memory.started != container.started:
            memory.started, memory.since = container.started, at
        memory.base = min(memory.base, container.restarts)  # a start by hand counts anew
        return memory

    def _ended(self, container: Container) -> tuple[str, str]:
        how = _exit(container)
        if container.status == "exited" and container.exit_code == 0:
            if container.service in self.expected.completed or container.ends:
                return "well", ""
            if container.restarting_policy:
                return "doomed", "was stopped"
            why = "publishes a port" if container.ports else "has a healthcheck"
            return "doomed", f"ended {how}, though it {why} and so is no task that ends"
        if container.status == "removing":
            return "waiting", "is being removed"
        return "doomed", f"ended {how}"


def _exit(container: Container) -> str:
    text = f"with exit code {container.exit_code}"
    error = str(container.raw["State"].get("Error") or "")
    return text + (", out of memory" if container.out_of_memory else "") + (f" ({error})" if error else "")


def _unhealthy(container: Container) -> str:
    text = f"is unhealthy: {container.failed_checks} checks failed in a row"
    if container.last_check is not None:
        code, output = container.last_check
        text += f", the last with exit code {code}" + (f": {output.splitlines()[-1][:300]}" if output else "")
    return text
