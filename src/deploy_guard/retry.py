"""Trying again: a small face on tenacity, and the only place that knows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from deploy_guard.deadline import Deadline

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")


def retrying(
    call: Callable[[], T],
    *,
    retry_on: tuple[type[Exception], ...],
    deadline: Deadline,
    attempts: int = 3,
    base: float = 0.2,
    maximum: float = 5.0,
    at_least: Callable[[BaseException], float] = lambda _: 0.0,
    log: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until it succeeds: at most ``attempts`` times, with exponential backoff and jitter, within the deadline.

    :param retry_on: only these are tried again; anything else is raised at once.
    :param base: seconds of the first wait, doubled each time up to ``maximum``.
    :param at_least: seconds that the error itself asks to wait; where the deadline leaves less, that was the last.
    :param log: gets one line for each failed attempt: why, and what follows.
    :param sleep: waits so many seconds.
    :raises Exception: what the last attempt raised.
    """
    import tenacity

    backoff = tenacity.wait_exponential(multiplier=base, max=maximum) + tenacity.wait_random(0, base)

    def error_of(state: RetryCallState) -> BaseException:
        error = state.outcome.exception() if state.outcome else None
        assert error is not None  # these are asked about failed attempts only
        return error

    def wait(state: RetryCallState) -> float:
        return max(backoff(state), at_least(error_of(state)))

    def stop(state: RetryCallState) -> bool:
        said = f"attempt {state.attempt_number} of {attempts} failed: {error_of(state)}"
        if state.attempt_number >= attempts:
            log(f"{said}; it was the last")
            return True
        if state.upcoming_sleep >= deadline.remaining:
            log(f"{said}; the next in {state.upcoming_sleep:.2f} s would be past the deadline of {deadline.limit:g} s")
            return True
        log(f"{said}; next in {state.upcoming_sleep:.2f} s")
        return False

    def again(state: RetryCallState) -> bool:
        if state.outcome is None or not state.outcome.failed:
            return False
        if isinstance(error := error_of(state), retry_on):
            return True
        log(f"attempt {state.attempt_number} of {attempts} failed: {error}; it is not tried again")
        return False

    engine = tenacity.Retrying(sleep=sleep, stop=stop, wait=wait, retry=again, reraise=True)
    return engine(call)
