"""Secrets: a type that does not show itself, and the redaction of what they turn into. Knows nothing of pytest."""

from __future__ import annotations

import base64
import fnmatch
import hmac
import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, NoReturn

PATTERNS = ("*_TOKEN", "*_PASSWORD", "*_KEY", "*_SECRET", "TOKEN", "PASSWORD", "API_KEY", "SECRET")
"""Names of environment variables that hold secrets, whatever the configuration says."""
_IN_URL = re.compile(r"://[^/\s:@?#]*:([^/\s?#]+)@")
"""The password in a URL, as in ``DOCKER_HOST`` and ``DATABASE_URL``, whose names say nothing of secrets."""
SHORTEST = 4
"""Values below this many characters can't be redacted without blanking the report."""


class Secret:
    """A value that is given out by :meth:`reveal` only; every other way to text says its name."""

    __slots__ = ("_name", "_value")

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def reveal(self) -> str:
        """Return the value."""
        return self._value

    @staticmethod
    def from_environment(
        groups: Iterable[Iterable[str]], environ: Mapping[str, str] | None = None
    ) -> dict[str, Secret]:
        """Return the secrets of these groups that are set, by name."""
        source = os.environ if environ is None else environ
        return {name: Secret(name, source[name]) for group in groups for name in group if source.get(name)}

    def __repr__(self) -> str:
        return f"[{self._name} redacted]"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"the secret {self._name} can't be pickled: it would leave this process")


class Redactor:
    """Replaces secrets, and the forms they take, by ``[NAME redacted]``.

    False when there is nothing to redact, so that callers can skip the work.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._names: dict[str, str] = {}
        for name, value in secrets.items():
            if len(value) >= SHORTEST:
                for form in _forms(value):
                    self._names.setdefault(form, name)
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], groups: Iterable[Iterable[str]], patterns: Iterable[str] = PATTERNS
    ) -> Redactor:
        """Return a redactor for the named secrets, variables whose names match a pattern, and passwords in URLs."""
        named = {name for group in groups for name in group}
        wanted = {n for n in environ if n in named or any(fnmatch.fnmatchcase(n.upper(), p) for p in patterns)}
        inside = {f"password in {n}": found[1] for n, text in environ.items() if (found := _IN_URL.search(text))}
        decoded = {f"{n}, decoded": urllib.parse.unquote(password) for n, password in inside.items()}
        return cls({**{name: environ[name] for name in wanted}, **inside, **decoded})

    def __bool__(self) -> bool:
        return self._pattern is not None

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: f"[{self._names[match[0]]} redacted]", text)

    def redact_json(self, data: Any) -> Any:
        """Return plain data with every text in it redacted, keys included."""
        if self._pattern is None:
            return data
        if isinstance(data, str):
            return self.redact(data)
        if isinstance(data, Mapping):
            return {self.redact_json(key): self.redact_json(value) for key, value in data.items()}
        if isinstance(data, (list, tuple)):
            return type(data)(self.redact_json(value) for value in data)
        return data


def _forms(value: str) -> Iterable[str]:
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    yield urllib.parse.quote(raw, safe="")
    yield urllib.parse.quote_plus(raw, safe="")
    yield json.dumps(value)[1:-1]
    yield escape(value)
    yield repr(value)[1:-1]
    yield raw.hex()
    for shift in range(3):
        # base64 of "user:secret" depends on what stands before; the first and last characters are shared with it.
        coded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = coded[(0, 2, 3)[shift] : len(coded) - (1 if (len(raw) + shift) % 3 else 0)]
        if len(inner) >= 8:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")
