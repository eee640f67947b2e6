"""Drivers: each knows one kind of target. Loaded when the configuration names one."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from pydantic import ValidationError

from deploy_guard.drivers.base import Context, Driver
from deploy_guard.errors import ConfigurationError

GROUP = "deploy_guard.drivers"
"""The entry point group in which packages register drivers of their own."""

_OWN = {"local": "deploy_guard.drivers.local:LocalDriver"}
_PLANNED = ("compose", "kubernetes")


def load_driver(name: str) -> type[Driver]:
    """Return the class of a driver.

    :raises ConfigurationError: for an unknown name, or a package whose driver can't be imported.
    """
    registered = {point.name: point for point in entry_points(group=GROUP)}
    if name in registered:
        point = registered[name]
        try:
            return cast("type[Driver]", point.load())
        except Exception as error:
            package = point.dist.name if point.dist else "unknown"
            raise ConfigurationError(
                f"the driver {name!r} of the package {package} can't be loaded: {type(error).__name__}: {error}",
                hint=f"mend or reinstall {package}",
            ) from error
    if name in _OWN:
        module, _, attribute = _OWN[name].partition(":")
        return cast("type[Driver]", getattr(import_module(module), attribute))
    known = ", ".join(sorted({*registered, *_OWN}))
    what = f"the driver {name!r} is not part of this version" if name in _PLANNED else f"there is no driver {name!r}"
    raise ConfigurationError(what, hint=f"installed drivers: {known}; others come by entry point ({GROUP})")


def make_driver(name: str, raw: Mapping[str, Any], context: Context) -> Driver:
    """Validate a driver's own table and make the driver.

    :raises ConfigurationError: with one line for each wrong key.
    """
    driver = load_driver(name)
    try:
        config = driver.Config.model_validate(dict(raw))
    except ValidationError as error:
        where = f"[env.{context.env}.{name}]"
        lines = []
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in problem["loc"]) or "(table)"
            fix = "remove it, or check its spelling" if problem["type"] == "extra_forbidden" else problem["msg"]
            shown = "" if problem["type"] in ("missing", "extra_forbidden") else f" = {problem['input']!r}"
            lines.append(f"{where} {key}{shown}: {fix}")
        raise ConfigurationError("the driver's configuration is wrong:\n  " + "\n  ".join(lines)) from None
    return cast("Any", driver)(config, context)  # type: ignore[no-any-return]
