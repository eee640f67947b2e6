"""Durations as people write them in configuration files."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h)\s*$"},
    ]
}
"""What :func:`seconds_of` takes, as JSON Schema."""


def seconds_of(value: object) -> float:
    """Return seconds for ``"5m"``, ``"90s"``, ``"250ms"``, ``"1h"`` or a plain number of seconds.

    :raises ValueError: for anything else, zero and negative durations included.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('write a duration such as "90s", "5m" or a number of seconds')
        seconds = float(match[1]) * _UNITS[match[2]]
    if not 0 < seconds < 7 * 86400:
        raise ValueError("a duration is above 0 and below a week")
    return seconds


NO_TIME_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, DURATION_SCHEMA["anyOf"][1]]}
"""What :func:`seconds_or_none` takes, as JSON Schema."""


def seconds_or_none(value: object) -> float:
    """Return seconds as :func:`seconds_of` does, and 0 for ``0``, ``"0s"`` and the like: no time at all.

    :raises ValueError: for anything else.
    """
    if isinstance(value, str) and re.fullmatch(r"\s*0+(\.0+)?\s*(ms|s|m|h)?\s*", value):
        return 0.0
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0:
        return 0.0
    return seconds_of(value)
