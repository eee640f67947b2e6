"""Real HTTP servers in the test process that misbehave as they are told to."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers by the server's script; what it does by hand it writes through ``wfile``."""

    server: _Server

    def do_GET(self) -> None:
        web = self.server.web
        web.asked.append(self.path)
        web.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.close_connection = True
        script = web.answers
        answer = script.pop(0) if len(script) > 1 else script[0]
        with suppress(OSError):  # the client hung up: some of the tests are about that
            answer(self)

    def log_message(self, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    web: Web

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that does not like our certificate


class Web:
    """A server; ``answers`` are given one after the other, the last one for good."""

    def __init__(self, *answers: Answer, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None):
        self.answers = list(answers)
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        kind = type("Kind", (_Server,), {"address_family": socket.AF_INET6 if ":" in address else socket.AF_INET})
        self.server = kind((address, port), Handler)
        self.server.web = self
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_port
        self.url = f"{'https' if tls else 'http'}://{'localhost' if tls else address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serving(
    *answers: Answer, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Web]:
    web = Web(*answers, address=address, port=port, tls=tls)
    try:
        yield web
    finally:
        web.close()


def say(status: int = 200, body: bytes | str = b"ok", **headers: str) -> Answer:
    """Answer properly; underscores in names of headers are hyphens."""
    raw = body.encode() if isinstance(body, str) else body

    def answer(handler: Handler) -> None:
        if "Date" in headers:
            handler.send_response_only(status)
        else:
            handler.send_response(status)
        for name, value in {"Content_Length": str(len(raw)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def drop(handler: Handler) -> None:
    """Hang up without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def truncated(handler: Handler) -> None:
    """Promise more than is sent."""
    say(200, b"half", Content_Length="400")(handler)


def silent(handler: Handler) -> None:
    """Say nothing for longer than anybody waits."""
    time.sleep(30)


def trickle(handler: Handler) -> None:
    """Send a body that never ends, one byte at a time."""
    handler.send_response(200)
    handler.end_headers()
    _drip(handler, b"x")


def trickled_headers(handler: Handler) -> None:
    """Send headers that never end, one byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler, b"x")


def _drip(handler: Handler, byte: bytes) -> None:
    for _ in range(1500):
        handler.wfile.write(byte)
        time.sleep(0.02)
