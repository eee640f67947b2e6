"""The service that is released, asked over HTTP."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from deploy_guard.config import EnvironmentConfig
from deploy_guard.deadline import Deadline
from deploy_guard.errors import ConfigurationError, DeployGuardError
from deploy_guard.headers import filled
from deploy_guard.retry import retrying

if TYPE_CHECKING:
    import requests

    from deploy_guard.probes.http import Answer


T = TypeVar("T")
_PROXY = "through the proxy"


class ServiceError(DeployGuardError):
    """The service did not answer as it should."""


class TryAgain(ServiceError):
    """A network error or a 5xx: another attempt may succeed, ``after`` so many seconds at the earliest."""

    def __init__(self, what: str, *, hint: str = "", after: float = 0.0) -> None:
        super().__init__(what, hint=hint)
        self.after = after


@dataclass(frozen=True)
class Certificate:
    """The certificate of a service, verified."""

    subject: str
    issuer: str
    not_after: datetime

    @property
    def days_left(self) -> float:
        """Days until it expires."""
        return (self.not_after - datetime.now(UTC)).total_seconds() / 86400


def resolve(host: str, port: int) -> list[str]:
    """Return all addresses of a host, each once; ``OSError`` when there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Service:
    """Asks the service; at most three attempts, backoff between them, a deadline over all of it.

    :param url: where it lives; None is an error when it is first asked.
    :param headers: sent to the service's own host; ``${NAME}`` in a value is a variable of ``environ``.
    :param ca_bundle: authorities for TLS, a file or a folder; by default those of requests.
    :param timeout: seconds for one question, all its attempts and redirects together.
    :param resolve: gives the addresses of a host and port.
    :param sleep: waits so many seconds between attempts.
    """

    def __init__(
        self,
        url: str | None,
        *,
        version_url: str = "/version",
        version_path: str = "version",
        version_header: str | None = None,
        samples: int = 3,
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        ca_bundle: Path | None = None,
        timeout: float = 30.0,
        log: Callable[[str], None] = print,
        resolve: Callable[[str, int], Sequence[str]] = resolve,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._version_url = version_url
        self._version_path = version_path
        self._version_header = version_header
        self._samples = samples
        self._headers = headers or {}
        self._environ = environ or {}
        self._ca_bundle = ca_bundle
        self._timeout = timeout
        self._log = log
        self._resolve = resolve
        self._sleep = sleep

    @classmethod
    def of(cls, config: EnvironmentConfig, environ: Mapping[str, str] | None = None, **more: Any) -> Service:
        """Return the service of an environment: ``service-url``, or ``$SERVICE_URL``."""
        import os

        source = os.environ if environ is None else environ
        return cls(
            config.service_url or source.get("SERVICE_URL", "").strip() or None,
            version_url=config.version_url,
            version_path=config.version_path,
            version_header=config.version_header,
            samples=config.version_samples,
            headers=config.service_headers,
            environ=source,
            ca_bundle=config.ca_bundle,
            **more,
        )

    @property
    def is_known(self) -> bool:
        """True when there is a URL to ask."""
        return self._url is not None

    @property
    def has_tls(self) -> bool:
        """True for a service that is known, and asked over https."""
        return self._url is not None and urlsplit(self._url).scheme == "https"

    def url(self, path: str) -> str:
        """Return the full URL of a path."""
        if self._url is None:
            raise ConfigurationError(
                "no service URL is known", hint="set SERVICE_URL, or service-url in the configuration"
            )
        return urljoin(self._url.rstrip("/") + "/", path.lstrip("/"))

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Get a path. Network errors and 5xx are tried again, ``Retry-After`` is heeded; 4xx fails at once.

        :param headers: sent besides those of the configuration.
        :raises ServiceError: with method, URL (without its query), status and the beginning of the body.
        """
        return self._ask(self.url(path), headers or {}).response

    def version(self) -> str:
        """Return the version that the service says it is; ``ServiceError`` when it says none."""
        return self._version_in(self.get(self._version_url))

    def addresses(self) -> list[str]:
        """Return the addresses behind the name of the service; ``ServiceError`` when there are none."""
        host, port = self._host_and_port()

        def once() -> list[str]:
            try:
                found = list(self._resolve(host, port))
            except OSError as error:
                raise TryAgain(f"{host} has no address: {error.strerror or error}") from None
            if not found:
                raise TryAgain(f"{host} has no address")
            return found

        return self._retrying(once, Deadline.after(self._timeout))

    def versions(self, samples: int | None = None) -> dict[str, tuple[str, ...]]:
        """Ask every address behind the name for its version, several times over; address -> versions, in order.

        An address that this machine has no route to (of IPv6, on many machines) is not asked and has no versions,
        unless that is so with all of them. Where a proxy stands in between, which chooses the address itself, there is
        one entry, ``through the proxy``.

        :raises ServiceError: naming each address that did not answer.
        """
        from deploy_guard.probes.http import is_proxied

        wanted = self._samples if samples is None else samples
        if wanted < 1:
            raise ValueError(f"samples={wanted}: at least one is needed to know a version")
        url = self.url(self._version_url)
        proxied = is_proxied(url)
        found: dict[str, list[str]] = {name: [] for name in ([_PROXY] if proxied else self.addresses())}
        asked = [name for name in found if proxied or _has_route(name, self._host_and_port()[1])] or list(found)
        problems: dict[str, str] = {}
        for _ in range(wanted):
            for name in asked:
                if name not in problems:
                    try:
                        answer = self._ask(url, {}, None if proxied else name).response
                        found[name].append(self._version_in(answer))
                    except ServiceError as error:
                        problems[name] = f"{name}: {error}"
        if problems:
            raise ServiceError("\n".join(problems.values()))
        return {name: tuple(versions) for name, versions in found.items()}

    @property
    def certificate(self) -> Certificate:
        """The certificate that the service shows, verified; ``ServiceError`` when it is not accepted, or has none."""
        said = self._ask(self.url("/"), {}, plain=True).certificate
        if said is None:
            raise ServiceError(f"{self._url} is not asked over https: there is no certificate")
        expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(said["notAfter"]), UTC)
        return Certificate(_name(said.get("subject", ())), _name(said.get("issuer", ())), expires)

    def clock_skew(self) -> float:
        """Return by how many seconds the clock of this machine is ahead of the service's; negative when it is behind.

        The ``Date`` header has whole seconds, and the answer takes a while: within both, the difference is 0.

        :raises ServiceError: when no answer comes, or one without a date.
        """
        answer = self._ask(self.url(self._version_url), {"Cache-Control": "no-cache"}, plain=True).response
        after = time.time()
        before = after - answer.elapsed.total_seconds()
        try:
            date = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
        except ValueError:
            raise ServiceError(f"{self._shown(answer.url)}: the answer has no Date header that can be read") from None
        age = answer.headers.get("Age", "")  # so old is the date when a cache answered
        date += int(age[:9]) if age.isascii() and age.isdigit() else 0
        return max(before - (date + 1), 0.0) or min(after - date, 0.0)

    def _host_and_port(self) -> tuple[str, int]:
        parts = urlsplit(self.url(self._version_url))
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    def _ask(self, url: str, headers: Mapping[str, str], address: str | None = None, *, plain: bool = False) -> Answer:
        """Ask within the deadline. ``plain``: no configured headers, any status is an answer, a redirect too."""
        from deploy_guard.probes import http

        own = self.url("/")
        sent = (
            dict(headers) if plain or http.is_foreign(own, url) else {**filled(self._headers, self._environ), **headers}
        )
        if self._ca_bundle is not None and not self._ca_bundle.exists():
            raise ConfigurationError(f"ca-bundle: {self._ca_bundle} does not exist", hint="correct the path")
        bundle = str(self._ca_bundle) if self._ca_bundle is not None else None
        deadline = Deadline.after(self._timeout)
        what = f"GET {http.shown(url)}" + (f" at {address}" if address else "")

        def once() -> Answer:
            started = time.monotonic()
            answer = http.fetch(
                url, headers=sent, deadline=deadline, ca_bundle=bundle, address=address, follow=not plain
            )
            status, body = answer.response.status_code, answer.response.content
            if 200 <= status < 300 or plain:
                self._log(f"{what}: status {status}, {len(body)} bytes in {time.monotonic() - started:.2f} s")
                return answer
            said = f"{what}: status {status}: {body[:200].decode('utf-8', 'replace').strip()}"
            if status < 500:
                raise ServiceError(said)
            wait = http.retry_after(answer.response.headers.get("Retry-After"), time.time()) if status == 503 else 0.0
            raise TryAgain(said + (f" (it asks to wait {wait:.0f} s)" if wait else ""), after=wait)

        return self._retrying(once, deadline)

    def _retrying(self, once: Callable[[], T], deadline: Deadline) -> T:
        return retrying(
            once,
            retry_on=(TryAgain,),
            deadline=deadline,
            at_least=lambda error: getattr(error, "after", 0.0),
            log=self._log,
            sleep=self._sleep,
        )

    def _version_in(self, answer: requests.Response) -> str:
        where = self._shown(answer.url)
        if self._version_header is not None:
            if not (said := answer.headers.get(self._version_header, "").strip()):
                raise ServiceError(f"{where}: there is no header {self._version_header} in the answer")
            return said
        try:
            value: Any = answer.json()
        except ValueError:
            value = answer.text.strip()
        if isinstance(value, (dict, list)):
            for part in re.findall(r"[^.\[\]]+", self._version_path):
                value = _inside(value, part)
        elif not isinstance(value, str):  # a number: 1.10 is another version than 1.1
            value = answer.text.strip()
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value == "":
            raise ServiceError(f"{where}: there is no {self._version_path} in the answer")
        text = str(value)
        return text if len(text) <= 200 else text[:199] + "…"

    def _shown(self, url: str) -> str:
        from deploy_guard.probes.http import shown

        return f"GET {shown(url)}"


def _inside(value: Any, part: str) -> Any:
    """Return what stands under a key or an index; None when nothing does."""
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
        return value[int(part)]
    return None


def _has_route(address: str, port: int) -> bool:
    """True unless this machine has no way to such an address, as to IPv6 on many. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, port))
    except OSError as error:
        return error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _name(parts: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return the common name of a subject or an issuer, else all that it says."""
    said = [pair for part in parts for pair in part]
    common = [value for key, value in said if key == "commonName"]
    return common[0] if common else ", ".join(value for _, value in said)
