"""What a driver says while a step goes on is shown to those who watch, and leaves everything else as it is."""

from __future__ import annotations

import json
import re

import pytest
from conftest import Project
from screen import Screen, run_on_a_terminal

DRIVER = '''
import os
import threading
import time

from deploy_guard import Change, Plan, Snapshot, Table, RolloutDoomed


class Config(Table, frozen=True):
    pass


class Talking:
    """Says what it does, from threads as well; applies nothing."""

    Config = Config
    target = "nowhere"

    def __init__(self, config, context):
        self.say = context.progress

    def plan(self, release):
        return Plan((Change("change", "one"),), "d")

    def snapshot(self, plan):
        self.say("a step that is over at once")
        return Snapshot("acme", 1, self.target, "v0.9.0", None)

    def apply(self, plan):
        threads = [threading.Thread(target=self.say, args=(f"thread {n}",)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def wait(self, plan, deadline):
        started = time.monotonic()
        while time.monotonic() - started < float(os.environ.get("TAKES", "0.8")):
            self.say("web 1/3 ready\\x1b[2J\\x07, token " + os.environ.get("API_TOKEN", "") + "\\nanother line")
            time.sleep(0.01)
        if os.environ.get("DOOM"):
            raise RolloutDoomed("web: CrashLoopBackOff")

    def rollback(self, snapshot, deadline):
        self.say("bringing it back")
        time.sleep(0.5)

    def verify(self, snapshot, deadline):
        pass
'''
SECRET = "canary-4711"


@pytest.fixture
def talking(project: Project) -> Project:
    """A project whose driver comes in a package, says a lot, and is configured."""
    project.write("gates/conftest.py", "")
    project.write("acme.py", DRIVER)
    project.write("acme-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    project.write("acme-1.dist-info/entry_points.txt", "[deploy_guard.drivers]\nacme = acme:Talking\n")
    project.write("deploy-guard.toml", 'name = "shop"\ndriver = "acme"\n')
    project.env["API_TOKEN"] = SECRET
    return project


def on_a_terminal(project: Project, *args: str, rows: int = 24, **more: str) -> tuple[int, Screen]:
    return run_on_a_terminal(project.command(*args), project.root, project.environ(**more), rows)


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d+ ?s|reports/\S+", "", text)


@pytest.mark.parametrize(("option", "rows"), [("--color=no", 200), ("-v", 8), ("-q", 24)])
def test_on_a_terminal_the_line_is_rewritten_and_nothing_of_it_stays(talking: Project, option: str, rows: int) -> None:
    code, screen = on_a_terminal(talking, *option.split(), "gates", rows=rows)
    assert (code, talking_verdict(talking)["outcome"]) == (0, "shipped"), screen.text
    said = [line for line in screen.seen if line.startswith("wait: ")]
    assert said == ["wait: web 1/3 ready�[2J�, token [API_TOKEN redacted]"], screen.seen
    assert "web 1/3" not in screen.text
    _, quiet = on_a_terminal(talking, *option.split(), "gates", TAKES="0")
    assert without_times(screen.text) == without_times(quiet.text), "pytest's own output is as it would be"


def test_a_step_that_is_over_soon_shows_nothing(talking: Project) -> None:
    _, screen = on_a_terminal(talking, "gates", TAKES="0")
    assert not [line for line in screen.seen if re.match("(snapshot|apply|wait): ", line)]


def test_a_failed_step_leaves_the_terminal_clean_for_its_failure(talking: Project) -> None:
    code, screen = on_a_terminal(talking, "-v", "gates", DOOM="1")
    assert code == 2
    assert "wait: web 1/3" not in screen.text
    assert "rollback: bringing it back" in screen.seen
    assert "bringing" not in screen.text
    assert "web: CrashLoopBackOff" in screen.text


def talking_verdict(project: Project) -> dict[str, str]:
    verdict: dict[str, str] = json.loads((project.root / "reports/stage/verdict.json").read_text())
    return verdict


def test_in_a_log_there_is_a_line_after_five_seconds_and_reports_have_none(talking: Project) -> None:
    result = talking.run("-v", "gates", TAKES="5.5")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    lines = [line for line in result.out.splitlines() if line.startswith("deploy-guard: wait: ")]
    assert lines == ["deploy-guard: wait: web 1/3 ready�[2J�, token [API_TOKEN redacted]"], result.out
    for file in result.folder.iterdir():
        assert "web 1/3" not in file.read_text(), f"{file.name} shows what is over"
        assert SECRET not in file.read_text()


def test_under_workers_it_is_the_same(talking: Project) -> None:
    code, screen = on_a_terminal(talking, "-n", "1", "gates")
    assert code == 0, screen.text
    assert [line for line in screen.seen if line.startswith("wait: ")]
    assert "web 1/3" not in screen.text
