"""``completion``: the completion script of a shell, written by shtab from the parser itself."""

from __future__ import annotations

import sys
from argparse import Namespace


def completion(arguments: Namespace) -> int:
    """Print the script."""
    import shtab

    from deploy_guard.cli.parser import make_parser

    sys.stdout.write(shtab.complete(make_parser(), shell=arguments.shell) + "\n")
    return 0
