"""What a driver says when a rollout is doomed: readable in every report, and harmless whatever the logs hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from conftest import FILE_DRIVER, Project

SECRET = "canary-4711"
DOOM = """
        log_lines = [f"  {n:02} \\x1b[31mERROR\\x1b[0m </pre><script>alert(1)</script> \\x1b[2J\\x07" for n in range(23)]
        log_lines += ["  23 canary-4711 can\\x1b[0mary-4711 canary\\t4711", "  24 the end\\r\\n\\u202etxet"]
        first = "Deployment/web: pod web-7d9f, container app: CrashLoopBackOff (exit code 1)"
        events = [f"  Warning BackOff back-off {n} restarting failed container" for n in range(6)]
        print("$ kubectl --context prod -n shop \\x1b[2J logs canary-4711")
        raise RolloutDoomed(
            "\\n".join([first, "events:", *events, "last 25 lines of the log:", *log_lines]),
            hint="kubectl -n shop logs web-7d9f --previous",
        )
"""
NOTICES = """
    def notices(self):
        return ["ConfigMap/old is not in this release, and stays \\x1b[2J", "Job/migrate is not undone by a rollback"]

    def plan(self"""


@pytest.fixture
def doomed(project: Project) -> Project:
    """A project whose driver gives up in wait, and quotes a log that means no good."""
    driver = FILE_DRIVER.replace('        self._step("wait")\n', DOOM, 1)
    project.write("gates/conftest.py", driver.replace("\n    def plan(self", NOTICES, 1))
    project.env.update(API_KEY=SECRET, OTHER_TOKEN="canary\t4711")
    return project


def test_the_whole_text_is_in_junit_html_and_terminal_and_the_point_of_it_on_the_last_screen(doomed: Project) -> None:
    result = doomed.run("gates")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    point = "Deployment/web: pod web-7d9f, container app: CrashLoopBackOff (exit code 1)"
    step = result.step("wait")["message"].splitlines()
    assert step[:2] == [point, "events:"]
    assert (len(step), step[-1].strip()) == (36, "next: kubectl -n shop logs web-7d9f --previous")
    above, _, screen = result.out.partition("=== ROLLED BACK")
    assert "Warning BackOff back-off 5" in above
    assert "  22 ERROR </pre>" in above
    assert f"critical    rollout::wait: {point}\n            … 34 more lines\n            next: kubectl" in screen
    assert "note: Job/migrate is not undone by a rollback" in above
    page = (result.folder / "gate-report.html").read_text()
    assert page.count("22 ERROR &lt;/pre&gt;") == 2, "folded under the reason, open in the row"
    assert "Job/migrate is not undone" in page
    cases = {case.get("name"): case for case in ET.parse(result.folder / "junit.xml").iter("testcase")}
    failure = cases["wait"].find("failure")
    assert failure is not None
    assert "22 ERROR </pre>" in str(failure.text)
    verdict = cases["verdict"].find("failure")
    assert "Job/migrate is not undone" in str(getattr(verdict, "text", ""))
    assert "target: file target.json" in str(getattr(verdict, "text", ""))


def test_nothing_of_it_moves_a_cursor_becomes_markup_or_is_a_secret(doomed: Project) -> None:
    result = doomed.run("gates", "--html=own.html", "--self-contained-html", "--deploy-log-format=human")
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(result.out)
    files = [*result.folder.iterdir(), doomed.root / "own.html"]
    for path in files:
        text = path.read_text()
        assert SECRET not in text, f"{path.name} shows a secret"
        assert not {"\x1b", "\x07"} & set(text), path.name
    assert SECRET not in result.out
    assert "canary    4711" not in result.out
    assert "<script>alert" not in (result.folder / "gate-report.html").read_text()
    events = [line for line in result.out.splitlines() if "error=" in line]
    assert len(events) == 1
    assert "…" in events[0], "the log has the point of it too"
    assert "BackOff back-off" not in events[0]


def test_where_pytest_shows_no_failures_the_last_screen_has_all_of_it(doomed: Project) -> None:
    for option in ("--no-summary", "--tb=no"):
        _, _, screen = doomed.run("gates", option).out.partition("=== ROLLED BACK")
        assert "  22 ERROR </pre>" in screen


def test_what_nobody_foresaw_is_harmless_too(project: Project) -> None:
    unforeseen = '        raise OSError("gone \\x1b[2J\\x07 canary-4711")\n'
    project.write("gates/conftest.py", FILE_DRIVER.replace('        self._step("wait")\n', unforeseen, 1))
    result = project.run("gates", API_KEY=SECRET)
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert "OSError: gone �[2J� [API_KEY redacted]" in result.out
    assert not {"\x1b", "\x07"} & set(result.out)
