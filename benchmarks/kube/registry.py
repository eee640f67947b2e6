"""An image registry of the benchmark's own, for pulls that fail in a known way.

The repository's name says what happens: ``gone`` is never found (404), ``stumbles`` answers 503 to the first request
for each tag and then serves a busybox image. It listens on 127.0.0.1, so that it serves nodes on this machine only.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
STUMBLES = 1
"""Requests for a manifest that fail before one is answered; the kubelet tries again after some ten seconds."""


class Registry:
    """Serves until it is closed."""

    def __init__(self) -> None:
        busybox = shutil.which("busybox")
        self.serves = busybox is not None
        self.blobs: dict[str, bytes] = {}
        self.manifest = self._image(Path(busybox)) if busybox else b""
        self.asked: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def image(self, repository: str, tag: str) -> str:
        """Return the full name of an image."""
        return f"127.0.0.1:{self._server.server_address[1]}/{repository}:{tag}"

    def _image(self, busybox: Path) -> bytes:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            info = tarfile.TarInfo("bin/busybox")
            info.size, info.mode = busybox.stat().st_size, 0o755
            with busybox.open("rb") as file:
                tar.addfile(info, file)
        layer = gzip.compress(raw.getvalue(), 1, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/bin/busybox", "sleep", "100000"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(raw.getvalue())]},
            }
        ).encode()
        self.blobs = {_digest(layer): layer, _digest(config): config}
        part = {"mediaType": "application/vnd.docker.container.image.v1+json"}
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": part | {"size": len(config), "digest": _digest(config)},
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(layer),
                        "digest": _digest(layer),
                    }
                ],
            }
        ).encode()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        parts = path.strip("/").split("/")
        if parts == ["v2"]:
            return 200, "application/json", b"{}"
        if len(parts) != 4 or parts[1] != "stumbles":
            return 404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "not found"}]}'
        if parts[2] == "blobs":
            return 200, "application/octet-stream", self.blobs[parts[3]]
        if not parts[3].startswith("sha256:"):
            self.asked[parts[3]] += 1
            if self.asked[parts[3]] <= STUMBLES:
                return 503, "text/plain", b"come back later"
        return 200, MANIFEST, self.manifest


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, kind, body = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    return Handler


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
