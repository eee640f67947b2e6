"""Which kinds the API server knows, and where their objects are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Key, Object, Ref


@dataclass(frozen=True)
class Resource:
    """One kind in one version.

    :param verbs: what can be done with it: ``list``, ``watch``, …
    :param promised: the server does not know it yet: its definition comes with this release.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    promised: bool = False

    @property
    def group(self) -> str:
        """The API group; empty for the core's."""
        return self.api_version.rpartition("/")[0]

    def collection(self, namespace: str) -> str:
        """Return the path of all objects of this kind, in that namespace if they stand in one."""
        top = root(self.api_version)
        return f"{top}/namespaces/{quote(namespace)}/{self.plural}" if self.namespaced else f"{top}/{self.plural}"

    def path(self, namespace: str, name: str) -> str:
        """Return the path of one object."""
        return f"{self.collection(namespace)}/{quote(name, safe=':')}"

    def ref(self, namespace: str, name: str) -> Ref:
        """Return which object it is, and where."""
        key = Key(self.api_version, self.kind, namespace if self.namespaced else "", name)
        return Ref(key, self.path(namespace, name))


class Resources:
    """What the API server says about its kinds, asked once for each group and version."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, dict[str, Resource]] = {}
        self._promised: dict[tuple[str, str], Resource] = {}

    def load(self, api_versions: Iterable[str]) -> None:
        """Ask for several groups and versions side by side."""
        wanted = sorted({version for version in api_versions if version not in self._known})
        self._known |= zip(wanted, self._api.each(self.asked, wanted), strict=True)

    def asked(self, api_version: str) -> dict[str, Resource]:
        """Ask the API server for the kinds of one group and version; none where it does not know that."""
        answer = self._api.get(root(api_version)) or {}
        return {
            one["kind"]: Resource(api_version, one["kind"], one["name"], one["namespaced"], frozenset(one["verbs"]))
            for one in answer.get("resources") or ()
            if "/" not in one["name"]
        }

    def know(self, api_version: str, kinds: dict[str, Resource]) -> None:
        """Take over what :meth:`asked` gave."""
        self._known[api_version] = kinds

    def learn(self, crd: Object) -> None:
        """Take over the kinds that a CustomResourceDefinition of this release brings."""
        spec = crd.get("spec") or {}
        names, group = spec.get("names") or {}, spec.get("group")
        if not (group and names.get("kind") and names.get("plural")):
            return  # the API server says what is wrong with it
        for version in spec.get("versions") or ():
            if isinstance(version, dict) and version.get("served"):
                named = f"{group}/{version.get('name')}"
                found = Resource(
                    named, names["kind"], names["plural"], spec.get("scope") == "Namespaced", promised=True
                )
                self._promised[named, names["kind"]] = found

    def find(self, api_version: str, kind: str) -> Resource | None:
        """Return a kind that the server knows, or else one that this release brings."""
        if api_version not in self._known:
            self._known[api_version] = self.asked(api_version)
        return self._known[api_version].get(kind) or self._promised.get((api_version, kind))

    def elsewhere(self, api_version: str, kind: str) -> list[str]:
        """Return in which other versions of its group the server knows a kind."""
        group = api_version.rpartition("/")[0]
        if not group:
            return []
        answer = None
        with contextlib.suppress(ApiError):
            answer = self._api.get(f"/apis/{group}")
        versions = [one["groupVersion"] for one in (answer or {}).get("versions") or ()]
        self.load(versions)
        return [one for one in versions if one != api_version and kind in self._known[one]]


def root(api_version: str) -> str:
    """Return the path below which the objects of a group and version are."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
