"""``--deploy-tag`` and the release guard as their users meet them: pytest, the local driver, a real bare remote."""

from __future__ import annotations

import shutil
import signal
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from conftest import Project, Result
from gitrepo import Sandbox, new

GATES = Path(__file__).resolve().parents[2] / "gates"
LOCAL = """
name = "shop"
[env.stage]
driver = "local"
[env.stage.local]
root = ".deploy/stage"
artifact = "app"
"""
CHECK = """
import os
from deploy_guard import post_check

@post_check()
def test_serves(): assert os.environ.get("CHECK") != "fails", "5xx rose"
"""


@pytest.fixture
def shop(tmp_path: Path, hermetic_git: None) -> Project:
    """A committed service with the standard release gates; ``origin`` is a bare repository."""
    sandbox = new(tmp_path / "work")
    made = Project(sandbox.path)
    made.write("deploy-guard.toml", LOCAL)
    made.write("app/app.txt", "one")
    made.write("gates/test_checks.py", CHECK)
    shutil.copy(GATES / "test_release.py", made.root / "gates")
    sandbox.git("add", "-A")
    sandbox.git("commit", "-qm", "feat: begin <b>")
    sandbox.remote(tmp_path / "remote.git")
    return made


@pytest.fixture
def work(shop: Project) -> Sandbox:
    return Sandbox(shop.root)


@pytest.fixture
def bare(shop: Project, tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "remote.git")


def rows(result: Result) -> list[str]:
    return [str(case.get("name")) for case in ET.parse(result.folder / "junit.xml").iter("testcase")]


def test_a_release_that_is_verified_is_tagged_with_its_notes_and_the_tag_is_pushed(
    shop: Project, work: Sandbox, bare: Sandbox
) -> None:
    result = shop.run("--deploy-tag")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert bare.tags == {"v1.0.0": work.head}
    message = bare.git("cat-file", "-p", "v1.0.0")
    assert "shop v1.0.0" in message
    assert "feat: begin" not in message
    assert "begin <b> (Ann)" in message
    assert result.step("tag")["message"] == "v1.0.0 made and pushed to origin"
    assert rows(result)[-3:] == ["test_serves", "tag", "verdict"]
    assert result.verdict["notes"].startswith("shop v1.0.0\nbranch  main\n")
    assert [(e["event"], e["state"]) for e in result.events if e["event"] == "tag"] == [
        ("tag", "intent"),
        ("tag", "passed"),
    ]
    newest = next(e for e in result.gate("and_newer")["evidence"] if e["name"] == "newest release")
    assert newest["value"] == "none yet"


def test_a_push_that_is_refused_is_exit_1_leaves_no_tag_and_the_release_stays(
    shop: Project, work: Sandbox, bare: Sandbox
) -> None:
    bare.hook("pre-receive", "echo only on Tuesdays >&2; exit 1")
    result = shop.run("--deploy-tag")
    assert (result.code, result.outcome, result.codes) == (1, "shipped", ["tag-failed"]), result.out
    assert "remote: only on Tuesdays" in result.verdict["reasons"][0]["text"]
    assert "the release serves and stays" in result.verdict["next"]
    assert (work.tags, bare.tags) == ({}, {})
    assert (shop.root / ".deploy/stage/current/app.txt").read_text() == "one"

    bare.hook("pre-receive", "exit 0")
    again = shop.run("--deploy-tag")
    assert (again.code, again.outcome) == (0, "unchanged"), again.out
    assert bare.tags == {"v1.0.0": work.head}
    third = shop.run("--deploy-tag")
    assert (third.code, third.outcome) == (0, "unchanged"), third.out
    assert third.step("tag")["message"] == "v1.0.0 is on origin already"


@pytest.mark.parametrize("what", ["gate", "check"])
def test_what_does_not_ship_gets_no_tag_and_the_row_says_why(
    shop: Project, work: Sandbox, bare: Sandbox, what: str
) -> None:
    if what == "gate":
        (shop.root / "new.py").touch()
    result = shop.run("--deploy-tag", CHECK="fails")
    assert result.outcome == ("withheld" if what == "gate" else "rolled-back"), result.out
    assert result.step("tag")["outcome"] == "skipped"
    assert result.step("tag")["message"].startswith("withheld:" if what == "gate" else "rolled back")
    assert (work.tags, bare.tags) == ({}, {})


def test_an_unclean_tree_an_old_version_and_a_taken_tag_are_recoverable_and_told_together(
    shop: Project, work: Sandbox, bare: Sandbox
) -> None:
    work.tag("v1.0.0")
    old = work.head
    work.commit("Next", "app/app.txt")
    work.tag("v2.0.0")
    work.git("push", "--quiet", "origin", "v2.0.0")
    (shop.root / "new.py").touch()
    result = shop.run(GIT_COMMIT=old)
    assert (result.code, result.outcome) == (1, "withheld"), result.out
    for words in ("untracked: new.py", f"GIT_COMMIT says {old}", "not newer than the newest release, v2.0.0",
                  f"v1.0.0 stands at commit {old} here"):  # fmt: skip
        assert words in result.out, words


