"""Lines of a step that goes on: the newest one, at a pace that people can read, and never in anybody's way."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from deploy_guard.session.progress import LiveLine, PlainLines, Progress, display_for, own_handle


class Kept:
    """A display that keeps what it is to show."""

    def __init__(self, first: float = 0.0, every: float = 0.0, again: float = 0.0) -> None:
        self.first, self.every, self.again = first, every, again
        self.shown: list[str] = []
        self.cleared = 0

    def show(self, step: str, text: str) -> None:
        self.shown.append(f"{step}: {text}")

    def clear(self) -> None:
        self.cleared += 1


class Broken(Kept):
    def show(self, step: str, text: str) -> None:
        super().show(step, text)
        raise BrokenPipeError

    def clear(self) -> None:
        super().clear()
        raise OSError("gone")


def until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for handle in (reading, writing):
        os.close(handle)


def test_a_line_is_shown_while_the_step_goes_on_and_cleared_at_its_end() -> None:
    display = Kept()
    progress = Progress(str.upper, display)
    with progress.during("wait"):
        progress("  web 1/3\nmore of it")
        until(lambda: display.shown)
        assert display.cleared == 0
    assert (display.shown, display.cleared) == (["wait: WEB 1/3"], 1)


def test_outside_of_a_step_and_without_a_display_it_is_silent() -> None:
    display = Kept()
    progress = Progress(display=display)
    progress("before")
    with progress.during("wait"):
        pass
    progress("after")
    with Progress().during("wait"):
        Progress()("nobody watches")
    time.sleep(0.05)
    assert (display.shown, display.cleared) == ([], 0)


def test_a_step_that_ends_before_the_first_line_is_due_shows_none() -> None:
    display = Kept(first=0.2)
    progress = Progress(display=display)
    with progress.during("snapshot"):
        progress("quick")
    time.sleep(0.3)
    assert (display.shown, display.cleared) == ([], 0)


def test_a_line_said_once_is_shown_when_it_is_due_though_the_driver_says_nothing_more() -> None:
    display = Kept(first=0.1)
    progress = Progress(display=display)
    with progress.during("apply"):
        progress("pulling images")
        until(lambda: display.shown)


def test_of_many_lines_the_newest_is_shown_and_no_more_than_can_be_read() -> None:
    display = Kept(every=0.2, again=0.2)
    progress = Progress(display=display)
    started = time.monotonic()
    with progress.during("wait"):
        for number in range(2000):
            progress(f"line {number}")
        until(lambda: display.shown[-1:] == ["wait: line 1999"])
    assert len(display.shown) <= 2 + (time.monotonic() - started) / 0.2


def test_what_grows_by_itself_is_no_news() -> None:
    display = Kept(again=60.0)
    progress = Progress(display=display)
    with progress.during("wait"):
        for text in ("web 1/3, 12 s", "web 1/3, 13 s", "web 1/3, 1 min 2 s"):
            progress(text)
            time.sleep(0.05)
        assert len(display.shown) == 1
        progress("web 2/3, 14 s")
        until(lambda: len(display.shown) == 2)


def test_any_thread_may_speak() -> None:
    display = Kept()
    progress = Progress(display=display)
    with progress.during("apply"):
        threads = [threading.Thread(target=progress, args=(f"object {n}",)) for n in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: display.shown)
    count = len(display.shown)
    time.sleep(0.05)
    assert len(display.shown) == count, "nothing comes after the end"


def test_a_reader_that_went_away_harms_nobody() -> None:
    display = Broken()
    progress = Progress(display=display)
    with progress.during("wait"):
        progress("one")
        until(lambda: display.shown)
        progress("two")
        until(lambda: len(display.shown) == 2)
    assert display.cleared == 1


def test_a_terminal_that_stands_still_does_not_hold_up_the_driver() -> None:
    go_on = threading.Event()

    class Stuck(Kept):
        def show(self, step: str, text: str) -> None:
            super().show(step, text)
            go_on.wait(10)

    display = Stuck()
    progress = Progress(display=display)
    with progress.during("wait"):
        progress("one")
        until(lambda: display.shown)
        started = time.monotonic()
        for number in range(100):
            progress(f"line {number}")
        assert time.monotonic() - started < 1
        go_on.set()


def test_what_could_move_a_cursor_is_taken_out() -> None:
    display = Kept()
    progress = Progress(display=display)
    with progress.during("wait\x1b[2J"):
        progress("red \x1b[31m\x07 \u202eleft\ud800")
        until(lambda: display.shown)
    assert display.shown == ["wait�[2J: red �[31m� �left�"]


def test_an_interruption_goes_through_and_leaves_nothing_behind() -> None:
    display = Kept()
    progress = Progress(display=display)

    def interrupted() -> None:
        with progress.during("apply"):
            progress("half of it")
            until(lambda: display.shown)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert display.cleared == 1


def test_plain_lines_stand_alone_in_a_log(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    lines = PlainLines(writing)
    lines.show("wait", "one")
    lines.show("wait", "two")
    lines.clear()
    lines.show("rollback", "three")
    said = os.read(reading, 4096).decode()
    assert said == "\ndeploy-guard: wait: one\ndeploy-guard: wait: two\n\ndeploy-guard: rollback: three\n"


def test_a_live_line_that_is_no_terminal_any_more_is_an_os_error(pipe: tuple[int, int]) -> None:
    with pytest.raises(OSError, match=r".+"):
        LiveLine(pipe[1]).show("wait", "x")


def test_where_standard_output_is_no_file_there_is_no_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    for replaced in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stdout", replaced)
        assert own_handle() == -1


@dataclass
class Config:
    """The parts of pytest's configuration that are asked for."""

    verbosity: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    live_logs: bool = False
    without: tuple[str, ...] = ()

    def get_verbosity(self) -> int:
        return self.verbosity

    def getoption(self, name: str, default: Any = None) -> Any:
        return self.options.get(name, "fd" if name == "capture" else default)

    def getini(self, name: str) -> bool:
        assert name == "log_cli"
        return self.live_logs

    @property
    def pluginmanager(self) -> SimpleNamespace:
        return SimpleNamespace(has_plugin=lambda name: name not in self.without)


