"""YAML and JSON as kubectl reads them, with the place of everything that is wrong.

kubectl converts YAML 1.1 to JSON by its Go library, whose numbers differ from PyYAML's: there are no times and no
numbers to the base of 60, and ``1e3`` is a number (go-yaml v2, ``resolve.go``).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

DEEPEST = 100
"""Levels of nesting, aliases written out; manifests have some twenty, and more than a thousand would end Python."""
LARGEST = 1_000_000
"""Values in one file with its aliases written out: a few lines of aliases can stand for more than memory holds."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml the same in Python, thirty times slower
_TAG = "tag:yaml.org,2002:"
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|[1-9][0-9]*|0)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"), False),
}
_TAGS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
    "timestamp": (str,),
}
"""What the explicit tags of scalars stand for; to kubectl a time is a text."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ENDLESS = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

Change = Callable[[str, bool], tuple[str, bool, list[str]]]
"""Given a scalar's text and whether it is plain, return its new text, whether that is plain, and what is wrong."""


class Unreadable(Exception):  # told with its place by whoever reads the file
    """A file that can't be read, with the line and column where that shows."""

    def __init__(self, what: str, line: int = 0, column: int = 0) -> None:
        super().__init__(what)
        self.what, self.line, self.column = what, line, column


@dataclass(frozen=True)
class Document:
    """One document: its number in the file, the line that it begins at, its data, and what is wrong in it by line."""

    number: int
    line: int
    data: Any
    problems: tuple[tuple[int, str], ...] = ()


def documents(text: str, change: Change) -> Iterator[Document]:
    """Yield the documents of a file but for empty ones; raises :class:`Unreadable`."""
    if text.lstrip().startswith("{") and (found := _json(text, change)) is not None:
        yield from found
        return
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # the loader in Python looks for control characters at once
        raise _unreadable(error) from error
    try:
        yield from _Reader(loader, change).documents()
    except yaml.YAMLError as error:
        raise _unreadable(error) from error
    finally:
        loader.dispose()


def _unreadable(error: yaml.YAMLError) -> Unreadable:
    if not isinstance(error, yaml.MarkedYAMLError):
        return Unreadable(str(error).splitlines()[0])
    mark = error.problem_mark or error.context_mark
    what = " ".join(filter(None, (error.context, error.problem)))
    return Unreadable(what, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0)


def scalar(text: str) -> Any:
    """Return what a plain scalar stands for; raises ``ValueError`` for what JSON does not have.

    Numbers that JSON readers in Go can't hold are what kubectl makes of them: large ones lose digits, and what is
    beyond all floats (a commit such as ``12e4567``) is text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-.0123456789":
        plain = text.replace("_", "")
        if (match := _INTEGER.fullmatch(plain)) and (value := _integer(match[1], match[2].lower())) is not None:
            return value
        if _FLOAT.fullmatch(plain):
            number = float(plain)
            return _float(number) if math.isfinite(number) else text
        if _ENDLESS.fullmatch(text):
            raise ValueError(f"{text} is no number that JSON has: write it in quotes")
    return text


def _integer(sign: str, digits: str) -> int | None:
    """Return an integer; None for one that 64 bits can't hold."""
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits[0] == "0" and len(digits) > 1 else 10)
    digits = digits[2:] if digits[:2] in ("0x", "0b", "0o") else digits
    if len(digits) > 70:  # leading zeros too: nobody means a number
        return None
    value = int(sign + digits, base)
    return value if -(2**63) <= value < 2**63 else None


def _float(value: float) -> float | int:
    """Return a float as Go writes it into JSON: without a fraction it is an integer, by its shortest digits."""
    if value.is_integer() and abs(value) < 2**63:
        return int(Decimal(repr(value)))
    return value


