"""One GET, safely: an end to everything, verified TLS, no credentials for strangers.

Imported when something is asked: requests and urllib3 take their time.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, requote_uri, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from deploy_guard.deadline import Deadline
from deploy_guard.headers import is_secret
from deploy_guard.probes.service import ServiceError, TryAgain

CONNECT, READ = 3.05, 10.0
"""Seconds for connecting and between two bytes; requests' documentation advises a little above a multiple of 3."""
HOPS = 10
"""Redirects that are followed."""
LARGEST = 10 * 1024 * 1024
"""Bytes of an answer that are read."""

_TRANSIENT = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    OSError,
)


@dataclass(frozen=True)
class Answer:
    """An answer, whole. ``certificate`` is what ``ssl.SSLSocket.getpeercert`` says; None without TLS."""

    response: requests.Response
    certificate: Mapping[str, Any] | None


def fetch(
    url: str,
    *,
    headers: Mapping[str, str],
    deadline: Deadline,
    ca_bundle: str | None = None,
    address: str | None = None,
    follow: bool = True,
) -> Answer:
    """Get a URL once, with its redirects, whatever the status.

    :param headers: on a redirect to another host those that hold credentials by their name are dropped.
    :param ca_bundle: a file or folder of authorities; by default those of requests and its environment variables.
    :param address: connect to this address of the host, directly; TLS and ``Host`` are still for the host's name.
    :param follow: follow redirects; otherwise one is the answer.
    :raises TryAgain: for network errors, truncated answers and the deadline.
    :raises ServiceError: for everything that another attempt would not mend.
    """
    first, sent = url, {"Accept-Encoding": "identity", **headers}
    with _Watch(deadline) as watch, requests.Session() as session:
        session.auth = _NoAuth()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(watch, address))
        for _ in range(HOPS + 1):
            answer = _one(session, url, sent, deadline, ca_bundle, watch, address)
            target = session.get_redirect_target(answer) if follow else None
            if target is None:
                return Answer(answer, watch.certificate)
            session.cookies.update(answer.cookies)
            before, url = url, urljoin(url, requote_uri(target))
            if urlsplit(url).scheme not in ("http", "https"):
                raise ServiceError(
                    f"{_get(before, address)}: redirects to {shown(url)}, which is no http:// or https:// URL"
                )
            if urlsplit(before).scheme == "https" != urlsplit(url).scheme:
                raise ServiceError(
                    f"{_get(before, address)}: redirects to {shown(url)}: out of TLS, which is not followed"
                )
            if is_foreign(before, url):
                if address is not None:
                    raise ServiceError(f"{_get(before, address)}: redirects to {shown(url)}, which is another host")
                sent = {name: value for name, value in sent.items() if not is_secret(name)}
    raise ServiceError(f"{_get(first, address)}: more than {HOPS} redirects, the last one to {shown(url)}")


def is_foreign(url: str, other: str) -> bool:
    """True when credentials for one URL are none for the other; ``http`` to ``https`` of one host is no difference."""
    with requests.Session() as session:
        return bool(session.should_strip_auth(url, other))  # type: ignore[no-untyped-call]


def is_proxied(url: str) -> bool:
    """True when the environment's proxy variables send this URL through a proxy."""
    return select_proxy(url, get_environ_proxies(url, no_proxy=None)) is not None


def shown(url: str) -> str:
    """Return a URL without credentials, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def retry_after(value: str | None, now: float) -> float:
    """Return the seconds that a ``Retry-After`` header asks to wait, given as seconds or as a date; 0 for none."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:  # neither: RFC 9110 knows no third form
        return 0.0


def _one(
    session: requests.Session,
    url: str,
    headers: Mapping[str, str],
    deadline: Deadline,
    ca_bundle: str | None,
    watch: _Watch,
    address: str | None,
) -> requests.Response:
    what = _get(url, address)
    host = {} if address is None else {"Host": urlsplit(url).netloc.rpartition("@")[2]}
    patience = max(0.01, deadline.remaining)
    try:
        answer = session.get(
            url,
            headers={**headers, **host},
            timeout=(min(CONNECT, patience), min(READ, patience)),
            verify=ca_bundle or True,
            allow_redirects=False,
            proxies={} if address is None else {"http": "", "https": ""},
        )
    except _TooLarge:
        raise ServiceError(f"{what}: the answer is larger than {LARGEST // 1024**2} MiB") from None
    except _TRANSIENT as error:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise ServiceError(
                    f"{what}: its certificate is not accepted: {cause.verify_message}",
                    hint="renew it; for an authority of your own, name its certificate as ca-bundle",
                ) from None
        if watch.expired:
            raise _too_late(what, deadline) from None
        if isinstance(error, ValueError) and not watch.connected:  # a URL or header that can't be
            raise ServiceError(f"{what}: {type(error).__name__}: nothing was asked") from None
        raise TryAgain(f"{what}: {_reason(error)}") from None
    if watch.expired:  # a connection that we ended can look like the end of an answer
        raise _too_late(what, deadline)
    return answer


