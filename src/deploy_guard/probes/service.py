"""The service that is released, asked over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from deploy_guard.config import EnvironmentConfig
from deploy_guard.deadline import Deadline
from deploy_guard.errors import ConfigurationError, DeployGuardError
from deploy_guard.retry import retrying

if TYPE_CHECKING:
    import requests

CONNECT, READ = 3.05, 10.0
"""Seconds for connecting and between two bytes; requests' documentation advises a little above a multiple of 3."""


class ServiceError(DeployGuardError):
    """The service did not answer as it should."""


class _TryAgain(ServiceError):
    """A network error or a 5xx: another attempt may succeed."""


class Service:
    """Asks the service; at most three attempts, backoff between them, a deadline over all of it.

    :param url: where it lives; None is an error when it is first asked.
    """

    def __init__(
        self,
        url: str | None,
        *,
        version_url: str = "/version",
        version_path: str = "version",
        timeout: float = 30.0,
        log: Callable[[str], None] = print,
    ) -> None:
        self._url = url
        self._version_url = version_url
        self._version_path = version_path
        self._timeout = timeout
        self._log = log

    @classmethod
    def of(cls, config: EnvironmentConfig, environ: dict[str, str] | None = None) -> Service:
        """Return the service of an environment: ``service-url``, or ``$SERVICE_URL``."""
        import os

        source = os.environ if environ is None else environ
        url = config.service_url or source.get("SERVICE_URL", "").strip() or None
        return cls(url, version_url=config.version_url, version_path=config.version_path)

    def url(self, path: str) -> str:
        """Return the full URL of a path."""
        if self._url is None:
            raise ConfigurationError(
                "no service URL is known", hint="set SERVICE_URL, or service-url in the configuration"
            )
        return urljoin(self._url.rstrip("/") + "/", path.lstrip("/"))

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> requests.Response:
        """Get a path. Network errors and 5xx are tried again; 4xx fails at once.

        :raises ServiceError: with method, URL (without its query), status and the beginning of the body.
        """
        import requests

        url = self.url(path)
        deadline = Deadline.after(self._timeout)

        def once() -> requests.Response:
            patience = max(0.1, deadline.remaining)
            try:
                answer = requests.get(url, headers=headers, timeout=(min(CONNECT, patience), min(READ, patience)))
            except requests.RequestException as error:
                raise _TryAgain(f"GET {_shown(url)}: {_reason(error)}") from None
            if answer.status_code < 400:
                return answer
            kind = _TryAgain if answer.status_code >= 500 else ServiceError
            raise kind(f"GET {_shown(url)}: status {answer.status_code}: {answer.text[:200].strip()}")

        return retrying(once, retry_on=(_TryAgain,), deadline=deadline, log=self._log)

    def version(self) -> str:
        """Return the version that the service says it is; ``ServiceError`` when it says none."""
        answer = self.get(self._version_url)
        try:
            value: Any = answer.json()
        except ValueError:
            return answer.text.strip()
        for part in self._version_path.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ServiceError(f"GET {_shown(answer.url)}: there is no {self._version_path} in the answer")
            value = value[part]
        return str(value)


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _reason(error: Exception) -> str:
    """Name the kind of a network error; its own text holds the whole URL, query included."""
    cause = error.__cause__ or error.__context__
    reason = getattr(cause, "reason", None) or cause
    return f"{type(error).__name__} ({type(reason).__name__})" if reason is not None else type(error).__name__
