"""Which values never show: those of variables, wherever they turn up in a log, a diff or an error. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping

from deploy_guard.drivers.compose.state import Container, image_variables
from deploy_guard.redact import PATTERNS, Redactor

_MORE = ("*PASSWORD*", "*PASSWD*", "*SECRET*", "*TOKEN*", "*CREDENTIAL*", "*_PASS", "*_PWD", "*_DSN", "*KEY")
"""Names that say it, besides those of ``redact``."""
_PUBLIC = ("VERSION", "COMMIT", "DEPLOY_ENV", "PATH", "HOME")
"""Variables that reports are about, or that say where things are."""
_REFERENCE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def redactor(variables: Iterable[tuple[str, str]]) -> Redactor:
    """Return what takes these values out of texts.

    A name that speaks of a secret is enough. Of other variables, those values are hidden that a secret could have and
    words seldom have: eight characters or more, a digit among them. To hide each ``true`` and ``info`` would blank the
    log.
    """
    found: dict[str, str] = {}
    for name, value in variables:
        if name not in _PUBLIC and (_speaks(name) or _looks(value)):
            key = name
            while found.get(key, value) != value:  # another value of the same name: of the old container, say
                key += "'"
            found[key] = value
    return Redactor(found)


def of_containers(
    containers: Iterable[Container], images: Mapping[str, Mapping[str, object] | None]
) -> Iterable[tuple[str, str]]:
    """Give the variables of containers that don't come from their images."""
    for container in containers:
        own = image_variables(images.get(container.image))
        yield from ((n, value) for n, value in container.environment.items() if own.get(n) != value)


def of_environment(environ: Mapping[str, str], texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Give the variables of the run that Compose files name, and those whose name speaks."""
    named = {name for text in texts for name in _REFERENCE.findall(text)}
    return [(name, value) for name, value in environ.items() if name in named or _speaks(name)]


def _speaks(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern) for pattern in (*PATTERNS, *_MORE))


def _looks(value: str) -> bool:
    return len(value) >= 8 and any(character.isdigit() for character in value)