def _too_late(what: str, deadline: Deadline) -> TryAgain:
    return TryAgain(f"{what}: no whole answer within the deadline of {deadline.limit:g} s")


class _NoAuth(AuthBase):
    """Keeps requests from looking into ``.netrc``: only what the configuration names is sent."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


class _TooLarge(Exception):
    """The answer is larger than we read."""


class _Watch:
    """Hangs up at the deadline, because a timeout of requests counts anew with each byte."""

    def __init__(self, deadline: Deadline) -> None:
        self.expired = False
        self.certificate: Mapping[str, Any] | None = None
        self._connection: HTTPConnection | None = None
        self._socket: object = None
        self._timer = threading.Timer(deadline.remaining, self._hang_up)
        self._timer.daemon = True

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        if isinstance(self._socket, socket.socket) and self._socket.fileno() != -1:
            os.close(self._socket.detach())  # urllib3 leaves it open when the head of an answer is none

    @property
    def connected(self) -> bool:
        """True once somebody was there to be asked."""
        return self._socket is not None

    def connect(self, connection: HTTPConnection, connect: Callable[[], None]) -> None:
        """Let a connection connect, and keep an eye on it."""
        self._connection, self._socket = connection, None
        connect()
        self._socket = connection.sock  # the connection lets go of it once an answer begins that has no length
        if self.expired:
            raise TimeoutError
        self.certificate = self._socket.getpeercert() if isinstance(self._socket, ssl.SSLSocket) else None

    def _hang_up(self) -> None:
        self.expired = True
        sock = self._socket or getattr(self._connection, "sock", None)
        if isinstance(sock, socket.socket):
            with suppress(OSError):  # not connected yet, or not any more
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which is not for two threads


class _Adapter(HTTPAdapter):
    def __init__(self, watch: _Watch, address: str | None) -> None:
        class Plain(HTTPConnection):
            def connect(self) -> None:
                watch.connect(self, super().connect)

        class Tls(HTTPSConnection):
            def connect(self) -> None:
                watch.connect(self, super().connect)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = Tls

        self._pools = {"http": PlainPool, "https": TlsPool}
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        attributes: Any = super().build_connection_pool_key_attributes(request, verify, cert)
        host, pool = attributes
        if self._address is not None:
            if host["scheme"] == "https":
                pool["server_hostname"] = host["host"]
            host["host"] = self._address
        return host, pool

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Read the answer here and now, while the deadline and the limit of its size are watched."""
        response = super().build_response(req, resp)
        body = io.BytesIO()
        try:
            for chunk in resp.stream(65536, decode_content=True):
                body.write(chunk)
                if body.tell() > LARGEST:
                    raise _TooLarge
        except BaseException:
            resp.close()
            raise
        body.seek(0)
        response.raw = urllib3.HTTPResponse(body, status=resp.status, reason=resp.reason, preload_content=False)
        return response


def _get(url: str, address: str | None) -> str:
    return f"GET {shown(url)}" + (f" at {address}" if address else "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and everything that it was made of; requests and urllib3 wrap errors in several ways."""
    todo, seen = [error], set()
    while todo:
        this = todo.pop(0)
        if id(this) in seen:
            continue
        seen.add(id(this))
        yield this
        inside = (*this.args, getattr(this, "reason", None), this.__cause__, this.__context__)
        todo += [cause for cause in inside if isinstance(cause, BaseException)]


def _reason(error: Exception) -> str:
    """Name the kind of a network error and the system's word for it; its own text holds the URL's query."""
    if type(error) is OSError and error.strerror is None:  # requests' own, about a bundle of authorities
        return str(error)
    causes = list(_causes(error))
    words = next((c.strerror for c in causes if isinstance(c, OSError) and isinstance(c.strerror, str)), None)
    kind = next((type(c).__name__ for c in causes[1:] if isinstance(c, urllib3.exceptions.HTTPError)), None)
    detail = words.lower() if words else kind
    return type(error).__name__ + (f" ({detail})" if detail else "")
