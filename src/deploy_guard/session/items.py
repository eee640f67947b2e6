"""The rows of a rollout as pytest items: each step, each rollback fixture, the closing verdict."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from deploy_guard.errors import DeployGuardError
from deploy_guard.marks import ROLLBACK_ATTRIBUTE, RollbackTag

NO_TIMEOUT = pytest.mark.timeout(0)
"""Steps have the drivers' own deadlines; a timer that fires in the middle of one would leave it half done."""
NO_ERRORS = pytest.mark.filterwarnings("default")
"""``filterwarnings = error`` is for unit tests: no warning may end an apply or a rollback half-way."""

LIMIT = pytest.StashKey[float]()
"""On a rollback item: seconds after which it is ended from outside."""


class RolloutNode(pytest.Collector):
    """The parent of the steps: ``rollout`` is the first half of their ids and JUnit's class name."""

    def collect(self) -> list[pytest.Item]:
        """Nothing is collected: the steps are made by the controller."""
        return []


class StepItem(pytest.Item):
    """One step of the rollout.

    :param act: does the step and returns one line for people.
    """

    def __init__(self, *, act: Callable[[], str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._act = act
        self.said = ""
        self.begun = False
        self.add_marker(NO_TIMEOUT)
        self.add_marker(NO_ERRORS)
        self.user_properties.append(("step", self.name))

    def runtest(self) -> None:
        """Do the step."""
        self.begun = True
        self.said = self._act()
        if self.said:
            print(self.said)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Show our own errors in their own words; a traceback is for what nobody foresaw."""
        if isinstance(excinfo.value, DeployGuardError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name the row."""
        return self.config.rootpath / "rollout", None, f"{self.parent.name if self.parent else ''}: {self.name}"


class DriverFunction(pytest.Function):
    """A step that asks for the ``deploy_driver`` fixture, so that a conftest's own driver is found."""

    said = ""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Show our own errors in their own words."""
        if isinstance(excinfo.value, DeployGuardError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, *args, **kwargs)


class NextItem(StepItem):
    """What pytest is told comes next, when that depends on how the current item ends.

    pytest asks its ``nextitem`` only which collectors stay set up; after a failure none below the session may.
    """

    passing: pytest.Item
    otherwise: pytest.Item
    failed: Callable[[], bool]

    def listchain(self) -> list[Any]:
        """Return the chain of whichever item will really be next."""
        return (self.otherwise if self.failed() else self.passing).listchain()


class RollbackFunction(pytest.Function):
    """A user's rollback fixture, run with its fixtures; saved ones give their stored values."""


class SaveFunction(pytest.Function):
    """Evaluates the fixtures that a rollback fixture wants saved."""


def tagged(namespace: object) -> Iterator[tuple[RollbackTag, Callable[..., Any]]]:
    """Yield the rollback fixtures of a module or plugin."""
    for value in list(vars(namespace).values()) if hasattr(namespace, "__dict__") else []:
        # The function's own dictionary: asking other people's objects for attributes may run their code.
        tag = value.__dict__.get(ROLLBACK_ATTRIBUTE) if isinstance(value, FunctionType) else None
        if isinstance(tag, RollbackTag):
            yield tag, value


def driven(act: Callable[[Any], str]) -> Callable[..., None]:
    """Return a test function that hands the driver to ``act`` and prints what it says."""

    def step(deploy_driver: Any) -> None:
        print(act(deploy_driver))

    return step


def saver(names: tuple[str, ...], keep: Callable[[str, Any], None]) -> Callable[..., None]:
    """Return a test function whose arguments are the fixtures to save.

    :param keep: gets each name and its value, JSON-able.
    """

    def save(**values: Any) -> None:
        for name, value in values.items():
            try:
                again = json.loads(json.dumps(value, allow_nan=False))
            except (TypeError, ValueError) as error:
                raise DeployGuardError(
                    f"the fixture {name!r} can't be saved for a rollback: {error}",
                    hint="return plain data: dict, list, str, int, float, bool or None",
                ) from error
            keep(name, again)

    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    # pytest reads the fixture names from the signature; keyword-only ones without a default count as well.
    save.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return save
