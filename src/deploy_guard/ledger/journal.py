"""The events of one run as JSON lines: intent before each act, outcome after it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_encoder = json.JSONEncoder(default=str, ensure_ascii=False)


class FileJournal:
    """Appends events to ``audit.jsonl``.

    Each event is one ``write`` of a whole line to a file opened for appending, so that lines of two processes don't
    mix and a process that is killed leaves whole lines only.

    :param redact: applied to the text of every line before it is written.
    :param echo: gets each event too, and its redacted line: the log.
    """

    def __init__(
        self,
        path: Path,
        *,
        run: str,
        env: str,
        version: str | None,
        redact: Callable[[str], str],
        echo: Callable[[Mapping[str, Any], str], None] | None = None,
    ) -> None:
        self._common = {"run": run, "env": env, "version": version}
        self._redact = redact
        self._echo = echo
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def event(self, name: str, **data: Any) -> None:
        """Write one event with the time (UTC), run, environment and version."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = {"time": now, **self._common, "event": name, **data}
        line = self._redact(_encoder.encode(event))
        os.write(self._handle, (line + "\n").encode("utf-8", "backslashreplace"))
        if self._echo is not None:
            self._echo(event, line)

    def close(self) -> None:
        """Release the file."""
        os.close(self._handle)
