"""What users write above their functions: ``@gate``, ``@post_check`` and ``@rollback``."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., Any])

ROLLBACK_ATTRIBUTE = "__deploy_guard_rollback__"
_definitions = itertools.count()


def gate(
    severity: Literal["critical", "recoverable", "warn"] = "critical",
    *,
    env: str | Iterable[str] | None = None,
    timeout: float | None = None,
    blocking: bool = False,
) -> pytest.MarkDecorator:
    """Mark a test that must pass before the rollout.

    Works wherever a pytest mark does: functions, classes, ``pytestmark``, ``pytest.param(..., marks=...)``. The
    closest mark wins; ``@pytest.mark.gate(...)`` is the same. A wrong value is reported when the tests are collected,
    with the test's name.

    :param severity: ``critical`` (exit 2 when it fails), ``recoverable`` (exit 1), ``warn`` (shown, exit 0).
    :param env: judged for these environments only; elsewhere shown as not applicable.
    :param timeout: seconds; by default the configuration's ``gate-timeout`` (60).
    :param blocking: runs before all gates that are not; where one fails, those are not run. For what makes the others
        meaningless, or harmful, when it is wrong, such as the environment.
    """
    return pytest.mark.gate(severity, **_options(env, timeout), **({"blocking": True} if blocking else {}))


def post_check(
    severity: Literal["critical", "warn"] = "critical",
    *,
    env: str | Iterable[str] | None = None,
    timeout: float | None = None,
) -> pytest.MarkDecorator:
    """Mark a test that runs after the rollout; when it fails, unless it is a ``warn``, the release is rolled back.

    ``env`` and ``timeout`` as for :func:`gate`.
    """
    return pytest.mark.post_check(severity, **_options(env, timeout))


def _options(env: str | Iterable[str] | None, timeout: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if env is not None:
        options["env"] = env if isinstance(env, str) else tuple(env)
    if timeout is not None:
        options["timeout"] = timeout
    return options


@dataclass(frozen=True)
class RollbackTag:
    """What :func:`rollback` leaves on a function: the order of definition and the fixtures saved before apply."""

    order: int
    saves: tuple[str, ...]


def rollback(*, saves: Sequence[str] = ()) -> Callable[[F], F]:
    """Declare a rollback fixture: a function that undoes what a driver cannot know about.

    Its arguments are fixtures. During a rollback these functions run in reverse order of definition, before the
    driver's own rollback; one that fails stops neither the others nor the driver.

    :param saves: names of fixtures with JSON-able values. They are evaluated before apply and stored with the
        snapshot; during a rollback, in whatever process it happens, they give the stored value.
    :raises TypeError: for a function that yields (nothing would ever resume it), or a ``saves`` that is a string.
    """
    if isinstance(saves, str):
        raise TypeError(f'@rollback(saves=...) takes a list of fixture names: write saves=["{saves}"]')
    names = tuple(saves)

    def tag(function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"the rollback fixture {function.__name__} can't yield: nothing resumes it after a failure. "
                "Do the work directly, or move what is set up before into a fixture named in saves=[...]"
            )
        setattr(function, ROLLBACK_ATTRIBUTE, RollbackTag(next(_definitions), names))
        return function

    return tag
