"""What a session that the command line starts is given; imported only once pytest is needed."""

from __future__ import annotations

from collections.abc import Generator
from importlib import import_module

import pytest

_NEEDED = {
    "timeout": "pytest_timeout",
    "deploy_guard": "deploy_guard.plugin",
}
"""What a run needs, under the names that pytest would give them; searching all installed packages takes longer."""


class Needed:
    """Registers the plugins that a run of packaged gates needs; pytest loads no others."""

    def pytest_addoption(self, pluginmanager: pytest.PytestPluginManager) -> None:
        """Early enough for their own options."""
        for name, module in _NEEDED.items():
            pluginmanager.register(import_module(module), name)


class Refusal:
    """Hears why a run was refused before anything ran, for the JSON document."""

    text = ""

    def pytest_plugin_registered(self, plugin_name: str, manager: pytest.PytestPluginManager) -> None:
        """Listen around deploy-guard's own hook: of two outermost ones, the one that comes later is outside."""
        if plugin_name == "deploy_guard":
            manager.register(_Listener(self), "deploy_guard_refusal")


class _Listener:
    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self) -> Generator[None, object, object]:
        """The run's own refusals pass through here on their way to pytest."""
        try:
            return (yield)
        except Exception as error:
            self._refusal.text = str(error)
            raise
