"""``deploy-guard release`` and ``notes``: on real repositories, with a real remote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import Command
from gitrepo import Sandbox, new


@pytest.fixture
def bare(sandbox: Sandbox, tmp_path: Path) -> Sandbox:
    return sandbox.remote(tmp_path / "bare")


@pytest.fixture
def guarded(sandbox: Sandbox, bare: Sandbox) -> Command:
    """The command in a repository with one commit and a remote."""
    return Command(sandbox.path)


@pytest.mark.parametrize("name", ["release", "notes"])
def test_in_an_empty_folder_and_in_an_empty_repository_it_says_what_is_missing(command: Command, name: str) -> None:
    args = ("release", "--env", "stage", "--version", "v1.0.0") if name == "release" else ("notes",)
    outside = command(*args, GIT_CEILING_DIRECTORIES=str(command.cwd.parent))
    assert outside.code == (1 if name == "release" else 4), outside.out + outside.err
    assert "not inside a git repository" in outside.out + outside.err
    new(command.cwd)
    inside = command(*args)
    assert inside.code == (1 if name == "release" else 4), inside.out + inside.err
    assert "nothing has been committed" in inside.out + inside.err
    assert not (command.cwd / "RELEASE_NOTES.txt").exists()


def test_a_good_release_passes_and_a_dirty_tree_does_not(guarded: Command) -> None:
    done = guarded("release", "--env", "stage", "--version", "v1.0.0", "--reports", "../reports", "--json")
    assert (done.code, done.json["outcome"]) == (0, "checked"), done.err
    assert all(gate["id"].startswith("deploy_guard.gates/test_release.py") for gate in done.json["gates"])
    (guarded.cwd / "forgotten.py").write_text("")
    dirty = guarded("release", "--env", "stage", "--version", "v1.0.0", "--reports", "../reports")
    assert dirty.code in (1, 2)
    assert "forgotten.py" in dirty.out


def test_the_tag_is_made_and_pushed_when_all_is_well_and_only_then(guarded: Command, sandbox: Sandbox) -> None:
    args = ("release", "--env", "stage", "--version", "v1.0.0", "--tag", "--reports", "../reports")
    (guarded.cwd / "forgotten.py").write_text("")
    assert guarded(*args).code != 0
    assert sandbox.git("tag", "--list") == ""
    (guarded.cwd / "forgotten.py").unlink()
    done = guarded(*args)
    assert done.code == 0, done.out + done.err
    assert "refs/tags/v1.0.0" in sandbox.git("ls-remote", "origin")
    assert "Begin" in sandbox.git("for-each-ref", "--format=%(contents)", "refs/tags/v1.0.0")
    assert guarded(*args).code == 0, "a second time is fine"


def test_a_push_that_is_refused_is_recoverable_and_leaves_no_tag(
    guarded: Command, sandbox: Sandbox, bare: Sandbox
) -> None:
    bare.hook("update", "echo 'no tags today' >&2; exit 1")
    args = ("release", "--env", "stage", "--version", "v1.0.0", "--tag", "--reports", "../reports")
    done = guarded(*args)
    assert done.code == 1, done.out
    assert "no tags today" in done.out
    assert sandbox.git("tag", "--list") == ""


def test_a_tag_without_a_version_is_refused(guarded: Command) -> None:
    done = guarded("release", "--env", "stage", "--tag", "--reports", "../reports")
    assert done.code == 4
    assert "needs a version" in done.err


@pytest.mark.parametrize("form", ["txt", "md", "json"])
def test_notes_are_written_to_a_file_named_by_their_format(guarded: Command, form: str) -> None:
    done = guarded("notes", "-n", "10", "--format", form, "--version", "v1.0.0")
    assert done.code == 0, done.err
    text = (guarded.cwd / f"RELEASE_NOTES.{form}").read_text()
    assert "Begin" in text
    assert f"wrote RELEASE_NOTES.{form}" in done.out


def test_notes_go_where_they_are_told(guarded: Command, sandbox: Sandbox) -> None:
    sandbox.git("tag", "-a", "-m", "v1.0.0", "v1.0.0")
    for subject in ("feat: a cart", "fix: the till"):
        sandbox.commit(subject)
    shown = guarded("notes", "--since", "v1.0.0", "--format", "json", "--output", "-")
    assert [entry["subject"] for entry in shown.json["entries"]] == ["fix: the till", "feat: a cart"]
    assert guarded("notes", "-n", "1", "--format", "json", "--output", "-").json["total"] == 2
    assert guarded("notes", "--output", "notes/next.txt").code == 0
    assert "a cart" in (guarded.cwd / "notes/next.txt").read_text()
    bad = guarded("notes", "--since", "v9.9.9")
    assert (bad.code, "v9.9.9" in bad.err) == (4, True)
    assert guarded("notes", "--output", "/proc/nowhere/notes.txt").code == 4
    assert json.loads(shown.out)["previous"] == "v1.0.0"
    assert not Path(guarded.cwd / "RELEASE_NOTES.txt").exists()
