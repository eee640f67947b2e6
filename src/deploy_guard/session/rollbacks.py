"""Where rollback fixtures are found, and which fixtures each of them sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.marks import RollbackTag
from deploy_guard.session.items import tagged

Found = tuple[Callable[..., Any], pytest.Collector, RollbackTag]


class Rollbacks:
    """Collects ``@rollback`` functions from conftests, plugins and test modules, in order of definition."""

    def __init__(self, config: pytest.Config) -> None:
        self._functions: dict[Callable[..., Any], RollbackTag] = {}
        self._folders: dict[Path, pytest.Collector] = {}
        self._session: pytest.Session | None = None
        for plugin in config.pluginmanager.get_plugins():
            self.look_into(plugin)

    def look_into(self, namespace: object) -> None:
        """Take the rollback fixtures of a module; one that was imported from another counts once."""
        for tag, function in tagged(namespace):
            self._functions.setdefault(function, tag)

    def place(self, session: pytest.Session, items: Iterable[pytest.Item]) -> None:
        """Look into the test modules too, and learn which node stands for which folder."""
        self._session = session
        looked: set[int] = set()
        for item in items:
            module = getattr(item, "module", None)
            if module is not None and id(module) not in looked:
                looked.add(id(module))
                self.look_into(module)
            parent = item.parent
            while parent is not None and parent.path not in self._folders:
                if isinstance(parent, (pytest.Directory, pytest.Module)):
                    self._folders[parent.path] = parent
                parent = parent.parent

    @property
    def found(self) -> list[Found]:
        """The rollback fixtures in order of definition, each with its node."""
        ordered = sorted(self._functions.items(), key=lambda entry: entry[1].order)
        return [(function, self._node(function), tag) for function, tag in ordered]

    def node_for(self, roots: Iterable[Path]) -> pytest.Collector:
        """Return the node of the first gate root that was collected, or the session."""
        assert self._session is not None
        return next((self._folders[root] for root in roots if root in self._folders), self._session)

    def _node(self, function: Callable[..., Any]) -> pytest.Collector:
        """Return the node whose fixtures the function sees: its module, the folder of its conftest, or the session."""
        assert self._session is not None
        file = Path(function.__code__.co_filename)
        return self._folders.get(file) or self._folders.get(file.parent) or self._session


class StoredFixtures:
    """During a rollback, saved fixtures give the stored value, whoever asks for them."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> object:
        """Answer for a stored fixture without running it."""
        if fixturedef.argname not in self.values:
            return None
        fixturedef.cached_result = (self.values[fixturedef.argname], fixturedef.cache_key(request), None)  # type: ignore[arg-type]
        # Anything but None ends the hook; pytest takes the value from the cache.
        return True
