"""Who owns which field of an object: ``metadata.managedFields``, as sets of paths.

A path is written as the API server writes it: ``("f:spec", "f:containers", 'k:{"name":"web"}', "f:image")``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeAlias

from deploy_guard.drivers.kubernetes import compare
from deploy_guard.drivers.kubernetes.objects import Object

MANAGER = "deploy-guard"
"""The field manager of everything that this driver applies."""

Field: TypeAlias = tuple[str, ...]


def entries(body: Object | None) -> list[dict[str, Any]]:
    """Return the entries of ``managedFields``."""
    return (body or {}).get("metadata", {}).get("managedFields") or []


def ours(body: Object | None) -> dict[str, Any] | None:
    """Return the entry of what deploy-guard applied, if there is one."""
    found = (one for one in entries(body) if one.get("manager") == MANAGER and one.get("operation") == "Apply")
    return next((one for one in found if not one.get("subresource")), None)


def fields(entry: dict[str, Any] | None) -> set[Field]:
    """Return the fields of one entry."""
    found: set[Field] = set()
    _collect((entry or {}).get("fieldsV1") or {}, (), found)
    return found


def tree(paths: Iterable[Field]) -> dict[str, Any]:
    """Return fields in the form in which an entry has them."""
    top: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        here = top
        for place, step in enumerate(path, 1):
            below = here.setdefault(step, {})
            if below == {} and place < len(path) and path[:place] in paths:
                below["."] = {}
            here = below
    return top


def shown(path: Field) -> str:
    """Return a field as people write it: ``spec.containers[web].image``."""
    steps: list[compare.Step] = []
    for step in path:
        sort, _, name = step.partition(":")
        if sort == "f":
            steps.append(name)
        else:
            value = json.loads(name)
            steps.append(tuple(value.items()) if isinstance(value, dict) else (("", value),))
    return compare.shown(tuple(steps))


def field(path: compare.Path) -> Field:
    """Return a path as the API server writes it."""
    return tuple(
        f"f:{step}" if isinstance(step, str) else "k:" + json.dumps(dict(step), separators=(",", ":"), sort_keys=True)
        for step in path
    )


def owner(body: Object, path: compare.Path) -> str:
    """Return who owns a field, others before deploy-guard; empty where nobody does."""
    wanted = field(path)
    names = [str(one.get("manager")) for one in entries(body) if _has(one.get("fieldsV1") or {}, wanted)]
    return min(names, key=lambda name: name == MANAGER, default="")


def value(body: Object, path: Field) -> Any:
    """Return what is at a field; ``compare.ABSENT`` where there is nothing."""
    here: Any = body
    for step in path:
        sort, _, name = step.partition(":")
        if sort == "f":
            here = here.get(name, compare.ABSENT) if isinstance(here, dict) else compare.ABSENT
        else:
            entries_ = here if isinstance(here, list) else ()
            here = next((entry for entry in entries_ if _is(entry, step)), compare.ABSENT)
    return here


def without(body: Object, gone: set[Field], kept: set[Field]) -> Object:
    """Return an object without some fields; what is in ``kept`` stays, with all that it stands in.

    Shares what it does not change with ``body``.
    """
    held = {path[:end] for path in kept for end in range(1, len(path) + 1)}
    result: Object = _pruned(body, (), gone, held)
    return result


def _collect(node: dict[str, Any], path: Field, found: set[Field]) -> None:
    for step, below in node.items():
        if step == ".":
            found.add(path)
        elif below:
            _collect(below, (*path, step), found)
        else:
            found.add((*path, step))


def _has(node: Any, path: Field) -> bool:
    for step in path:
        if not isinstance(node, dict) or step not in node:
            return False
        node = node[step]
    return node == {} or "." in node


def _pruned(value: Any, path: Field, gone: set[Field], held: set[Field]) -> Any:
    """Remove fields, as the server does: an owned mapping or entry goes with all that is in it, unless it is held."""
    if isinstance(value, dict):
        result = {}
        for name, below in value.items():
            here = (*path, f"f:{name}")
            if here in gone and here not in held:
                continue
            result[name] = _pruned(below, here, gone, held) if _inside(here, gone) else below
        return result
    if isinstance(value, list):
        steps = {one[len(path)] for one in gone if len(one) > len(path) and one[: len(path)] == path}
        left = []
        for entry in value:
            step = next((one for one in steps if _is(entry, one)), None)
            if step is None:
                left.append(entry)
            elif (*path, step) not in gone or (*path, step) in held:
                left.append(_pruned(entry, (*path, step), gone, held))
        return left
    return value


def _inside(path: Field, gone: set[Field]) -> bool:
    return any(len(one) > len(path) and one[: len(path)] == path for one in gone)


def _is(entry: Any, step: str) -> bool:
    """Say whether an entry of a list is the one that a step names."""
    sort, _, text = step.partition(":")
    if sort == "v":
        return bool(json.loads(text) == entry)
    if sort == "k" and isinstance(entry, dict):
        return all(entry.get(name, compare.DEFAULTS.get(name)) == value for name, value in json.loads(text).items())
    return False
