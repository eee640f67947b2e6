"""Whether something answers at a URL, and who listens there."""

from __future__ import annotations

import errno
import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import psutil


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def answers(url: str, timeout: float) -> tuple[bool, str]:
    """Ask a URL once: whether it answered 2xx, and what it said.

    No proxy and no redirect: another host's health says nothing about this service.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(url, timeout=timeout) as response:
            return 200 <= response.status < 300, f"status {response.status}"
    except urllib.error.HTTPError as error:
        with error:
            return False, f"status {error.code}"
    except urllib.error.URLError as error:
        return False, str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:  # timed out, reset, not HTTP, half an answer
        return False, str(error) or type(error).__name__


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def taken(host: str, port: int) -> bool:
    """True when a process of this machine listens there; False for an address of another machine.

    :raises OSError: when the host can't be resolved.
    """
    for family, kind, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind) as probe:
                # As servers do it: connections of an earlier process that are being closed are in nobody's way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            if error.errno != errno.EACCES:  # not an address of this machine, or no IPv6 here
                continue
        # A privileged port can't be bound to, and macOS binds beside a listener on all addresses: ask.
        with socket.socket(family, kind) as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(where) == 0:
                return True
    return False


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """True when one of these processes is known to listen on a port."""
    for process in processes:
        # psutil 6 renamed it; the old name warns.
        connections = getattr(process, "net_connections", None) or process.connections
        try:
            found = connections(kind="tcp")
        except psutil.Error:  # it ended just now, or is another user's
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in found):
            return True
    return False
