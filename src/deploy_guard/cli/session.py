"""One pytest session in this process, as every command that judges or rolls out runs it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy_guard.errors import ConfigurationError

_EARLY = "ignore:Module already imported so cannot be rewritten; deploy_guard:pytest.PytestAssertRewriteWarning"
"""An installed plugin is marked for rewriting, and this command has imported it by then: an error under -W error."""


def environment(arguments: Namespace) -> str:
    """Return the environment that is meant: ``--env``, or ``$ENV``.

    :raises ConfigurationError: when neither says one; it lists those that there are.
    """
    said = os.environ.get("ENV", "").strip()
    if arguments.env:
        if said and said != arguments.env:
            sys.stderr.write(f"deploy-guard: --env={arguments.env} overrides ENV={said}\n")
            os.environ["ENV"] = arguments.env
        return str(arguments.env)
    if said:
        return said
    from deploy_guard import config

    path = config.find(Path.cwd())
    known = config.load(path, directory=path.parent if path else Path.cwd()).environments
    raise ConfigurationError("no environment is named", hint=f"add --env, or set ENV: {', '.join(known)}")


def run(arguments: Namespace, env: str, options: Sequence[str], *, standard: Sequence[str] = ()) -> int:
    """Run a session for an environment and return its exit code; with ``--json``, print its ``verdict.json``.

    :param standard: the packaged standard gates to run, by file; then no ini file, conftest or plugin of the
        repository's unit tests has a say.
    """
    options = [f"--deploy-env={env}", *options]
    if arguments.reports:
        options.append(f"--deploy-reports={arguments.reports}")
    from deploy_guard.cli.plugins import Needed, Refusal

    if arguments.log_format:
        options.append(f"--deploy-log-format={arguments.log_format}")
    refusal = Refusal()
    plugins: list[object] = [refusal]
    if standard:
        options = [*_alone(), f"--deploy-standard={','.join(standard)}", *options]
        plugins.append(Needed())
    else:
        options += ["-W", _EARLY]
    if not arguments.json:
        return _pytest(options, plugins)
    file = Path(arguments.reports or Path("reports") / env) / "verdict.json"
    before = _read(file)
    with _stdout_is_stderr():
        code = _pytest(options, plugins)
    _print(_read(file), before, code, refusal.text)
    return code


def _alone() -> list[str]:
    """Return the options under which the packaged gates run, whatever the repository's unit tests are configured to."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    options = ["-c", os.devnull, f"--rootdir={Path.cwd()}", "--noconftest"]
    return [*options, "--disable-plugin-autoload", "-p", "no:cacheprovider", "-q", "--no-summary"]


def _pytest(options: Sequence[str], plugins: Sequence[object]) -> int:
    import pytest

    try:
        return int(pytest.main(list(options), plugins=list(plugins)))
    except SystemExit as ended:  # the process that watches a run ends like this
        return ended.code if isinstance(ended.code, int) else 2


@contextlib.contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """Whatever writes to stdout meanwhile, child processes included, writes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or another run is about to replace it
        return {}
    return data if isinstance(data, dict) else {}


def _print(verdict: dict[str, Any], before: dict[str, Any], code: int, refused: str) -> None:
    from deploy_guard.cli import output

    if verdict and verdict.get("run") != before.get("run"):
        output.document(verdict)
    else:
        output.refusal(refused or "nothing ran: stderr says why", code)
