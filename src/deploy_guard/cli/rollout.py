"""``apply`` and ``rollback``: a run that may deploy, and the way back from the last one."""

from __future__ import annotations

import json
import os
import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

from deploy_guard.cli.session import environment, run
from deploy_guard.errors import ConfigurationError


def apply(arguments: Namespace) -> int:
    """Run the repository's own gates, or the standard ones where it has none, and roll out."""
    chosen = environment(arguments)
    options = _override(arguments, chosen)
    if arguments.version:
        options.append(f"--deploy-version={arguments.version}")
    if arguments.plan:
        options.append("--deploy-plan")
    return run(arguments, chosen, options, standard=() if _has_gates() else ["all"])


def rollback(arguments: Namespace) -> int:
    """Go back from what serves now to what was there before it."""
    chosen = environment(arguments)
    options = ["--deploy-back", *_override(arguments, chosen)]
    return run(arguments, chosen, options, standard=() if _has_gates() else ["all"])


def _override(arguments: Namespace, env: str) -> list[str]:
    driver = _driver(arguments)
    return ["--deploy-override=" + json.dumps({"env": {env: driver}})] if driver else []


def _has_gates() -> bool:
    """True when the repository has gates of its own: configured ones, or a folder ``gates``."""
    from deploy_guard import configfile

    path = configfile.find(Path.cwd())
    directory = path.parent if path is not None else Path.cwd()
    return (path is not None and "gates" in configfile.read(path)) or (directory / "gates").is_dir()


def _driver(arguments: Namespace) -> dict[str, Any]:
    """Return the tables of the environment that the options stand for."""
    table: dict[str, Any] = {}
    for pair in arguments.set:
        _merge(table, _parsed(pair))
    if arguments.manifest:  # compose has a word of its own for them
        table["files" if arguments.driver == "compose" else "manifests"] = [*map(_from_here, arguments.manifest)]
    for key in ("context", "namespace"):
        if getattr(arguments, key):
            table[key] = getattr(arguments, key)
    if not arguments.driver:
        if table:
            raise ConfigurationError(
                "--manifest, --context, --namespace and --set belong to a driver, and none is named",
                hint="add --driver NAME, or write the keys into the configuration file",
            )
        return {}
    return {"driver": arguments.driver, arguments.driver: table}


def _from_here(path: str) -> str:
    """Return a path of the current folder so that it means the same where drivers start, the configuration's folder."""
    from deploy_guard import configfile

    file = configfile.find(Path.cwd())
    return path if file is None or file.parent == Path.cwd() else os.path.abspath(path)  # noqa: PTH100 - no links are followed


def _parsed(pair: str) -> dict[str, Any]:
    """Read ``key=value`` as a line of TOML; a value that is none is text."""
    key, sign, value = pair.partition("=")
    if not sign or not key.strip():
        raise ConfigurationError(f"--set {pair}: write KEY=VALUE", hint="for instance --set root=.deploy/dev")
    for shown in (value, json.dumps(value, ensure_ascii=False)):
        try:
            data = tomllib.loads(f"{key} = {shown}")
            json.dumps(data)
        except (tomllib.TOMLDecodeError, TypeError):  # not TOML, or a date, which no driver knows
            continue
        return data
    raise ConfigurationError(f"--set {pair}: {key!r} is not a key", hint="keys are words, joined by dots")


def _merge(into: dict[str, Any], data: dict[str, Any]) -> None:
    for key, value in data.items():
        known = into.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            into[key] = value
