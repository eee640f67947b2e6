"""Durable small files: written beside the target, flushed, and renamed over it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` with ``text``: a reader sees the old content or the new one, never a part.

    :raises OSError: when the folder can't be written to; the old file is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)  # noqa: PTH105 - the same call, and it takes text
    except BaseException:  # nothing half-written stays behind, whatever the reason
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace ``path`` with ``data`` as JSON that people and ``grep`` can read: a line for each key and list entry.

    Not-a-number is refused because JSON has none.
    """
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # its own indentation is ten times slower
    lines = []
    for key, value in data.items():
        if isinstance(value, (list, tuple)) and value:
            shown = "[\n    " + ",\n    ".join(map(encode, value)) + "\n  ]"
        else:
            shown = encode(value)
        lines.append(f"  {encode(key)}: {shown}")
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")


def remove_durably(path: Path) -> None:
    """Remove a file, if it is there, so that it stays removed after a power loss."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        _sync_folder(path.parent)


def move_durably(path: Path, target: Path) -> None:
    """Replace ``target`` with ``path``, so that it stays replaced after a power loss; without a ``path``, remove it."""
    try:
        path.replace(target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
    if target.parent.is_dir():
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
