"""What each collected test is: gate or post-check, how severe, for whom, how long. Used by controller and workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from deploy_guard.flow.model import Evidence, Phase, Severity
from deploy_guard.session.run import Run

PHASES = {"gate": Phase.GATE, "post_check": Phase.POST_CHECK}


@dataclass(frozen=True)
class GateSpec:
    """What the marks of one test say.

    :param applicable: False for a test of another environment.
    :param timeout: in seconds.
    :param blocking: runs before those that are not, and keeps them from running when it fails.
    :param usual: no mark says a timeout of its own, so that the session's, which pytest-timeout was given, holds.
    """

    severity: Severity
    phase: Phase
    applicable: bool
    timeout: float
    usual: bool = False
    blocking: bool = False


SPEC = pytest.StashKey[GateSpec]()
EVIDENCE = pytest.StashKey[list[Evidence]]()


class BadMark(Exception):  # becomes a collection error of pytest's own kind
    """A mark that can't be used; the text names the fault and the valid values."""


class Specifications:
    """Reads the marks of a session's items; what tests without marks of their own inherit is read once for all."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._inherited: dict[pytest.Collector, GateSpec] = {}
        self._raised = run.config.severities
        self.unused = set(self._raised)
        """Entries of ``[severities]`` that named none of the items so far."""

    def of(self, item: pytest.Item) -> GateSpec:
        """Return what the marks of this item say, and the configuration's ``[severities]``; raises ``BadMark``."""
        spec = self._marked(item)
        return self._raise(item, spec) if self._raised else spec

    def _marked(self, item: pytest.Item) -> GateSpec:
        parent = item.parent
        if item.own_markers or not isinstance(parent, pytest.Collector):
            return specify(item, self._run)
        if parent not in self._inherited:
            self._inherited[parent] = specify(item, self._run)
        return self._inherited[parent]

    def _raise(self, item: pytest.Item, spec: GateSpec) -> GateSpec:
        file, _, test = item.nodeid.partition("::")
        root = next((root for root in self._run.roots if file == root.name or file.startswith(f"{root.name}/")), None)
        names = [item.nodeid, item.nodeid.split("[", 1)[0]]
        if root is not None and root.package:
            names += [f"{root.name}::{test}", f"{root.name}::{test.split('[', 1)[0]}"]
        for name in names:
            if name in self._raised:
                self.unused.discard(name)
                return self._raised_to(name, Severity(self._raised[name]), spec)
        return spec

    def _raised_to(self, name: str, severity: Severity, spec: GateSpec) -> GateSpec:
        where = f"{self._run.config.path}: severities: {name!r} = {str(severity)!r}"
        if severity.exit_code < spec.severity.exit_code:
            raise BadMark(f"is {spec.severity}, and {where} would lower that: a severity can only be raised")
        if severity not in spec.phase.severities:
            raise BadMark(f"is a {spec.phase}, and {where}: use {', '.join(spec.phase.severities)}")
        return replace(spec, severity=severity)


def specify(item: pytest.Item, run: Run) -> GateSpec:
    """Return what the closest mark says; a test with none is a critical gate.

    :raises BadMark: for an unknown severity, environment or argument, and for two marks at one level.
    """
    for marks in _levels(item):
        found = [mark for mark in marks if mark.name in PHASES]
        if len(found) > 1:
            said = " and ".join(f"{mark.name}({', '.join(map(repr, mark.args))})" for mark in found)
            raise BadMark(f"has two marks at one level, {said}: keep one of them")
        if found:
            return _parse(found[0], item, run)
    return GateSpec(Severity.CRITICAL, Phase.GATE, True, *_timeout(None, item, run))


def prepare(item: pytest.Item, spec: GateSpec, run: Run) -> None:
    """Put on the item what pytest and the reports must know: severity, phase, and the skip of another environment."""
    item.stash[SPEC] = spec
    item.user_properties.append(("severity", spec.severity.value))
    if spec.phase is not Phase.GATE:
        item.user_properties.append(("phase", spec.phase.value))
    if not spec.applicable:
        item.add_marker(pytest.mark.skip(reason=f"not for {run.env}"), append=False)


