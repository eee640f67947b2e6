"""``notes``: the release notes of what is checked out."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path

from deploy_guard.errors import DeployGuardError


def notes(arguments: Namespace) -> int:
    """Write the notes to a file, or to stdout where that was asked for."""
    from deploy_guard import config
    from deploy_guard.ledger.files import write_atomically
    from deploy_guard.report.notes import notes_for
    from deploy_guard.report.notes_text import render

    path = config.find(Path.cwd())
    folder = path.parent if path is not None else Path.cwd()
    settings = config.load(path, directory=folder)
    # The same service in every environment: what tags look like is said once, for all of them.
    service = settings.for_env(settings.environments[0])
    version = arguments.version or os.environ.get("VERSION", "").strip() or None
    made = notes_for(
        folder, service.releases, name=service.name, version=version, n=arguments.number, since=arguments.since
    )
    text = render(made, arguments.format)
    if arguments.output == "-":
        sys.stdout.write(text)
        return 0
    file = Path(arguments.output or f"RELEASE_NOTES.{arguments.format}")
    try:
        write_atomically(file, text)
    except OSError as error:
        raise DeployGuardError(f"{file} can't be written: {error.strerror}", hint="choose another --output") from error
    print(f"wrote {file}: {made.title}, {made.range}")
    return 0