@pytest.fixture
def terminal() -> Iterator[int]:
    ours, theirs = pty.openpty()
    yield theirs
    os.close(ours)
    os.close(theirs)


def kind_of(handle: int, *, logged: bool = False, environ: dict[str, str] | None = None, **config: Any) -> type:
    made: Any = Config(**config)
    return type(display_for(made, handle, {"TERM": "xterm", **(environ or {})}, logged=logged))


def test_on_a_terminal_a_line_is_rewritten(terminal: int) -> None:
    assert kind_of(terminal) is LiveLine
    assert kind_of(terminal, verbosity=2, options={"capture": "sys"}, without=("logging",)) is LiveLine


def test_where_others_write_to_the_terminal_too_or_nobody_watches_lines_are_plain(
    terminal: int, pipe: tuple[int, int]
) -> None:
    assert kind_of(pipe[1]) is PlainLines
    assert kind_of(terminal, environ={"TERM": "dumb"}) is PlainLines
    assert kind_of(terminal, environ={"CI": "true"}) is PlainLines
    assert kind_of(terminal, options={"capture": "no"}) is PlainLines
    assert kind_of(terminal, options={"capture": "tee-sys"}) is PlainLines
    assert kind_of(terminal, options={"log_cli_level": "INFO"}) is PlainLines
    assert kind_of(terminal, live_logs=True) is PlainLines
    assert kind_of(terminal, logged=True) is PlainLines


def test_two_quiets_a_lost_output_and_a_session_without_a_reporter_are_silent(terminal: int) -> None:
    assert kind_of(terminal, verbosity=-2) is type(None)
    assert kind_of(terminal, verbosity=-1) is LiveLine
    assert kind_of(-1) is type(None)
    assert kind_of(terminal, without=("terminalreporter",)) is type(None)
