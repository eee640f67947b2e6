"""Drivers: each knows one kind of target. Loaded when the configuration names one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from msgspec import UNSET, Struct

from deploy_guard.drivers.base import Context, Driver
from deploy_guard.errors import ConfigurationError
from deploy_guard.tables import Problem, closest, read

GROUP = "deploy_guard.drivers"
"""The entry point group in which packages register drivers of their own."""

OWN = {
    "local": "deploy_guard.drivers.local:LocalDriver",
    "compose": "deploy_guard.drivers.compose:ComposeDriver",
    "kubernetes": "deploy_guard.drivers.kubernetes:KubernetesDriver",
}
"""Ours, known without looking at installed metadata; no package can take one of these names."""


def load_driver(name: str) -> type[Driver]:
    """Return the class of a driver.

    :raises ConfigurationError: for an unknown name, or a package whose driver can't be imported.
    """
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        return cast("type[Driver]", getattr(import_module(module), attribute))
    return _loaded(_registered(name))


def check_driver(name: str, raw: Mapping[str, Any], context: Context) -> None:
    """Raise what can be known of a driver before anything runs; no code of a package is run for it.

    :raises ConfigurationError: for a driver of ours that can't be made, and for a name that nobody registered.
    """
    if name in OWN:
        make_driver(name, raw, context)
    else:
        _registered(name)


def make_driver(name: str, raw: Mapping[str, Any], context: Context) -> Driver:
    """Validate a driver's own table and make the driver.

    :raises ConfigurationError: with one line for each wrong key.
    """
    driver = load_driver(name)
    config, problems = read(driver.Config, dict(raw))
    if problems:
        lines = [f"[env.{context.env}.{name}] {_explained(problem)}" for problem in problems]
        raise ConfigurationError("the driver's configuration is wrong:\n  " + "\n  ".join(lines))
    return cast("Any", driver)(config, context)  # type: ignore[no-any-return]


def _registered(name: str) -> EntryPoint:
    registered = {point.name: point for point in entry_points(group=GROUP)}
    if name in registered:
        return registered[name]
    known = ", ".join(sorted({*registered, *OWN}))
    raise ConfigurationError(
        f"there is no driver {name!r}",
        hint=f"installed drivers: {known}; packages add others by entry point ({GROUP})",
    )


def _loaded(point: EntryPoint) -> type[Driver]:
    package = point.dist.name if point.dist else "unknown"
    hint = f"mend, reinstall or remove {package}"
    try:
        driver = point.load()
    except Exception as error:  # importing runs the package's code, which can raise anything
        raise ConfigurationError(
            f"the {point.name} driver of the package {package} can't be loaded: {type(error).__name__}: {error}",
            hint=hint,
        ) from error
    config = getattr(driver, "Config", None)
    if not (isinstance(config, type) and issubclass(config, Struct)):
        raise ConfigurationError(
            f"the {point.name} driver of the package {package} is none: {point.value} has no msgspec Struct Config",
            hint=hint,
        )
    return cast("type[Driver]", driver)


def _explained(problem: Problem) -> str:
    key, value = ".".join(problem.location), problem.value
    if problem.known:
        close = closest(key.replace("_", "-"), problem.known)
        return f"{key}: {problem.text}: " + (f"did you mean {close}?" if close else f"use {', '.join(problem.known)}")
    if value is UNSET:
        return f"{key}: {problem.text}"
    if not key or isinstance(value, Mapping):  # a whole table: too much to show, and more than the error is about
        return f"{key or 'as a whole'}: {problem.text}"
    shown = re.sub(r"//[^/@\s]*@", "//[redacted]@", repr(value))
    return f"{key} = {shown}: {problem.text}"
