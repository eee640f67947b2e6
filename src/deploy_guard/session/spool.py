"""What the session recorded, kept where it survives the session: an unlinked file that parent and session share."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

_encoder = json.JSONEncoder(default=str)


def create() -> int:
    """Return the handle of a new, nameless file; each write goes to the kernel, so a killed writer loses nothing."""
    handle, name = tempfile.mkstemp(prefix="deploy-guard-")
    os.unlink(name)  # noqa: PTH108 - mkstemp speaks of text
    os.set_inheritable(handle, False)
    return handle


def write(handle: int, entry: dict[str, Any]) -> None:
    """Append one entry."""
    os.write(handle, _encoder.encode(entry).encode("utf-8", "backslashreplace") + b"\n")


def read(handle: int) -> tuple[dict[str, Any], ...]:
    """Return the entries, oldest first; a last line that was cut off is left out."""
    size = os.fstat(handle).st_size
    raw = os.pread(handle, size, 0)
    return tuple(json.loads(line) for line in raw.splitlines(keepends=True) if line.endswith(b"\n"))
