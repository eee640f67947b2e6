"""``status``: what the files on this machine say; nothing is asked over the network."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy_guard.errors import ConfigurationError
from deploy_guard.ledger.store import FileStore

CRITICAL = 2


def status(arguments: Namespace) -> int:
    """Print what is known of each environment; 2 when a rollout is unfinished."""
    from deploy_guard import config

    path = config.find(Path.cwd())
    directory = path.parent if path is not None else Path.cwd()
    settings = config.load(path, directory=directory)
    chosen = [settings.for_env(arguments.env).env] if arguments.env else list(settings.environments)
    known = [_of(env, directory) for env in chosen]
    code = CRITICAL if any(entry["unfinished"] for entry in known) else 0
    if arguments.json:
        from deploy_guard.cli import output

        name = settings.for_env(chosen[0]).name
        output.document({"schema": 1, "name": name, "exit_code": code, "environments": known})
    else:
        print("\n".join(line for entry in known for line in _lines(entry)))
    return code


def _of(env: str, directory: Path) -> dict[str, Any]:
    store = FileStore(directory / ".deploy-guard", env)
    unfinished: dict[str, Any] | None = None
    shipped = None
    try:
        shipped = store.shipped()
        if (record := store.load()) is not None:
            unfinished = {"run": record["run"], "version": record["release"]["version"], "previous": _previous(record)}
            unfinished["next"] = f"deploy-guard rollback --env {env}, or the next run for {env}, goes back first"
    except ConfigurationError as error:
        unfinished = {"run": None, "version": None, "previous": None, "error": error.what, "next": error.hint}
    last = store.last()
    return {
        "env": env,
        "version": last.get("version"),
        "outcome": last.get("outcome"),
        "run": last.get("run"),
        "before": {"version": _previous(shipped)} if shipped is not None else None,
        "unfinished": unfinished,
        "last_run": _last_run(Path("reports") / env / "verdict.json"),
    }


def _previous(record: dict[str, Any]) -> str | None:
    previous = record["snapshot"]["previous"]
    return None if previous is None else str(previous)


def _last_run(file: Path) -> dict[str, Any] | None:
    try:
        verdict = json.loads(file.read_text(encoding="utf-8"))
        return {key: verdict[key] for key in ("run", "started", "outcome", "exit_code", "headline", "next")}
    except (OSError, ValueError, KeyError, TypeError):  # no run yet, its reports elsewhere, or one just begun
        return None


def _lines(entry: dict[str, Any]) -> Iterator[str]:
    env, unfinished, last = entry["env"], entry["unfinished"], entry["last_run"]
    if entry["outcome"] is None:
        said = "nothing was shipped from here yet"
    elif entry["version"] is None:
        said = f"nothing is there ({entry['outcome']}, run {entry['run']})"
    else:
        said = f"{entry['version']} ({entry['outcome']}, run {entry['run']})"
    yield f"{env:<8} {said}"
    if entry["before"] is not None:
        yield f"         rollback brings back {entry['before']['version'] or 'nothing: it was the first release'}"
    if unfinished is not None:
        what = unfinished.get("error") or (
            f"run {unfinished['run']} of {unfinished['version'] or 'a release without a version'} died after its "
            f"apply began; {unfinished['previous'] or 'nothing'} was there before"
        )
        yield f"         UNFINISHED: {what}"
        yield f"         next: {unfinished['next']}"
    if last is not None:
        yield f"         last run: {last['headline']} (exit {last['exit_code']})"
