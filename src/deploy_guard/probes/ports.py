"""Ports: does somebody answer there, does somebody listen here."""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import closing

_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):)?(?P<port>\d{1,5})")


def address_of(value: object) -> tuple[str, int]:
    """Return host and port of ``"host:port"``, ``"[::1]:port"``, or of a port alone, which is one of this machine.

    :raises ValueError: for anything else.
    """
    match = None if isinstance(value, bool) else _ADDRESS.fullmatch(str(value))
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError('write "host:port", or the number of a port')
    return match["host"] or "127.0.0.1", int(match["port"])


def reach(address: str | int, timeout: float = 3.0) -> str:
    """Connect and hang up. Returns nothing when that worked, else the reason."""
    host, port = address_of(address)
    try:
        with socket.create_connection((host.strip("[]"), port), timeout):
            return ""
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as error:  # refused, no route, a name that is not known
        return (error.strerror or str(error)).lower()


def taken(port: int) -> str:
    """Say who listens at a port of this machine; nothing when it is free.

    Free means that a service could listen there, on every address: the port is bound for a moment.
    """
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - for a moment
        if (why := _bind(family, everywhere, port)) is not None:
            return why
    return ""


def _bind(family: socket.AddressFamily, everywhere: str, port: int) -> str | None:
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:  # a machine without IPv6
            return None
        raise
    with closing(made) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended are no hindrance
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((everywhere, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6:  # IPv6 is switched off
                return None
            if error.errno == errno.EACCES:  # below 1024, and not root: whoever listens there answers
                loopback = f"[::1]:{port}" if family == socket.AF_INET6 else f"127.0.0.1:{port}"
                return None if reach(loopback) else f"in use{_holder(port)}"
            if error.errno == errno.EADDRINUSE:
                return f"in use{_holder(port)}"
            raise
    return None


def _holder(port: int) -> str:
    import psutil

    try:
        listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        pid = next((c.pid for c in listening if c.laddr and c.laddr.port == port and c.pid), None)
        return f" by {psutil.Process(pid).name()} (process {pid})" if pid and pid != os.getpid() else ""
    except (psutil.AccessDenied, psutil.NoSuchProcess):  # somebody else's process, or one that just ended
        return ""
