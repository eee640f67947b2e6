"""Tables of a configuration file: each is a msgspec Struct, and all that is wrong in one is told at once."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from msgspec import UNSET, Meta, Struct, ValidationError, convert, structs

T = TypeVar("T", bound=Struct)

_NOUNS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
_LIMITS = {
    "gt": "above {:g}",
    "ge": "at least {:g}",
    "lt": "below {:g}",
    "le": "at most {:g}",
    "multiple_of": "a multiple of {:g}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "matching {}",
}


class Table(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A table of the file: keys have hyphens, unknown ones are errors, and its values don't change.

    ``__post_init__`` looks at the table as a whole; it raises ``ValueError`` with what to write instead.
    """


class Reads(Struct, frozen=True):
    """In ``Annotated``: makes what the type takes of what the file says; ``ValueError`` tells what to write instead."""

    function: Callable[[Any], object]


class Check(Struct, frozen=True):
    """In ``Annotated``: looks at a value whose type is right; ``ValueError`` tells what to write instead."""

    function: Callable[[Any], object]


class Problem(Struct, frozen=True):
    """One thing that is wrong.

    :param location: the keys that lead to it; empty for the whole table.
    :param value: what the file says; ``UNSET`` for a key that is missing.
    :param known: for an unknown key, the keys that there are.
    """

    location: tuple[str, ...]
    value: object
    text: str
    known: tuple[str, ...] = ()


def read(model: type[T], raw: object, location: tuple[str, ...] = ()) -> tuple[T | None, list[Problem]]:
    """Return a table, or None and all that is wrong in it."""
    problems: list[Problem] = []
    value = _read(model, raw, location, problems)
    return (None if problems else value), problems


def keys(model: type[Struct]) -> tuple[str, ...]:
    """Return the keys that a table may have."""
    return model.__struct_encode_fields__


def closest(key: str, known: Iterable[str]) -> str | None:
    """Return the known key that was probably meant."""
    import difflib

    return next(iter(difflib.get_close_matches(key, known, n=1)), None)


def _read(kind: Any, raw: object, here: tuple[str, ...], problems: list[Problem]) -> Any:
    """Return the value; what it is says nothing when a problem was added."""
    kind, notes = _without_none(kind)
    before, value = len(problems), raw
    try:
        for note in notes:
            if isinstance(note, Reads):
                value = note.function(value)
        value = _converted(kind, [note for note in notes if isinstance(note, Meta)], value, here, problems)
        for note in notes:
            if isinstance(note, Check) and len(problems) == before:
                note.function(value)
    except ValueError as error:  # a msgspec.ValidationError is one too
        problems.append(Problem(here, raw, str(error)))
    return value


def _without_none(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without ``| None``, which no file can say, and what was annotated to it."""
    if get_origin(kind) in (Union, types.UnionType):
        others = [other for other in get_args(kind) if other is not types.NoneType]
        if len(others) == 1:
            return _without_none(others[0])
    if get_origin(kind) is Annotated:
        bare, notes = _without_none(kind.__origin__)
        return bare, (*notes, *kind.__metadata__)
    return kind, ()


def _converted(kind: Any, limits: list[Meta], raw: object, here: tuple[str, ...], problems: list[Problem]) -> Any:
    """Convert entry by entry, so that each wrong one is told with its place."""
    if isinstance(kind, type) and issubclass(kind, Struct) and kind.__struct_config__.tag is None:
        return _table(kind, _plain(dict[str, Any], [], raw), here, problems)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is list or (origin is tuple and inner[1:] == (...,)):
        entries = enumerate(_plain(list[Any], limits, raw))
        return origin(_read(inner[0], entry, (*here, str(number)), problems) for number, entry in entries)
    if origin is dict:
        return {
            _read(inner[0], key, (*here, str(key), "[key]"), problems): _read(
                inner[1], entry, (*here, str(key)), problems
            )
            for key, entry in _plain(dict[Any, Any], limits, raw).items()
        }
    return _plain(kind, limits, raw)


def _table(model: type[Struct], raw: Mapping[str, Any], here: tuple[str, ...], problems: list[Problem]) -> Any:
    before, known, values = len(problems), keys(model), {}
    if model.__struct_config__.forbid_unknown_fields:
        unknown = [key for key in raw if key not in known]
        problems += [Problem((*here, key), raw[key], "there is no such key", known) for key in unknown]
    for field in _fields(model):
        if field.encode_name in raw:
            place = (*here, field.encode_name)
            values[field.name] = _read(field.type, raw[field.encode_name], place, problems)
        elif field.required:
            problems.append(Problem((*here, field.encode_name), UNSET, "is missing: write it"))
    return model(**values) if len(problems) == before else None


@cache
def _fields(model: type[Struct]) -> tuple[structs.FieldInfo, ...]:
    """Return the fields, whose types are evaluated but once."""
    return structs.fields(model)


def _plain(kind: Any, limits: list[Meta], raw: object) -> Any:
    try:
        return convert(raw, Annotated[(kind, *limits)] if limits else kind, dec_hook=_custom)
    except ValidationError as error:
        raise ValueError(_wanted(kind, limits) or str(error)) from None


def _custom(kind: type, value: object) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if isinstance(value, kind):
        return value
    raise ValueError(f"this is no {kind.__name__}")


def _wanted(kind: Any, limits: list[Meta]) -> str:
    """Say what to write; nothing for a type that has no name for people."""
    if described := next((limit.description for limit in limits if limit.description), None):
        return f"write {described}"
    origin = get_origin(kind) or kind
    if origin is Literal:
        *first, last = map(repr, get_args(kind))
        return f"write {', '.join(first)} or {last}" if first else f"write {last}"
    noun = "a list" if origin in (list, tuple) else "a table" if origin is dict else _NOUNS.get(kind)
    bounds = [
        words.format(bound)
        for limit in limits
        for name, words in _LIMITS.items()
        if (bound := getattr(limit, name)) is not None
    ]
    return f"write {noun}" + (f": {', '.join(bounds)}" if bounds else "") if noun else ""
