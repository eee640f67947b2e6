"""What the commands print for machines: one JSON document on stdout, and nothing else there."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def document(data: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def refusal(text: str, code: int) -> None:
    """Print the document of a command that ended before anything ran."""
    document({"schema": 1, "outcome": "refused", "exit_code": code, "headline": text.splitlines()[0], "error": text})
