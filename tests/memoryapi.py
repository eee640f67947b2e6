"""A store of objects that answers as an API server does, for what does not depend on a real one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from deploy_guard.drivers.kubernetes.api import ApiError

T = TypeVar("T")
R = TypeVar("R")
Body = dict[str, Any]
Answer = Callable[[str, str, Any, Mapping[str, str]], Body | None]


class MemoryApi:
    """Objects by path; ``answers`` are asked first, and may raise or return an answer of their own."""

    def __init__(self, objects: Mapping[str, Body] | None = None) -> None:
        self.objects: dict[str, Body] = {path: dict(body) for path, body in (objects or {}).items()}
        self.asked: list[tuple[str, str]] = []
        self.answers: list[Answer] = []

    def request(
        self,
        method: str,
        path: str,
        body: Body | list[Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",  # noqa: ARG002 - as in the protocol
        patience: float | None = None,  # noqa: ARG002
    ) -> Body:
        self.asked.append((method, path))
        for answer in self.answers:
            if (found := answer(method, path, body, query or {})) is not None:
                return found
        if method == "POST":
            assert isinstance(body, dict)
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                raise ApiError(409, "AlreadyExists", f"{path} already exists")
            self.objects[path] = copy.deepcopy(body)
        elif path not in self.objects:
            raise ApiError(404, "NotFound", f"{path} not found")
        elif method == "DELETE":
            return self.objects.pop(path)
        elif method in ("PUT", "PATCH") and isinstance(body, dict):
            self.objects[path] = copy.deepcopy(body)
        return copy.deepcopy(self.objects[path])

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Body | None:
        try:
            return self.request("GET", path, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, *, query: Mapping[str, str] | None = None) -> tuple[list[Body], str]:
        self.asked.append(("LIST", path))
        wanted = [word for word in (query or {}).get("labelSelector", "").split(",") if word]
        found = [copy.deepcopy(body) for place, body in self.objects.items() if place.rpartition("/")[0] == path]
        return [body for body in found if all(_has(body, word) for word in wanted)], "1"

    def watch(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> Iterator[Body]:
        raise NotImplementedError

    def text(self, path: str, *, query: Mapping[str, str] | None = None) -> str:
        raise NotImplementedError

    def each(self, function: Callable[[T], R], over: Iterable[T]) -> list[R]:
        return [function(one) for one in over]


def _has(body: Body, word: str) -> bool:
    name, _, value = word.partition("=")
    labels = body["metadata"].get("labels", {})
    return name in labels and (not value or labels[name] == value)
