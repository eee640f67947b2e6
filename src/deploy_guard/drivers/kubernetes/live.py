"""Objects as they are in the cluster, with as few requests as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from deploy_guard.drivers.kubernetes.api import Api, ApiError
from deploy_guard.drivers.kubernetes.objects import Object, Ref

_SINGLE = 8
"""Up to that many objects of a collection are asked for one by one; a collection may hold thousands of others."""
_PAGE = 500


class Live:
    """Fetches objects; ``thunks`` do the work, side by side with whatever else there is to do."""

    def __init__(self, api: Api, refs: Iterable[Ref]) -> None:
        self._api = api
        self._found: dict[str, Object] = {}
        self.refused: dict[str, ApiError] = {}
        self._collections: dict[str, list[Ref]] = {}
        for ref in refs:
            self._collections.setdefault(ref.collection, []).append(ref)

    def thunks(self) -> list[Callable[[], None]]:
        """Return what there is to do."""
        work: list[Callable[[], None]] = []
        for collection, refs in self._collections.items():
            if len(refs) > _SINGLE:
                work.append(partial(self._list, collection, refs))
            else:
                work += [partial(self._one, ref) for ref in refs]
        return work

    def get(self, ref: Ref) -> Object | None:
        """Return an object, or None where there is none."""
        return self._found.get(ref.path)

    def _one(self, ref: Ref) -> None:
        try:
            body = self._api.get(ref.path)
        except ApiError as error:
            self.refused[ref.path] = error
        else:
            if body is not None:
                self._found[ref.path] = body

    def _list(self, collection: str, refs: list[Ref]) -> None:
        try:
            page = self._api.request("GET", collection, query={"limit": str(max(_PAGE, 2 * len(refs)))})
        except ApiError:
            for ref in refs:  # who may not list may still get
                self._one(ref)
            return
        wanted = {ref.key.name: ref for ref in refs}
        for body in page.get("items") or ():
            if (name := body["metadata"]["name"]) in wanted:
                ref = wanted.pop(name)
                self._found[ref.path] = {"apiVersion": ref.key.api_version, "kind": ref.key.kind, **body}
        if page.get("metadata", {}).get("continue"):
            for ref in wanted.values():
                self._one(ref)
