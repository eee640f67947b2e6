"""``${VERSION}`` in manifests: replaced inside of values that are parsed already, so that none can change the rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_VARIABLE = re.compile(r"(\$?)\$\{([^{}]*)\}")
_ALONE = re.compile(r"\$\{[^{}]*\}")


class Variables:
    """What is replaced.

    :param names: the variables of the configuration; any other ``${…}`` stays as it is.
    :param strict: any other one is an error instead.
    """

    def __init__(self, names: Collection[str], environ: Mapping[str, str], *, strict: bool) -> None:
        self._names = frozenset(names)
        self._environ = environ
        self._strict = strict

    def alone(self, text: str) -> bool:
        """Say whether a text is one of these variables and nothing else."""
        match = _ALONE.fullmatch(text)
        return match is not None and text[2:-1] in self._names

    def replace(self, text: str) -> tuple[str, list[str]]:
        """Return the text with its variables replaced, and what is wrong; ``$${X}`` gives ``${X}``."""
        if "${" not in text:
            return text, []
        problems: list[str] = []

        def one(match: re.Match[str]) -> str:
            escaped, name = match[1], match[2]
            if escaped:
                return f"${{{name}}}"
            if name in self._names:
                if value := self._environ.get(name):
                    if value.isascii() or _is_text(value):
                        return value
                    problems.append(f"${{{name}}} is not UTF-8")
                    return match[0]
                problems.append(f"${{{name}}} has no value: set {name}, or write $${{{name}}} where that text is meant")
            elif self._strict:
                known = ", ".join(sorted(self._names))
                problems.append(
                    f"${{{name}}} is not one of the variables ({known}), and strict-variables is on: name it under "
                    f"variables, or write $${{{name}}} where that text is meant"
                )
            return match[0]

        return _VARIABLE.sub(one, text), problems


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of the environment that are no UTF-8
        return False
    return True
