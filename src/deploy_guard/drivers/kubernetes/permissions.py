"""Which rights a plan needs, and which of them are missing.

One ``SelfSubjectRulesReview`` tells all rights in the namespace (4 ms; an access review for each of 60 rights takes
120 ms). It may be incomplete, and does not hold for what stands in no namespace: what it does not grant is asked for
right by right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deploy_guard.drivers.kubernetes import order, views
from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.discovery import Resource
from deploy_guard.drivers.kubernetes.objects import Key, Object, Planned

_API = "authorization.k8s.io/v1"
_BY_NAME = frozenset(("get", "patch", "update", "delete"))
"""Verbs that a role can grant for single names."""
_SINGLE = 20
"""Up to that many names are asked for one by one."""


@dataclass(frozen=True, order=True)
class Right:
    """To do something with a kind of objects; ``names``: with these only."""

    group: str
    resource: str
    verb: str
    namespace: str
    names: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """What it is for, as in ``deployments.apps``."""
        return f"{self.resource}.{self.group}" if self.group else self.resource


def needed(objects: Iterable[Planned], resources: Mapping[Key, Resource], namespace: str) -> list[Right]:
    """Return what plan, apply, wait and rollback of these objects need."""
    found: dict[tuple[str, str, str, str], set[str]] = {}
    watched: set[str] = set()
    changed = secrets = False
    for one in objects:
        key, resource = one.ref.key, resources[one.ref.key]
        changed = changed or one.action != "none"
        secrets = secrets or (key.kind == "Secret" and one.action != "none")
        for verb in _verbs(one):
            found.setdefault((resource.group, resource.plural, verb, key.namespace), set()).add(key.name)
        if one.action != "remove" and views.is_waited(key):
            watched |= {one.ref.collection, *views.needs(one.ref)}
    wanted = [Right(*place, tuple(sorted(names)) if place[2] in _BY_NAME else ()) for place, names in found.items()]
    wanted += [right for path in watched for right in _watched(path)]
    wanted += [
        Right("", "secrets", verb, namespace) for verb in (("list", "create", "delete") if changed else ("list",))
    ]
    if secrets:  # their old values are kept in a Secret beside them
        wanted += [Right("", "secrets", verb, namespace) for verb in ("get", "update")]
    return sorted(set(wanted))


def _verbs(one: Planned) -> set[str]:
    verbs = {"get"}
    if one.action in ("create", "change"):
        verbs.add("patch")
    if one.action in ("create", "remove") or (one.phase and one.action == "change"):
        verbs |= {"create", "delete"} if one.ref.key.kind not in order.KEPT else {"create"}
    if one.action in ("change", "remove") and not one.phase:
        verbs.add("update")
    return verbs


def _watched(collection: str) -> list[Right]:
    """Return what it takes to watch a collection; of pods, to quote their logs too."""
    top, _, rest = collection.partition("/namespaces/")
    namespace, _, plural = rest.rpartition("/")
    if not rest:
        top, _, plural = collection.rpartition("/")
    group = top.removeprefix("/apis/").rpartition("/")[0] if top.startswith("/apis/") else ""
    rights = [Right(group, plural, verb, namespace) for verb in ("list", "watch")]
    if (group, plural) == ("", "pods"):
        rights += [Right("", "pods", "get", namespace), Right("", "pods/log", "get", namespace)]
    return rights


def review(api: Api, namespace: str) -> list[Mapping[str, Any]]:
    """Return the rules of this user in the namespace, none where they are not known."""
    body = _body("SelfSubjectRulesReview", {"namespace": namespace})
    try:
        status = api.request("POST", f"/apis/{_API}/selfsubjectrulesreviews", body).get("status") or {}
    except ApiError:
        return []
    return list(status.get("resourceRules") or ())


def missing(api: Api, wanted: Sequence[Right], rules: Sequence[Mapping[str, Any]], namespace: str) -> list[Right]:
    """Return the rights that this user does not have."""
    doubted = [right for right in wanted if right.namespace != namespace or not granted(right, rules)]
    refused = [right for right, found in zip(doubted, api.each(_asker(api), doubted), strict=True) if not found]
    named = [(right, name) for right in refused if len(right.names) <= _SINGLE for name in right.names]
    answers = api.each(lambda one: _allowed(api, one[0], one[1]), named)
    without: dict[Right, list[str]] = {right: [] for right in refused}
    for (right, name), allowed in zip(named, answers, strict=True):
        if not allowed:
            without[right].append(name)
    return [
        replace(right, names=tuple(without[right]))
        for right in refused
        if without[right] or not right.names or len(right.names) > _SINGLE
    ]


def granted(right: Right, rules: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether the rules of a review grant a right."""
    names: set[str] = set()
    for rule in rules:
        if _in(right.verb, rule.get("verbs")) and _in(right.group, rule.get("apiGroups")) and _covers(right, rule):
            if not rule.get("resourceNames"):
                return True
            names.update(rule["resourceNames"])
    return bool(right.names) and names.issuperset(right.names)


def told(api: Api, rights: Sequence[Right]) -> list[str]:
    """Return a line for each kind of objects, with what may not be done with it."""
    verbs: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for right in rights:
        verbs.setdefault((right.shown, right.namespace, right.names), []).append(right.verb)
    lines = [
        f"  {', '.join(some)} {shown}" + (f" in the namespace {place}" if place else "") + _which(names)
        for (shown, place, names), some in verbs.items()
    ]
    return [f"{_user(api)} lacks these rights:", *lines]


def _which(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def _user(api: Api) -> str:
    body: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = api.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        return f"the user {answer['status']['userInfo']['username']}"
    except (ApiError, KeyError):  # servers before 1.28 don't know it
        return "this user"


def _in(word: str, allowed: Sequence[str] | None) -> bool:
    return bool(allowed) and (word in (allowed or ()) or "*" in (allowed or ()))


def _covers(right: Right, rule: Mapping[str, Any]) -> bool:
    resources = rule.get("resources") or ()
    _, _, part = right.resource.partition("/")
    return right.resource in resources or "*" in resources or (bool(part) and f"*/{part}" in resources)


def _asker(api: Api) -> Callable[[Right], bool]:
    return lambda right: _allowed(api, right)


def _allowed(api: Api, right: Right, name: str = "") -> bool:
    resource, _, part = right.resource.partition("/")
    wanted = {"verb": right.verb, "group": right.group, "resource": resource, "subresource": part}
    # A Namespace stands in none, but its requests are judged as being in it.
    wanted |= {"namespace": name if (right.group, resource) == ("", "namespaces") else right.namespace, "name": name}
    body = _body("SelfSubjectAccessReview", {"resourceAttributes": {k: v for k, v in wanted.items() if v}})
    try:
        answer = api.request("POST", f"/apis/{_API}/selfsubjectaccessreviews", body)
    except ApiError as error:
        if error.status == 403:  # who may not even ask: what is refused is refused when it is tried
            return True
        raise
    return bool(answer["status"].get("allowed"))


def _body(kind: str, spec: Mapping[str, Any]) -> Object:
    return {"apiVersion": _API, "kind": kind, "spec": dict(spec)}
