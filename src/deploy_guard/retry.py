"""Trying again: a small face on tenacity, and the only place that knows it."""

from __future__ import annotations

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
    log: Callable[[str], None] = lambda _: None,
) -> T:
    """Call until it succeeds: at most ``attempts`` times, with exponential backoff and jitter, within the deadline.

    :param retry_on: only these are tried again; anything else is raised at once.
    :param base: seconds of the first wait, doubled each time up to ``maximum``.
    :param log: gets one line for each failed attempt that is followed by another.
    :raises Exception: what the last attempt raised.
    """
    import tenacity

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        log(f"attempt {state.attempt_number} of {attempts} failed: {error}; next in {wait:.2f} s")

    def out_of_time(state: RetryCallState) -> bool:
        return (state.upcoming_sleep or 0.0) >= deadline.remaining

    engine = tenacity.Retrying(
        stop=lambda state: state.attempt_number >= attempts or out_of_time(state),
        wait=tenacity.wait_exponential(multiplier=base, max=maximum) + tenacity.wait_random(0, base),
        retry=tenacity.retry_if_exception_type(retry_on),
        before_sleep=before_sleep,
        reraise=True,
    )
    return engine(call)
