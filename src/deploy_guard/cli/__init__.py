"""The command ``deploy-guard``: thin, each subcommand runs the same gates or steps as pytest does.

Nothing is imported before it is needed: ``--help`` must answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

USAGE = 4
"""The exit code for bad usage, pytest's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; bad options end with ``SystemExit(4)``."""
    from deploy_guard.cli.parser import make_parser
    from deploy_guard.errors import DeployGuardError

    arguments = make_parser().parse_args(argv)
    try:
        code = int(arguments.load()(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except DeployGuardError as error:
        sys.stderr.write(f"deploy-guard {arguments.command}: {error}\n")
        if getattr(arguments, "json", False):
            from deploy_guard.cli.output import refusal

            refusal(str(error), USAGE)
        return USAGE
    return code
