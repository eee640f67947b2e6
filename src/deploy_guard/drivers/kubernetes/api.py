"""Requests to the API server, over the private socket of the user's own kubectl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.errors import DeployGuardError

T = TypeVar("T")
R = TypeVar("R")


class ApiError(DeployGuardError):
    """The API server refused a request.

    :param status: the HTTP status.
    :param reason: the machine's word, as in ``Conflict``, ``Forbidden``, ``Invalid``; empty where there is none.
    :param details: the ``details`` of the answer: ``causes`` and others.
    """

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.details = status, reason, dict(details or {})


class Unreachable(DeployGuardError):
    """The API server did not answer in time, kubectl is gone or hangs: nobody knows what became of the request."""


class Api(Protocol):
    """What the parts of the driver ask the API server for. Paths begin with ``/api`` or ``/apis``."""

    def request(
        self,
        method: str,
        path: str,
        body: Object | list[Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        patience: float | None = None,
    ) -> Object:
        """Send one request and return the answer; raises ``ApiError`` or, after ``patience`` seconds, ``Unreachable``.

        What is worth another try (a server that is away, 429) is tried again until then.
        """
        ...

    def get(self, path: str, *, query: Mapping[str, str] | None = None) -> Object | None:
        """Return an object, or None where there is none (404)."""
        ...

    def items(self, path: str, *, query: Mapping[str, str] | None = None) -> tuple[list[Object], str]:
        """Return all objects of a collection, page by page, and the resource version of the list."""
        ...

    def watch(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> Iterator[Object]:
        """Yield the events of a watch until it ends; raises ``ApiError`` (410: version too old) or ``Unreachable``."""
        ...

    def text(self, path: str, *, query: Mapping[str, str] | None = None) -> str:
        """Return an answer that is no JSON, as the log of a container."""
        ...

    def each(self, function: Callable[[T], R], over: Iterable[T]) -> list[R]:
        """Call a function for each, some side by side, and return the results in order; the first error ends it."""
        ...
