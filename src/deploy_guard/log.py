"""The log of a run on standard error: the same events as in ``audit.jsonl``, as JSON lines or as lines for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

_LEVELS = {
    "failed": "error",
    "error": "error",
    "timed-out": "error",
    "died": "error",
    "warned": "warning",
    "waived": "warning",
    "skipped": "warning",
    "not-run": "warning",
}

Sink = Callable[[Mapping[str, Any], str], None]
"""Gets an event, and the same as one line of JSON that is redacted already."""


def sink(handle: int, kind: str, redact: Callable[[str], str], environ: Mapping[str, str]) -> Sink:
    """Return what writes events to a file handle, each in one write; a reader that went away loses them, nothing else.

    :param kind: ``human`` or ``json``.
    :param environ: with ``NO_COLOR`` set, lines for people have no colours; nor have they outside of a terminal.
    """
    if kind == "json":
        return lambda _event, line: _write(handle, line)
    from structlog.dev import ConsoleRenderer

    colours = os.isatty(handle) and not environ.get("NO_COLOR")
    renderer = ConsoleRenderer(colors=colours, pad_event_to=0, pad_level=False, sort_keys=False)

    def write(event: Mapping[str, Any], _line: str) -> None:
        data = {key: _first_line(value) for key, value in event.items() if value not in (None, "", [], {})}
        state = str(data.pop("state", "") or data.pop("outcome", ""))
        words = (str(data.pop("event")), str(data.pop("id", "")), state)
        entry = {
            "timestamp": str(data.pop("time"))[11:19],
            "level": _LEVELS.get(state, "info"),
            "event": " ".join(filter(None, words)),
            **data,
        }
        _write(handle, redact(str(renderer(None, "", entry))))

    return write


def _first_line(value: Any) -> Any:
    """Of a failure that quotes a log, the first line; audit.jsonl has all of it."""
    return f"{value.partition(chr(10))[0]} …" if isinstance(value, str) and "\n" in value else value


def _write(handle: int, line: str) -> None:
    try:
        os.write(handle, (line + "\n").encode("utf-8", "backslashreplace"))
    except (BrokenPipeError, BlockingIOError):
        return  # nobody reads any more, or not fast enough; audit.jsonl has it, and a release must not fail for it
