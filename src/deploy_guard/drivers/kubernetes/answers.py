"""What an answer of the API server means: done, refused, or worth another try. Pure functions over plain data."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from deploy_guard import __version__
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.unixhttp import Lost, Response

_NEVER_ARRIVED = re.compile(
    r"\bdial |\blookup |no such host|connection refused|getting credentials|x509:|tls: |TLS handshake"
)
"""In the plain text of kubectl's proxy: it did not get as far as sending the request."""
HOPELESS = re.compile(r"getting credentials|x509:|tls: (?!first record)|no such host|no Auth Provider found")
"""The same: no try that follows soon will do better."""
_PASSING = re.compile(r"etcdserver: |etcdclient: |leader changed|storage is \(re\)initializing")
"""In the message of an internal error: the server's store is away for a moment."""
_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')
_OUTSIDE = re.compile(r"[^A-Za-z0-9/._~:-]")


class Again(Exception):
    """This try failed, and another may not.

    :param error: what was answered; None where there was no answer.
    :param unclear: the server may have acted upon it.
    :param after: seconds that the server asks to wait.
    """

    def __init__(self, why: str, error: ApiError | None = None, *, unclear: bool = False, after: float = 0.0) -> None:
        super().__init__(why)
        self.error, self.unclear, self.after = error, unclear, after


@dataclass
class Tries:
    """What happened to a request in its tries so far.

    :param unclear: one of them may have been acted upon.
    :param refreshed: it was refused with 401, upon which kubectl asks for new credentials.
    :param renewed: kubectl was started again for it.
    """

    unclear: bool = False
    refreshed: bool = False
    renewed: bool = False


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    body: Object | list[Any] | None = field(default=None, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    accept: str = "application/json"

    @property
    def target(self) -> str:
        """Path and query as they are sent."""
        path = quote(self.path, safe="/:") if _OUTSIDE.search(self.path) else self.path
        return f"{path}?{urlencode(self.query)}" if self.query else path

    @property
    def headers(self) -> dict[str, str]:
        """The headers that are sent, but for those of the connection."""
        sent = {"Accept": self.accept, "User-Agent": f"deploy-guard/{__version__}"}
        return sent if self.body is None else {**sent, "Content-Type": self.content_type}

    @property
    def encoded(self) -> bytes | None:
        """The body as it is sent."""
        return None if self.body is None else msgspec.json.encode(self.body)

    @property
    def repeatable(self) -> bool:
        """True when it may be done twice: see ``connection.py``."""
        if self.method in ("GET", "DELETE") or self.query.get("dryRun"):
            return True
        if self.method == "PATCH":
            if isinstance(self.body, list):
                return bool(self.body) and self.body[0].get("op") == "test"
            return self.content_type.startswith(("application/apply-patch+", "application/merge-patch+"))
        body = self.body if isinstance(self.body, dict) else {}
        if self.method == "PUT":
            return bool(body.get("metadata", {}).get("resourceVersion"))
        return bool(self.name) or str(body.get("kind")).endswith("Review")

    @property
    def name(self) -> str:
        """The name of the object that is sent; empty where the server makes one."""
        meta = self.body.get("metadata", {}) if isinstance(self.body, dict) else {}
        return str(meta.get("name") or "")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def judge(call: Call, tries: Tries, response: Response) -> None:
    """Return when it was done.

    :raises Again: when another try may help.
    :raises ApiError: when the server refuses.
    """
    status = response.status
    if 200 <= status < 300 or (status == 404 and call.method == "DELETE" and tries.unclear):
        return
    error, plain = error_of(response)
    text, after = str(error), _after(response, error)
    if status == 401 and not tries.refreshed:
        tries.refreshed = True
        raise Again(text, error)
    if status == 429:
        raise Again(text, error, after=after)
    if plain and status in (500, 502):  # kubectl's proxy, or a load balancer behind it: the server did not answer
        raise Again(text, unclear=not _NEVER_ARRIVED.search(text), after=after)
    if status in (503, 504) or (status == 500 and _PASSING.search(text)):
        raise Again(text, None if plain else error, unclear=True, after=after)
    raise error


def warnings_of(response: Response) -> list[str]:
    """Return what the server warns of, as of an API that will be gone, or a pod that its policy only just lets in."""
    found = _WARNING.findall(response.headers.get("warning", ""))
    return [re.sub(r"\\(.)", r"\1", text) for text in found]


def error_of(response: Response) -> tuple[ApiError, bool]:
    """Return an answer as an error, and True when it is plain text: not the API server's own word."""
    try:
        body = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        body = None
    if isinstance(body, dict) and body.get("kind") == "Status":
        return _of_status(response.status, body), False
    text = " ".join(response.body.decode("utf-8", "replace").split())[:1000]
    return ApiError(response.status, "", text or f"status {response.status}"), True


def decoded(response: Response) -> Object:
    """Return the object of an answer.

    :raises ApiError: when it is none.
    """
    if not response.body or response.status == 404:  # the second: a DELETE, tried again
        return {}
    try:
        body = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(response.status, "", f"the answer is no object: {response.body[:200]!r}")
    return body


def event(line: bytes) -> Object:
    """Return one event of a watch.

    :raises ApiError: when it says that the watch failed.
    :raises Lost: when it can't be read.
    """
    try:
        found: Object = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise Lost(f"an event can't be read: {error}") from error
    if found.get("type") == "ERROR":
        raise _of_status(found["object"].get("code", 500), found["object"])
    return found


def made_by(call: Call, there: Object) -> bool:
    """True when an object is what a POST made whose answer was lost."""
    managers = [entry.get("manager") for entry in there.get("metadata", {}).get("managedFields", ())]
    return call.query.get("fieldManager") in (None, *managers) and holds(there, call.body)


def holds(there: Any, sent: Any) -> bool:
    """True when an object holds all that was sent; what the server added does not count."""
    if isinstance(sent, dict):
        if not isinstance(there, dict):
            return False
        if sent.get("kind") == "Secret" and "stringData" in sent:  # never shown again
            plain = {key: base64.b64encode(str(v).encode()).decode() for key, v in sent["stringData"].items()}
            rest = {key: value for key, value in sent.items() if key != "stringData"}
            sent = {**rest, "data": {**(sent.get("data") or {}), **plain}}
        return all(key in there and holds(there[key], value) for key, value in sent.items() if value is not None)
    if isinstance(sent, list):
        return isinstance(there, list) and len(there) == len(sent) and all(map(holds, there, sent))
    return bool(there == sent)


def _of_status(code: int, body: Mapping[str, Any]) -> ApiError:
    reason = str(body.get("reason") or "")
    return ApiError(code, reason, str(body.get("message") or reason or f"status {code}"), body.get("details"))


def _after(response: Response, error: ApiError) -> float:
    """Return how long the server asks to wait; a date, which no API server writes, counts as nothing."""
    for value in (response.headers.get("retry-after"), error.details.get("retryAfterSeconds")):
        if value is not None and re.fullmatch(r"\d{1,6}", str(value)):
            return float(value)
    return 0.0
