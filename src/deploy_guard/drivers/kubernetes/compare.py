"""What is in an object, field by field: paths, differences, and a reviewer's diff without Secret values.

A path leads to one value. Its steps are names of fields, and for lists whose entries have an identity (containers by
their name, ports by number and protocol) the entry's key: ``("spec", "containers", (("name", "web"),), "image")``.
Other lists are one value. The order of entries is no part of paths; :func:`arrange` cares for it.
"""

from __future__ import annotations

import difflib
import json
import re
from copy import deepcopy
from itertools import pairwise
from typing import Any, Final, TypeAlias

from deploy_guard.drivers.kubernetes.objects import Object

Item: TypeAlias = tuple[tuple[str, Any], ...]
"""The key of one entry of a list: ``(("containerPort", 80), ("protocol", "TCP"))``."""
Step: TypeAlias = "str | Item"
Path: TypeAlias = tuple[Step, ...]

ABSENT: Final[Any] = type("Absent", (), {"__repr__": lambda _self: "ABSENT"})()
"""What stands for a value where there is none; compare with ``is``."""

_OF_THE_SERVER = frozenset(
    ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")  #
)
_ANNOTATIONS = frozenset(("deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration"))

_NAMED = (("name",),)
_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "hostAliases": (("ip",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "ownerReferences": (("uid",),),
}
DEFAULTS = {"protocol": "TCP"}
"""What an entry of a list has where it does not say it."""

_SIMPLE = re.compile(r"[A-Za-z_][\w-]*")
_PLAIN = re.compile(r"(?!(true|false|null|yes|no|on|off)$)[A-Za-z/.][^\n\r\t]*(?<! )", re.IGNORECASE)
_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
"""Left out where an object is new or goes: its headline says it."""
_WIDEST = 160
"""Characters of one value that are shown in one line."""
HIDDEN = "(secret value)"
"""What stands in the place of a value of a Secret."""


def clean(body: Object) -> Object:
    """Return the desired state: without status and what the server and its controllers write into ``metadata``.

    Shares its parts with ``body``; make a deep copy before changing it.
    """
    meta = {name: value for name, value in body.get("metadata", {}).items() if name not in _OF_THE_SERVER}
    annotations = meta.get("annotations")
    if annotations is not None:
        kept = {name: value for name, value in annotations.items() if name not in _ANNOTATIONS}
        if kept:
            meta["annotations"] = kept
        else:
            del meta["annotations"]
    cleaned = {name: value for name, value in body.items() if name not in ("status", "metadata")}
    cleaned["metadata"] = meta
    return cleaned


def leaves(body: Object) -> dict[Path, Any]:
    """Return every value of an object by its path; an empty mapping or list is a value too."""
    found: dict[Path, Any] = {}
    _collect(body, (), found)
    return found


def get(body: Object, path: Path, default: Any = None) -> Any:
    """Return the value at a path."""
    here: Any = body
    for step in path:
        here = _child(here, step)
        if here is ABSENT:
            return default
    return here


def put(body: Object, path: Path, value: Any) -> None:
    """Set the value at a path, in place, with all that leads to it.

    An empty mapping, or an empty list of keyed entries, says that it exists: one that is there keeps what is in it.
    """
    here: Any = body
    for step, after in pairwise(path):
        below = _child(here, step)
        wanted = list if isinstance(after, tuple) else dict
        if not isinstance(below, wanted):
            below = dict(step) if isinstance(step, tuple) else wanted()
            _set(here, step, below)
        here = below
    there = _child(here, path[-1])
    if value == {} and isinstance(there, dict):
        return
    if value == [] and isinstance(there, list) and _items(path[-1], there) is not None:
        return
    _set(here, path[-1], deepcopy(value))


def drop(body: Object, path: Path) -> None:
    """Remove the value at a path, in place, and the mappings and lists that become empty by it.

    Without its key (``name``, ``port``) an entry of a list is no entry: the whole of it goes.
    """
    if len(path) > 1 and isinstance(path[-2], tuple) and path[-1] == path[-2][0][0]:
        path = path[:-1]
    way: list[Any] = [body]
    for step in path[:-1]:
        below = _child(way[-1], step)
        if below is ABSENT:
            return
        way.append(below)
    for here, step in zip(reversed(way), reversed(path), strict=True):
        _remove(here, step)
        if here or here is body:
            return


def arrange(body: Object, like: Object) -> None:
    """Put the keyed entries of lists into the order that they have in ``like``, in place; others stay behind them."""
    _arrange(body, like)


def changes(before: Object, after: Object) -> list[tuple[Path, Any, Any]]:
    """Return ``(path, old, new)`` of all values that differ, ``ABSENT`` where there is none.

    To get from one to the other, first drop what is absent in the other, then put the rest.
    """
    if before == after:
        return []
    old, new = leaves(before), leaves(after)
    found = [(path, value, new.get(path, ABSENT)) for path, value in old.items() if path not in new]
    for path, value in new.items():
        was = old.get(path, ABSENT)
        if was is ABSENT or was != value:
            found.append((path, was, value))
    return found


def shown(path: Path) -> str:
    """Return a path as people write it: ``spec.containers[web].ports[80/TCP].name``."""
    text = ""
    for step in path:
        if isinstance(step, tuple):
            text += f"[{'/'.join(str(value) for _, value in step)}]"
        elif _SIMPLE.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{quoted(step)}]"
    return text


