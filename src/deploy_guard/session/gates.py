"""What each collected test is: gate or post-check, how severe, for whom, how long. Used by controller and workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deploy_guard.flow.model import Evidence, Phase, Severity
from deploy_guard.session.run import Run

PHASES = {"gate": Phase.GATE, "post_check": Phase.POST_CHECK}


@dataclass(frozen=True)
class GateSpec:
    """What the marks of one test say. ``timeout`` is in seconds; ``applicable`` is False for another environment."""

    severity: Severity
    phase: Phase
    applicable: bool
    timeout: float


SPEC = pytest.StashKey[GateSpec]()
EVIDENCE = pytest.StashKey[list[Evidence]]()


class BadMark(Exception):  # becomes a collection error of pytest's own kind
    """A mark that can't be used; the text names the fault and the valid values."""


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
    return GateSpec(Severity.CRITICAL, Phase.GATE, True, _timeout(None, item, run))


def prepare(item: pytest.Item, spec: GateSpec, run: Run) -> None:
    """Put on the item what pytest itself must know: the timeout, and the skip of another environment's test."""
    item.stash[SPEC] = spec
    item.user_properties.append(("severity", str(spec.severity)))
    if spec.phase is not Phase.GATE:
        item.user_properties.append(("phase", str(spec.phase)))
    # In front of the item's own marks, so that it wins over a unit-test configuration's timeout; by signal, because
    # the thread method ends the whole process; over fixtures too, because those hang as well.
    item.add_marker(pytest.mark.timeout(spec.timeout, method="signal", func_only=False), append=False)
    # A gate that returns what it should assert can't fail; pytest only warns of it.
    item.add_marker(pytest.mark.filterwarnings("error::pytest.PytestReturnNotNoneWarning"))
    if not spec.applicable:
        item.add_marker(pytest.mark.skip(reason=f"not for {run.env}"), append=False)


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
    unknown = sorted(set(mark.kwargs) - {"severity", "env", "timeout"})
    if unknown or len(mark.args) > 1 or (mark.args and "severity" in mark.kwargs):
        raise BadMark(
            f"{mark.name}() takes one severity, env= and timeout=; "
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
    return GateSpec(
        Severity(said), phase, env is None or run.env in names, _timeout(mark.kwargs.get("timeout"), item, run)
    )


def _timeout(own: Any, item: pytest.Item, run: Run) -> float:
    if own is not None:
        if isinstance(own, bool) or not isinstance(own, (int, float)) or not own > 0:
            raise BadMark(f"timeout={own!r} is not a number of seconds above 0")
        return float(own)
    mark = item.get_closest_marker("timeout")
    if mark is not None:
        value = mark.args[0] if mark.args else mark.kwargs.get("timeout")
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return float(value)
    return run.config.gate_timeout
