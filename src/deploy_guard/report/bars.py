"""A measured value against its limits, drawn to scale."""

from __future__ import annotations

import math

from deploy_guard.flow.model import Evidence

_SAID = {"ok": "within its limits", "warn": "past its warn limit", "fail": "past its fail limit"}


def bar(entry: Evidence) -> str:
    """Return the drawing of one piece of evidence; nothing where there is nothing to draw.

    The zones that are fine, a warning and a failure lie behind the bar of the value; colours are the style sheet's.
    """
    value = entry.value
    limits = [limit for limit in (entry.warn, entry.fail) if limit is not None]
    if isinstance(value, (str, bool)) or value is None or not limits:
        return ""
    numbers = [value, *limits]
    if not all(map(math.isfinite, numbers)):
        return ""
    low, high = _scale(numbers, entry.unit)

    def place(number: float) -> str:
        return f"{100 * (number - low) / (high - low):.1f}%"

    # Without one of the two limits its zone is empty: both edges stand where the other is.
    warn = entry.warn if entry.warn is not None else limits[0]
    fail = entry.fail if entry.fail is not None else (high if entry.worse == "above" else low)
    first, second = (warn, fail) if entry.worse == "above" else (fail, warn)
    return (
        f'<span class="bar {entry.worse} {entry.status}" role="img" aria-label="{_SAID.get(entry.status, "")}" '
        f'style="--a:{place(first)};--b:{place(second)};--v:{place(value)}"><i></i></span>'
    )


def _scale(numbers: list[float], unit: str) -> tuple[float, float]:
    """Return both ends of the scale: large percentages as part of a whole, others from zero to past the largest."""
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    if unit == "%" and low == 0.0 and 50.0 <= high <= 100.0:
        return 0.0, 100.0
    room = 0.15 * (high - low) or 1.0
    return low - (room if low < 0 else 0.0), high + room