def quoted(text: str) -> str:
    """Return a text in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def secret(body: Object, path: Path) -> bool:
    """Say whether a value must not be shown: it is in a Secret's data, or an annotation that copies it."""
    if body.get("kind") != "Secret" or len(path) < 2:
        return False
    if path[0] in ("data", "stringData"):
        return True
    return path[:2] == ("metadata", "annotations") and _copies(body, str(get(body, path, "")))


def masked(body: Object) -> Object:
    """Return an object whose Secret values are left out: the names of a Secret's entries stay."""
    if body.get("kind") != "Secret":
        return body
    hidden = dict(body)
    for part in ("data", "stringData"):
        if isinstance(body.get(part), dict):
            hidden[part] = dict.fromkeys(body[part], HIDDEN)
    annotations = body.get("metadata", {}).get("annotations")
    if annotations:
        safe = {n: HIDDEN if n in _ANNOTATIONS or _copies(body, str(v)) else v for n, v in annotations.items()}
        hidden["metadata"] = {**body["metadata"], "annotations": safe}
    return hidden


def value_shown(value: Any) -> str:
    """Return a value in one line, long ones shortened."""
    text = value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}… ({len(text):,} characters)"


def diff(before: Object | None, after: Object | None) -> str:
    """Return what a reviewer wants to see: each field that is new (``+``), gone (``-``) or another (both).

    Texts of several lines are compared line by line. Secret values never show, and binary ones only by their size.
    """
    old, new = (clean(body) if body is not None else {} for body in (before, after))
    lines: list[str] = []
    found = changes(old, new)
    for path, was, now in sorted(found, key=lambda one: _place(one[0])):
        if (old and new) or path not in _IDENTITY:
            lines += _lines(path, was, now, secret(old, path) or secret(new, path))
    if not found and old != new:
        lines.append("  the same entries, in another order")
    return "\n".join(lines)


# The parts


def _collect(value: Any, path: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, dict) and value:
        for name, below in value.items():
            if isinstance(below, (dict, list)):
                _collect(below, (*path, name), found)
            else:
                found[(*path, name)] = below
    elif isinstance(value, list) and (keys := _items(path[-1], value)) is not None:
        for key, below in zip(keys, value, strict=True):
            _collect(below, (*path, key), found)
    elif path:
        found[path] = value


def _items(field: Step, entries: list[Any]) -> list[Item] | None:
    """Return the keys of a list's entries, or None where they have none, or not each its own."""
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        return None
    for names in _KEYS.get(field, _NAMED) if isinstance(field, str) else _NAMED:
        keys = [tuple((name, entry.get(name, DEFAULTS.get(name))) for name in names) for entry in entries]
        plain = all(isinstance(value, (str, int)) for key in keys for _, value in key)
        if plain and len(set(keys)) == len(keys):
            return keys
    return None


def _matches(entry: Any, key: Item) -> bool:
    return isinstance(entry, dict) and all(entry.get(name, DEFAULTS.get(name)) == value for name, value in key)