def limit_all(config: pytest.Config, seconds: float) -> None:
    """Give pytest-timeout the time limit of gates that say none of their own; before it is configured.

    By signal, because the thread method ends the whole process.
    """
    config.option.timeout = seconds
    config.option.timeout_method = "signal"


def settle(item: pytest.Item, *, func_only: bool) -> None:
    """Make the time limit of an item hold, whatever marks other plugins put on it meanwhile.

    :param func_only: the configuration's ``timeout_func_only``; fixtures hang as well, so it must not hold for gates.
    """
    spec = item.stash[SPEC]
    if not spec.usual or func_only or any(mark.name == "timeout" for mark in item.own_markers):
        # In front of the item's own marks, so that it wins over them.
        item.add_marker(pytest.mark.timeout(spec.timeout, method="signal", func_only=False), append=False)


def _levels(item: pytest.Item) -> Iterator[list[pytest.Mark]]:
    """Yield the marks by level, closest first: parameter set, function, class and its bases, module, package."""
    callspec = getattr(item, "callspec", None)
    parameters = list(callspec.marks) if callspec is not None else []
    yield parameters
    yield [mark for mark in item.own_markers if not any(mark is other for other in parameters)]
    for node in item.iter_parents():
        if node is item:
            continue
        if isinstance(node, pytest.Class):
            for cls in node.obj.__mro__:
                yield _unpacked(cls.__dict__.get("pytestmark", []))
        else:
            yield node.own_markers


def _unpacked(marks: Any) -> list[pytest.Mark]:
    several = marks if isinstance(marks, (list, tuple)) else [marks]
    return [mark.mark if isinstance(mark, pytest.MarkDecorator) else mark for mark in several]


def _parse(mark: pytest.Mark, item: pytest.Item, run: Run) -> GateSpec:
    phase = PHASES[mark.name]
    options = ["env", "timeout", *(["blocking"] if phase is Phase.GATE else [])]
    unknown = sorted(set(mark.kwargs) - {"severity", *options})
    if unknown or len(mark.args) > 1 or (mark.args and "severity" in mark.kwargs):
        raise BadMark(
            f"{mark.name}() takes one severity, {'=, '.join(options)}=; "
            + (f"it does not know {', '.join(unknown)}" if unknown else "it was given more than one severity")
        )
    said = mark.args[0] if mark.args else mark.kwargs.get("severity", Severity.CRITICAL)
    valid = [str(severity) for severity in phase.severities]
    if said not in valid:
        raise BadMark(f"{mark.name}({said!r}) is not a severity: use {', '.join(valid)}")
    env = mark.kwargs.get("env")
    names = (env,) if isinstance(env, str) else tuple(env) if isinstance(env, (list, tuple, set, frozenset)) else ()
    known = run.config.environments
    wrong = [name for name in names if name not in known]
    if wrong or (env is not None and not names):
        raise BadMark(f"{mark.name}(env={env!r}) is not an environment: use {', '.join(known)}")
    blocking = mark.kwargs.get("blocking", False)
    if not isinstance(blocking, bool):
        raise BadMark(f"{mark.name}(blocking={blocking!r}) is neither True nor False")
    applicable = env is None or run.env in names
    limit, usual = _timeout(mark.kwargs.get("timeout"), item, run)
    return GateSpec(Severity(said), phase, applicable, limit, usual, blocking)


def _timeout(own: Any, item: pytest.Item, run: Run) -> tuple[float, bool]:
    """Return the limit in seconds, and whether it is the usual one that no mark touches."""
    if own is not None:
        if isinstance(own, bool) or not isinstance(own, (int, float)) or not own > 0:
            raise BadMark(f"timeout={own!r} is not a number of seconds above 0")
        return float(own), False
    mark = item.get_closest_marker("timeout")
    if mark is not None:
        value = mark.args[0] if mark.args else mark.kwargs.get("timeout")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return float(value), False
    return run.config.gate_timeout, mark is None
