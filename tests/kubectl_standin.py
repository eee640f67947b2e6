"""A program that stands in for kubectl: it serves HTTP on the unix socket, and does what a test ordered.

Run as a script it is that program; a test makes a :class:`Standin`, which puts it on a PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

HOME = "KUBECTL_STANDIN"


class Standin:
    """A folder with a ``kubectl``, what it is told, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "orders").mkdir()
        self._number = 0
        program = folder / "bin/kubectl"
        program.write_text(f"#!{sys.executable} -S\n{Path(__file__).read_text()}")
        program.chmod(0o755)
        self.environ = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", HOME: str(folder), "HOME": str(folder)}
        self.configure(version="v1.33.1", contexts=["one", "two"])

    def configure(self, **settings: Any) -> None:
        """Change how it behaves: ``version``, ``contexts``, ``proxy`` (``refuse``, ``silent``), ``fails``."""
        path = self.folder / "settings.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | settings))

    def order(self, **what: Any) -> None:
        """Order something for one of the next requests, those for ``/version`` left out unless ``path`` says so.

        ``status``, ``body`` (an object, or text), ``headers``; ``hang`` (seconds); ``die`` (``before`` or ``after``
        it answers); ``cut`` (closes in the middle of the answer); ``lines`` (of a watch; an endless one with ``open``).
        """
        self._number += 1
        path = self.folder / "orders" / f"{self._number:04}"
        path.with_suffix(".new").write_text(json.dumps(what))
        path.with_suffix(".new").rename(path)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked, ``/version`` left out: ``method``, ``path``, ``headers``, ``body``."""
        path = self.folder / "requests"
        lines = path.read_text().splitlines() if path.exists() else []
        return [one for one in map(json.loads, lines) if one["path"] != "/version"]

    @property
    def proxies(self) -> list[int]:
        """The process numbers of all proxies so far."""
        path = self.folder / "proxies"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    home: Path

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        asked = {"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body}
        _append(self.home / "requests", json.dumps(asked))
        order = _take(self.home, self.path)
        if order.get("die") == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if order.get("hang"):
            time.sleep(order["hang"])
        if "lines" in order:
            self._watch(order)
            return
        answer = order.get("body", {"kind": "Echo", "method": self.command, "path": self.path})
        plain = isinstance(answer, str)
        data = (answer if plain else json.dumps(answer)).encode()
        self.send_response(order.get("status", 200))
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in order.get("headers", {}).items():
            self.send_header(name, value)
        self.end_headers()
        if order.get("cut"):
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)
        if order.get("die") == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 - http.server wants these names

    def _watch(self, order: dict[str, Any]) -> None:
        self.send_response(order.get("status", 200))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in order["lines"]:
            data = (line if isinstance(line, str) else json.dumps(line) + "\n").encode()
            for piece in (data[:7], data[7:]):  # an event comes in pieces
                if piece:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if order.get("open"):
            time.sleep(60)
        if order.get("cut"):
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")


def _take(home: Path, path: str) -> dict[str, Any]:
    for one in sorted((home / "orders").glob("[0-9]???")):
        with contextlib.suppress(FileNotFoundError):  # another thread was quicker
            order: dict[str, Any] = json.loads(one.read_text())
            if path.startswith(order["path"]) if "path" in order else path != "/version":
                one.unlink()
                return order
    return {}


def _append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode() + b"\n")
    os.close(handle)


def main(words: list[str]) -> int:
    home = Path(os.environ[HOME])
    settings = json.loads((home / "settings.json").read_text())
    if settings.get("fails"):
        print(settings["fails"], file=sys.stderr)
        return 1
    if "version" in words:
        print(settings.get("says") or json.dumps({"clientVersion": {"gitVersion": settings["version"]}}))
    elif "get-contexts" in words:
        print("\n".join(settings["contexts"]))
    elif "view" in words:
        if "current" in settings:
            print(json.dumps(settings["current"]))
        elif any("jsonpath" in word for word in words):
            print("https://10.1.2.3:6443")
        else:
            print("error: current-context must exist in order to minify", file=sys.stderr)
            return 1
    elif "proxy" in words:
        return _proxy(home, settings, words)
    return 0


def _proxy(home: Path, settings: dict[str, Any], words: list[str]) -> int:
    _append(home / "proxies", str(os.getpid()))
    _append(home / "words", json.dumps(words))
    (home / "environ.json").write_text(json.dumps(dict(os.environ)))
    if settings.get("proxy") == "silent":
        time.sleep(60)
    name = words[words.index("--context") + 1]
    if name not in settings["contexts"]:
        print(f'error: context "{name}" does not exist', file=sys.stderr)
        return 1
    socket = next(word.partition("=")[2] for word in words if word.startswith("--unix-socket="))
    _Handler.home = home
    with _Server(socket, _Handler) as server:
        print(f"Starting to serve on {socket}", flush=True)
        if settings.get("complains"):
            print(settings["complains"], file=sys.stderr, flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