class _Reader:
    """Builds values from the parser's events: without recursion of the parser, and never deeper than allowed."""

    def __init__(self, loader: Any, change: Change) -> None:
        self._next = loader.get_event
        self._change = change
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._size = 0
        self._deepest = 0
        self._problems: list[tuple[int, str]] = []

    def documents(self) -> Iterator[Document]:
        number = 0
        while not isinstance(event := self._next(), yaml.StreamEndEvent):
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            number += 1
            self._anchors, self._problems = {}, []
            first = self._next()
            line = first.start_mark.line + 1
            data = self._value(first, 0)
            self._next()
            if data is not None:
                yield Document(number, line, data, tuple(self._problems))

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event)
        if kind is yaml.ScalarEvent and not event.anchor:  # nearly all of them
            self._count(event, 1, depth)
            return self._scalar(event)
        value: Any
        if kind is yaml.AliasEvent:
            if event.anchor not in self._anchors:
                raise _at(event, "this alias has no anchor before it")  # unnamed: it may be a password without quotes
            value, size, levels = self._anchors[event.anchor]
            self._count(event, size, depth + levels)
            return _copy(value)
        before, deepest = self._size, self._deepest
        self._deepest = depth
        self._count(event, 1, depth)
        if kind is yaml.ScalarEvent:
            value = self._scalar(event)
        elif kind is yaml.SequenceStartEvent:
            value = []
            while type(entry := self._next()) is not yaml.SequenceEndEvent:
                value.append(self._value(entry, depth + 1))
        else:
            value = self._mapping(depth)
        if event.anchor:
            self._anchors[event.anchor] = value, self._size - before, self._deepest - depth
        self._deepest = max(self._deepest, deepest)
        return value

    def _mapping(self, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merge: Any = None
        late: set[str] = set()  # keys that stand before <<
        while type(event := self._next()) is not yaml.MappingEndEvent:
            if type(event) is yaml.ScalarEvent and event.value == "<<" and event.implicit[0]:
                if merge is not None:
                    raise _at(event, "<< stands there twice: write <<: [*a, *b]")
                merge, late = event, set(own)
                merged = self._merged(event, self._value(self._next(), depth + 1))
                continue
            key = self._value(event, depth + 1)
            if type(key) is not str:
                key = _key(key, event)
            value = self._value(self._next(), depth + 1)
            if key in own:
                raise _at(event, f"the key {_short(key)} stands there twice")
            own[key] = value
        if merge is None:
            return own
        for key in late & merged.keys():
            if own[key] != merged[key]:  # kubectl takes the merged one, kustomize and all others the one that is there
                raise _at(merge, f"the key {_short(key)} stands before << and in it: write << first")
        return {**merged, **own}

    def _merged(self, event: Any, value: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                raise _at(event, "<< merges mappings, and this is none")
            result = {**one, **result}
        return result

    def _scalar(self, event: Any) -> Any:
        text, plain = event.value, event.implicit[0]
        if "$" in text:
            text, plain, problems = self._change(text, plain)
            self._problems += [(event.start_mark.line + 1, problem) for problem in problems]
        if event.tag is not None:
            return _tagged(event, event.tag.removeprefix(_TAG), text)
        if not plain:
            return text
        try:
            return scalar(text)
        except ValueError as error:
            raise _at(event, str(error)) from error

    def _count(self, event: Any, size: int, depth: int) -> None:
        self._size += size
        if depth > self._deepest:
            self._deepest = depth
        if depth > DEEPEST:
            raise _at(event, f"it is nested more than {DEEPEST} levels deep")
        if self._size > LARGEST:
            raise _at(event, f"with its aliases it holds more than {LARGEST:,} values")


def _tagged(event: Any, tag: str, text: str) -> Any:
    """Return a scalar with a tag of its own."""
    if tag in ("str", "!"):
        return text
    if tag == "binary":
        try:
            return base64.b64decode(text.replace("\n", ""), validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise _at(event, "!!binary: this is not base64 of a text") from error
    if tag not in _TAGS:
        raise _at(event, "this tag has no meaning in a manifest")
    try:
        value = text if tag == "timestamp" else scalar(text)
    except ValueError as error:
        raise _at(event, str(error)) from error
    if type(value) not in _TAGS[tag]:
        raise _at(event, f"what stands there is no !!{tag}")
    return value


def _copy(value: Any) -> Any:
    """Return a value of its own: whoever changes one object must not change another."""
    if isinstance(value, dict):
        return {key: _copy(entry) for key, entry in value.items()}
    return [_copy(entry) for entry in value] if isinstance(value, list) else value


def _at(event: Any, what: str) -> Unreadable:
    return Unreadable(what, event.start_mark.line + 1, event.start_mark.column + 1)


def _key(value: Any, event: Any) -> str:
    if isinstance(value, (bool, int, float)):  # as JSON has them
        return json.dumps(value)
    raise _at(event, "a key must be a text")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


class _Elsewhere(Exception):
    """Something in a JSON file that is wrong; YAML's reader, for which JSON is YAML, says where."""


def _json(text: str, change: Change) -> list[Document] | None:
    """Read JSON objects, one after the other; None for what is YAML after all, or is told better by YAML's reader."""
    decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_json_float)
    found: list[Document] = []
    place, strict = 0, _SURROGATE.search(text) is not None
    try:
        while text[place:].strip():
            place = len(text) - len(text[place:].lstrip())
            data, end = decoder.raw_decode(text, place)
            line = text.count("\n", 0, place) + 1
            problems: list[str] = []
            data = _replaced(data, change, problems, 0, strict=strict)
            told = tuple((_line(text, place, problem) or line, problem) for problem in problems)
            found.append(Document(len(found) + 1, line, data, told))
            place = end
    except (ValueError, RecursionError, _Elsewhere):
        return None
    return found


def _line(text: str, place: int, problem: str) -> int:
    """Return the line of the variable that a problem begins with."""
    at = text.find(problem.partition("}")[0] + "}", place)
    return text.count("\n", 0, at) + 1 if at >= 0 else 0


def _replaced(value: Any, change: Change, problems: list[str], depth: int, *, strict: bool) -> Any:
    if depth > DEEPEST:
        raise _Elsewhere
    if isinstance(value, str):
        if strict and not value.isascii():
            value.encode()  # half of a pair of surrogates is no text
        if "$" not in value:
            return value
        value, _, wrong = change(value, False)
        problems += wrong
        return value
    if isinstance(value, dict):
        return {
            _replaced(key, change, problems, depth, strict=strict): _replaced(
                entry, change, problems, depth + 1, strict=strict
            )
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [_replaced(entry, change, problems, depth + 1, strict=strict) for entry in value]
    return value if type(value) is not int or -(2**63) <= value < 2**63 else float(value)


def _pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(found)
    if len(result) < len(found):
        raise _Elsewhere
    return result


def _json_float(text: str) -> float | int:
    value = float(text)
    if not math.isfinite(value):
        raise Unreadable("a number is too large for JSON: write it in quotes")
    return _float(value)


def _constant(name: str) -> Any:
    raise Unreadable(f"{name} is no number that JSON has: write it in quotes")
