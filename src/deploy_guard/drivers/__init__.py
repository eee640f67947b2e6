"""Drivers: each knows one kind of target. Loaded when the configuration names one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from deploy_guard.drivers.base import Context, Driver
from deploy_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

GROUP = "deploy_guard.drivers"
"""The entry point group in which packages register drivers of their own."""

_OWN = {"local": "deploy_guard.drivers.local:LocalDriver"}
"""Known without installed metadata too, as when run from a source tree."""
_PLANNED = ("compose", "kubernetes")


def load_driver(name: str) -> type[Driver]:
    """Return the class of a driver.

    :raises ConfigurationError: for an unknown name, or a package whose driver can't be imported.
    """
    registered = {point.name: point for point in entry_points(group=GROUP)}
    if name in registered:
        return _loaded(registered[name])
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        return cast("type[Driver]", getattr(import_module(module), attribute))
    known = ", ".join(sorted({*registered, *_OWN}))
    what = f"the {name} driver is not part of this version" if name in _PLANNED else f"there is no driver {name!r}"
    raise ConfigurationError(what, hint=f"installed drivers: {known}; packages add others by entry point ({GROUP})")


def make_driver(name: str, raw: Mapping[str, Any], context: Context) -> Driver:
    """Validate a driver's own table and make the driver.

    :raises ConfigurationError: with one line for each wrong key.
    """
    driver = load_driver(name)
    try:
        config = driver.Config.model_validate(dict(raw))
    except ValidationError as error:
        known = [field.alias or key for key, field in driver.Config.model_fields.items()]
        where = f"[env.{context.env}.{name}]"
        lines = [f"{where} {_explained(problem, known)}" for problem in error.errors(include_url=False)]
        raise ConfigurationError("the driver's configuration is wrong:\n  " + "\n  ".join(lines)) from None
    return cast("Any", driver)(config, context)  # type: ignore[no-any-return]


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
    if not hasattr(getattr(driver, "Config", None), "model_validate"):
        raise ConfigurationError(
            f"the {point.name} driver of the package {package} is none: {point.value} has no pydantic model Config",
            hint=hint,
        )
    return cast("type[Driver]", driver)


def _explained(problem: ErrorDetails, known: list[str]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key.replace("_", "-"), known, n=1)
        return f"{key}: there is no such key: " + (f"did you mean {close[0]}?" if close else f"use {', '.join(known)}")
    if problem["type"] == "missing":
        return f"{key}: is missing: write it"
    value = problem["input"]
    if not key or isinstance(value, Mapping):  # a whole table: too much to show, and more than the error is about
        return f"{key or 'as a whole'}: {text}"
    shown = re.sub(r"//[^/@\s]*@", "//[redacted]@", repr(value))
    return f"{key} = {shown}: {text}"