@pytest.mark.parametrize(
    ("options", "version", "words"),
    [
        (["--no-deploy"], "v1.0.0", "--deploy-tag tags what was rolled out"),
        (["--deploy-plan"], "v1.0.0", "--deploy-tag tags what was rolled out"),
        ([], " ", "--deploy-tag needs a version"),
    ],
)
def test_a_tag_that_can_never_be_made_is_a_usage_error(
    shop: Project, options: list[str], version: str, words: str
) -> None:
    result = shop.run("--deploy-tag", *options, VERSION=version)
    assert result.code == 4, result.out
    assert words in result.out
    assert not (shop.root / ".deploy").exists()


def test_outside_a_repository_there_is_nothing_to_tag_and_no_note_to_make(project: Project, hermetic_git: None) -> None:
    result = project.run("gates", "--deploy-tag")
    assert result.code == 4
    assert "--deploy-tag needs a git repository" in result.out
    without = project.run("gates")
    assert (without.code, without.verdict["notes"], without.verdict["notices"]) == (0, None, [])
    new(project.root)
    unborn = project.run("gates", "--deploy-tag")
    assert unborn.code == 4
    assert "nothing has been committed yet" in unborn.out
    said = project.run("gates")
    assert (said.code, said.verdict["notes"]) == (0, None), said.out
    assert "the release notes could not be made" in said.out


def test_a_malformed_version_is_refused_at_once_where_no_gate_guards(shop: Project) -> None:
    shop.write("deploy-guard.toml", LOCAL.replace("[env.stage]\n", "[env.stage]\nrelease-guard = false\n", 1))
    result = shop.run("--deploy-tag", VERSION="latest")
    assert result.code == 4, result.out
    assert "must be vX.Y.Z" in result.out


def test_sigterm_during_the_push_ends_the_run_keeps_the_release_and_cleans_up(
    shop: Project, work: Sandbox, bare: Sandbox
) -> None:
    pushing = shop.root.parent / "pushing"
    work.hook("pre-push", f"touch {pushing}; exec sleep 60")
    process = shop.start("--deploy-tag")
    until = time.monotonic() + 40
    while not pushing.exists():
        assert time.monotonic() < until, "the push never began"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    result = shop.ended(process)
    assert (result.code, result.outcome) == (2, "shipped"), result.out
    assert set(result.codes) == {"interrupted", "tag-failed"}
    assert (work.tags, bare.tags) == ({}, {})
    assert (shop.root / ".deploy/stage/current/app.txt").read_text() == "one"
    assert list((shop.root / ".deploy-guard").glob("*.unfinished.json")) == []


def test_a_plugin_that_breaks_the_row_of_the_tag_does_not_undo_the_release(
    shop: Project, work: Sandbox, bare: Sandbox
) -> None:
    shop.write(
        "conftest.py",
        "def pytest_runtest_logreport(report):\n"
        " if report.nodeid == 'rollout::tag' and report.when == 'setup': raise ValueError('mine')\n",
    )
    work.git("add", "-A")
    work.git("commit", "-qm", "A plugin")
    result = shop.run("--deploy-tag")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert bare.tags == {"v1.0.0": work.head}
    assert "a plugin failed: ValueError: mine" in result.out


def test_the_tag_of_a_monorepos_service_has_its_name_in_it(shop: Project, work: Sandbox, bare: Sandbox) -> None:
    shop.write("deploy-guard.toml", 'tag = "shop/{version}"\npaths = ["app", "gates"]\n' + LOCAL)
    (shop.root / "elsewhere.txt").touch()
    result = shop.run("--deploy-tag")
    assert (result.code, result.outcome) == (0, "shipped"), result.out
    assert bare.tags == {"shop/v1.0.0": work.head}


def test_a_session_that_dies_while_it_tags_has_shipped_and_the_next_run_tags(
    shop: Project, work: Sandbox, bare: Sandbox
) -> None:
    shop.write(
        "conftest.py",
        "import os\ndef pytest_runtest_logstart(nodeid):\n"
        " if nodeid == 'rollout::tag' and 'DIE' in os.environ: os._exit(0)\n",
    )
    work.git("add", "-A")
    work.git("commit", "-qm", "A plugin")
    result = shop.run("--deploy-tag", DIE="yes")
    assert (result.code, result.outcome) == (2, "shipped"), result.out
    assert "rolled" not in result.verdict["headline"].lower()
    assert (shop.root / ".deploy/stage/current/app.txt").read_text() == "one"
    again = shop.run("--deploy-tag")
    assert (again.code, again.outcome, bare.tags) == (0, "unchanged", {"v1.0.0": work.head}), again.out
