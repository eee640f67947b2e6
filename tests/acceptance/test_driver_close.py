"""A driver that holds something gives it back once, at the end of the run, however it ends."""

from __future__ import annotations

import signal
import time

import pytest
from conftest import FILE_DRIVER, Project

CLOSING = (
    FILE_DRIVER.replace(
        "    def plan(self",
        '    def close(self):\n        log("close")\n        if os.environ.get("CLOSE") == "fails":\n'
        '            raise OSError("the pipe is gone")\n\n    def plan(self',
        1,
    )
    + """

@pytest.fixture(scope="session", autouse=True)
def asks_to_the_end(deploy_driver):
    yield
    log("last fixture")
"""
)
CHECK = "from deploy_guard import post_check\n@post_check()\ndef test_c(): assert 0\n"


@pytest.fixture
def closing(project: Project) -> Project:
    """A project whose driver can be closed, and whose session asks for it to its end."""
    project.write("gates/conftest.py", CLOSING)
    return project


@pytest.mark.parametrize(
    ("options", "fault", "outcome"),
    [
        ((), "", "shipped"),
        (("--deploy-plan",), "", "planned"),
        ((), "plan", "withheld"),
        ((), "wait", "rolled-back"),
        ((), "check", "rolled-back"),
        ((), "rollback", "rollback-failed"),
    ],
)
def test_it_is_closed_once_after_everything_else(
    closing: Project, options: tuple[str, ...], fault: str, outcome: str
) -> None:
    if fault in ("check", "rollback"):
        closing.write("gates/test_c.py", CHECK)
    result = closing.run(*options, "gates", DRIVER_FAULT=fault)
    assert result.outcome == outcome, result.out
    assert closing.steps.count("close") == 1
    assert closing.steps[-2:] == ["last fixture", "close"]
    assert result.verdict["notices"] == []


def test_a_rollback_on_request_closes_it_too(closing: Project) -> None:
    closing.run("gates")
    assert closing.run("--deploy-back", "gates").outcome == "rolled-back"
    assert closing.steps.count("close") == 2


def test_an_error_there_is_a_notice_and_changes_nothing_else(closing: Project) -> None:
    result = closing.run("gates", CLOSE="fails")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    said = "the driver could not be closed: OSError: the pipe is gone"
    assert result.verdict["notices"] == [said]
    assert said in result.out
    assert said in (result.folder / "gate-report.html").read_text()


def test_an_interrupted_run_closes_it(closing: Project) -> None:
    process = closing.start("gates", DRIVER_FAULT="hang apply")
    end = time.monotonic() + 20
    while not (closing.root / "hanging").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert closing.ended(process).outcome == "rolled-back"
    assert closing.steps[-1] == "close"


def test_notices_that_fail_do_not_take_the_record_along(closing: Project) -> None:
    closing.write(
        "gates/conftest.py",
        CLOSING.replace(
            "    def plan(self", "    def notices(self):\n        raise KeyError('gone')\n\n    def plan(self", 1
        ),
    )
    result = closing.run("gates")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert "the driver's notices could not be had: KeyError: 'gone'" in result.out


PACKAGE = '''
import os
import pathlib

from deploy_guard import Change, Plan, Snapshot, Table


class Config(Table, frozen=True):
    pass


def log(line):
    with open("driver.log", "a") as file:
        file.write(f"{line}\\n")


class Dying:
    """Ends the process in its apply and, in the session that goes back for it, again."""

    Config = Config
    target = "nowhere"

    def __init__(self, config, context):
        self.say = context.progress

    def plan(self, release):
        return Plan((Change("change", "one"),), "d")

    def snapshot(self, plan):
        return Snapshot("acme", 1, self.target, None, None)

    def apply(self, plan):
        os._exit(0)

    def rollback(self, snapshot, deadline):
        self.say("nobody's terminal")
        log("rollback")
        if not pathlib.Path("died-again").exists():
            pathlib.Path("died-again").touch()
            os._exit(0)

    def verify(self, snapshot, deadline):
        log("verify")

    def wait(self, plan, deadline):
        pass

    def close(self):
        log("close")
        raise OSError("the pipe is gone")
'''


def test_the_process_that_goes_back_for_two_dead_sessions_closes_it_and_shows_no_line(project: Project) -> None:
    project.write("gates/conftest.py", "")
    project.write("acme.py", PACKAGE)
    project.write("acme-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    project.write("acme-1.dist-info/entry_points.txt", "[deploy_guard.drivers]\nacme = acme:Dying\n")
    project.write("deploy-guard.toml", 'name = "shop"\ndriver = "acme"\n')
    result = project.run("gates")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert project.steps == ["rollback", "rollback", "verify", "close"]
    assert "the driver could not be closed: OSError: the pipe is gone" in result.verdict["notices"]
    assert "nobody's terminal" not in result.out