def _child(here: Any, step: Step) -> Any:
    if isinstance(step, tuple):
        entries = here if isinstance(here, list) else ()
        return next((entry for entry in entries if _matches(entry, step)), ABSENT)
    return here.get(step, ABSENT) if isinstance(here, dict) else ABSENT


def _set(here: Any, step: Step, value: Any) -> None:
    if isinstance(step, str):
        here[step] = value
        return
    for place, entry in enumerate(here):
        if _matches(entry, step):
            here[place] = value
            return
    here.append(value)


def _remove(here: Any, step: Step) -> None:
    if isinstance(here, list):
        here[:] = [entry for entry in here if not _matches(entry, step)] if isinstance(step, tuple) else here
    elif isinstance(here, dict) and isinstance(step, str):
        here.pop(step, None)


def _arrange(value: Any, like: Any, field: Step = "") -> None:
    if isinstance(value, dict) and isinstance(like, dict):
        for name, below in value.items():
            if name in like:
                _arrange(below, like[name], name)
    elif isinstance(value, list) and isinstance(like, list):
        keys, wanted = _items(field, value), _items(field, like)
        if keys is None or wanted is None:
            return
        rank = {key: place for place, key in enumerate(wanted)}
        for key, entry in zip(keys, value, strict=True):
            if key in rank:
                _arrange(entry, like[rank[key]])
        order = sorted(range(len(value)), key=lambda place: rank.get(keys[place], len(rank)))
        value[:] = [value[place] for place in order]


def _copies(body: Object, text: str) -> bool:
    """Say whether a text holds a value of the Secret, encoded or not: tools keep whole objects in annotations."""
    values = [*(body.get("data") or {}).values(), *(body.get("stringData") or {}).values()]
    return '"data"' in text or '"stringData"' in text or any(isinstance(v, str) and v and v in text for v in values)


def _place(path: Path) -> tuple[Any, ...]:
    """Sort metadata first, then the rest by name."""
    return path[:1] != ("metadata",), [shown((step,)) if isinstance(step, tuple) else step for step in path]


def _lines(path: Path, was: Any, now: Any, hidden: bool) -> list[str]:
    name = shown(path)
    if hidden:
        return [f"- {name}: {HIDDEN}" if now is ABSENT else f"+ {name}: (secret value, {_how(was)})"]
    both = [(sign, value) for sign, value in (("-", was), ("+", now)) if value is not ABSENT]
    if path[0] == "binaryData":
        return [f"{sign} {name}: (binary, {_size(value)})" for sign, value in both]
    if any(isinstance(value, str) and "\n" in value for value in (was, now)):
        return _text(name, was, now)
    if isinstance(was, str) and isinstance(now, str) and max(len(was), len(now)) > _WIDEST:
        both = list(zip("-+", _around(was, now), strict=True))
    return [f"{sign} {name}: {value_shown(value)}" for sign, value in both]


def _how(was: Any) -> str:
    return "new" if was is ABSENT else "changed"


def _size(value: Any) -> str:
    return f"{len(str(value).rstrip('=')) * 3 // 4:,} bytes"


def _text(name: str, was: Any, now: Any) -> list[str]:
    """Return a line diff of a text of several lines."""
    if was is ABSENT or now is ABSENT:
        sign, text = ("-", was) if now is ABSENT else ("+", now)
        return [f"{sign} {name}: |", *(f"{sign}   {line}" for line in text.splitlines())]
    old = was.splitlines() if isinstance(was, str) else [value_shown(was)]
    new = now.splitlines() if isinstance(now, str) else [value_shown(now)]
    found = list(difflib.unified_diff(old, new, n=2, lineterm=""))[3:]  # the files' names and the first place
    body = ["  …" if line.startswith("@@") else f"{line[0]}   {line[1:]}" for line in found]
    return [f"@ {name}", *body] if body else [f"@ {name}: other ends of lines"]


def _around(was: str, now: str) -> tuple[str, str]:
    """Cut two long texts to where they begin to differ."""
    first = next((at for at, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    start = max(0, first - 40)
    lead = "…" if start else ""
    return lead + was[start : start + _WIDEST], lead + now[start : start + _WIDEST]
