"""The options of every command, with an example each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from deploy_guard.cli import USAGE

Command = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Exits with 4 where argparse would with 2, which means something else here; takes no abbreviations."""

    def __init__(self, *, example: str = "", **kwargs: Any) -> None:
        super().__init__(
            epilog=f"example:\n  {example}" if example else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the options are listed."""
        self.exit(USAGE, f"{self.format_usage()}{self.prog}: {message}\n  next: {self.prog} --help\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from deploy_guard import __version__

        sys.stdout.write(f"deploy-guard {__version__}\n")
        parser.exit(0)


def make_parser() -> Parser:
    """Return the parser; what it parses has ``load``, which imports the command and gives its function."""
    parser = Parser(
        prog="deploy-guard",
        description="Deployment gates as pytest tests. `pytest --deploy-env=ENV` is the main door; these commands run "
        "the same gates and steps.\nENV chooses the environment, --env overrides it.\n"
        "Exit codes: 0 done, 1 recoverable or withheld, 2 critical, 4 usage.",
        example="deploy-guard preflight --env stage --url https://stage.example.org",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, example: str) -> Parser:
        description = f"{text[0].upper()}{text[1:]}" + ("" if text.endswith("?") else ".")
        added: Parser = commands.add_parser(name, help=text, description=description, example=example)
        added.set_defaults(load=lambda: _function(name))
        return added

    add_env(add("env", "is the environment the one that was meant, and complete?", "ENV=stage deploy-guard env"))

    release = add("release", "may this commit be released as this version?", "deploy-guard release --version v1.2.3")
    add_env(release)
    add_version(release)
    release.add_argument("--tag", action="store_true", help="when all is well, make the tag and push it")

    preflight = add(
        "preflight",
        "are environment, host and service ready?",
        "deploy-guard preflight --env prod --json",
    )
    add_env(preflight)
    preflight.add_argument("--url", metavar="URL", help="the service's URL, instead of the configured one")

    apply = add(
        "apply",
        "run the gates and, when every one passed, roll out",
        "deploy-guard apply --env dev --driver local --set root=.deploy/dev --set artifact=build/shop --version v1.2.3",
    )
    add_env(apply)
    add_version(apply)
    add_driver(apply)
    apply.add_argument("--plan", action="store_true", help="run the gates, then only plan the rollout")

    back = add(
        "rollback",
        "bring back what was there before the release that serves now, or before one that was left unfinished",
        "deploy-guard rollback --env prod",
    )
    add_env(back)
    add_driver(back)

    status = add("status", "what is shipped, is anything unfinished, how did the last run end?", "deploy-guard status")
    status.add_argument("--env", metavar="ENV", help="this environment only")
    status.add_argument("--json", action="store_true", help="print one JSON document")

    notes = add("notes", "write the release notes", "deploy-guard notes -n 10 --format md")
    notes.add_argument("-n", dest="number", type=_count, metavar="N", help="at most this many commits")
    notes.add_argument("--since", metavar="TAG", help="begin after this tag instead of the previous release's")
    notes.add_argument("--format", choices=("txt", "md", "json"), default="txt", help="txt unless given")
    notes.add_argument("--output", metavar="FILE", help="RELEASE_NOTES.txt (.md, .json) unless given; - for stdout")
    add_version(notes)

    init = add("init", "write a starter: gates/, deploy-guard.toml and its schema", "deploy-guard init")
    init.add_argument(
        "--from", dest="package", metavar="PACKAGE", help="copy the templates of this installed package instead"
    )

    completion = add("completion", "print the completion script of a shell", 'eval "$(deploy-guard completion bash)"')
    completion.add_argument("shell", choices=("bash", "zsh", "fish", "tcsh"))
    return parser


def add_env(parser: Parser) -> None:
    """Add what every command that runs a session takes."""
    parser.add_argument("--env", metavar="ENV", help="the environment, instead of $ENV")
    parser.add_argument("--json", action="store_true", help="print verdict.json on stdout, and nothing else there")
    parser.add_argument("--reports", metavar="DIR", help="where the run's files are written; reports/ENV unless given")
    parser.add_argument("--log-format", choices=("human", "json"), help="write the run's events to stderr")


def add_driver(parser: Parser) -> None:
    """Add a driver and its table."""
    parser.add_argument("--driver", metavar="NAME", help="instead of the configured one")
    parser.add_argument(
        "--manifest",
        metavar="PATH",
        action="append",
        default=[],
        help="what the driver applies: a file, a folder or a quoted pattern, from the current folder; may be repeated",
    )
    parser.add_argument("--context", metavar="NAME", help="the cluster's context, for the driver kubernetes")
    parser.add_argument("--namespace", metavar="NAME", help="the namespace, for the driver kubernetes")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of the driver's table; the value is TOML, or else text",
    )


def add_version(parser: Parser) -> None:
    """Add the version of the release."""
    parser.add_argument("--version", metavar="vX.Y.Z", help="the version, instead of $VERSION")


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of commits above 0")
    return int(text)


def _function(name: str) -> Command:
    from importlib import import_module

    homes = {"env": "gates", "release": "gates", "preflight": "gates", "apply": "rollout", "rollback": "rollout"}
    found: Command = getattr(import_module(f"deploy_guard.cli.{homes.get(name, name)}"), name)
    return found
