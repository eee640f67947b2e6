"""Release notes from real repositories, in every shape that histories have."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from gitrepo import Sandbox, new

from deploy_guard.config import Releases
from deploy_guard.errors import ConfigurationError, DeployGuardError
from deploy_guard.probes.versions import Versions
from deploy_guard.report.notes import Notes, notes_for
from deploy_guard.report.notes_text import as_json, as_markdown, as_text, render, write


def notes(sandbox: Sandbox, version: str | None = "v1.1.0", **more: object) -> Notes:
    return notes_for(sandbox.path, name="shop", version=version, environ={}, **more)  # type: ignore[arg-type]


def subjects(found: Notes) -> list[str]:
    return [entry.subject for entry in found.entries]


def test_notes_say_version_branch_commit_date_and_what_is_new_by_kind(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    for subject in ("fix: a leak", "feat(cart): coupons", "docs: the cart", "Tidy up", "perf!: no more IE"):
        sandbox.commit(subject)
    sandbox.commit("refactor: names", body="BREAKING CHANGE: the old ones are gone")
    short = {entry.subject: entry.short for entry in notes(sandbox).entries}
    assert as_text(notes(sandbox)) == (
        f"""shop v1.1.0
branch  main
commit  {sandbox.head}
date    2026-01-02
range   6 commits since v1.0.0

Breaking changes
  {short["refactor: names"]}  refactor: names (Ann)
  {short["perf!: no more IE"]}  perf!: no more IE (Ann)

Features
  {short["feat(cart): coupons"]}  cart: coupons (Ann)

Fixes
  {short["fix: a leak"]}  a leak (Ann)

Documentation
  {short["docs: the cart"]}  the cart (Ann)

Other changes
  {short["Tidy up"]}  Tidy up (Ann)
"""
    )


def test_a_history_without_conventions_is_one_list(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    sandbox.commit("Note: this is prose")
    sandbox.commit("Second")
    text = as_text(notes(sandbox))
    assert "Other changes" not in text
    assert [line.split("  ")[-1] for line in text.splitlines()[-2:]] == ["Second (Ann)", "Note: this is prose (Ann)"]


def test_the_newest_n_are_shown_and_the_others_counted(sandbox: Sandbox) -> None:
    for number in range(5):
        sandbox.commit(f"Change {number}")
    found = notes(sandbox, n=2)
    assert (subjects(found), found.total) == (["Change 4", "Change 3"], 6)
    assert as_text(found).endswith("\nand 4 earlier commits\n")
    assert as_text(notes(sandbox, n=0)).endswith("\nand 6 earlier commits\n")


def test_an_empty_range_says_since_when(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    assert "no commits since v1.0.0" in as_text(notes(sandbox))
    assert "no commits since v1.0.0" in as_markdown(notes(sandbox))


def test_a_first_release_has_all_commits(sandbox: Sandbox) -> None:
    sandbox.commit("Second")
    found = notes(sandbox)
    assert subjects(found) == ["Second", "Begin"]
    assert "2 commits in this first release" in as_text(found)


def test_merges_are_left_out_and_a_range_of_merges_alone_says_so(sandbox: Sandbox) -> None:
    sandbox.git("checkout", "--quiet", "-b", "side")
    sandbox.commit("On the side", "side.txt")
    sandbox.git("checkout", "--quiet", "main")
    sandbox.tag("v0.8.0")
    sandbox.git("merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    assert subjects(notes(sandbox)) == ["On the side"]
    sandbox.git("tag", "-a", "-m", "x", "v0.9.0", "side")
    found = notes(sandbox)
    assert (found.entries, found.total) == ((), 0)
    assert "only one merge since v0.9.0" in as_text(found)


def test_subjects_that_are_not_utf_8_do_not_break_the_notes(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    sandbox.raw_commit(b"gr\xfcn ohne Angabe\n")
    sandbox.raw_commit(b"gr\xfcn mit Angabe\n", b"encoding ISO-8859-1\n")
    sandbox.raw_commit(b"\n\n")
    found = notes(sandbox)
    assert subjects(found) == ["(no subject)", "grün mit Angabe", "gr�n ohne Angabe"]
    for fmt in ("txt", "md", "json"):
        assert "gr�n ohne Angabe" in render(found, fmt)
    assert write(found, sandbox.path).read_text().count("grün") == 1


def test_what_a_commit_says_becomes_neither_markup_nor_a_command_to_the_terminal(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    sandbox.raw_commit(b"<img src=x onerror=alert(1)> [x](javascript:1) `a` @team \x1b[2J\x1b]0;x\x07 **b**\n")
    text, page = as_text(notes(sandbox)), as_markdown(notes(sandbox))
    assert not [c for c in text if ord(c) < 32 and c != "\n"]
    assert "&lt;img src=x onerror=alert(1)&gt; \\[x\\](javascript:1) \\`a\\` @\u200bteam" in page
    assert r"\*\*b\*\*" in page
    assert json.loads(as_json(notes(sandbox)))["entries"][0]["subject"].startswith("<img src=x")


def test_the_users_settings_for_git_log_do_not_get_into_the_notes(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    sandbox.commit("Second")
    gpg = sandbox.path.parent / "gpg"
    gpg.write_text('#!/bin/sh\necho "gpg: this would be in the log" >&2; exit 1\n')
    gpg.chmod(0o755)
    sandbox.raw_commit(b"Third\n", b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n")
    sandbox.git("config", "gpg.program", str(gpg))
    for key, value in (
        ("log.showSignature", "true"),
        ("color.ui", "always"),
        ("log.decorate", "full"),
        ("format.pretty", "oneline"),
    ):
        sandbox.git("config", key, value)
    found = notes(sandbox)
    assert (subjects(found), found.entries[0].hash, found.date[:10]) == (
        ["Third", "Second"],
        sandbox.head,
        "2026-01-02",
    )


def test_only_commits_that_touch_the_paths_count_and_tags_are_those_of_the_service(sandbox: Sandbox) -> None:
    sandbox.commit("Shop one", "services/shop/a")
    sandbox.tag("shop/v1.0.0")
    sandbox.commit("Shop two", "services/shop/a")
    sandbox.commit("Web", "services/web/a")
    sandbox.tag("web/v7.0.0")
    rules = Releases(versions=Versions("shop/{version}"), paths=("services/shop",))
    found = notes(sandbox, releases=rules)
    assert subjects(found) == ["Shop two"]
    assert "1 commit that touch services/shop since v1.0.0" in as_text(found)
    inside = notes_for(
        sandbox.path / "services/shop", Releases(versions=rules.versions, paths=(".",)), version="v1.1.0"
    )
    assert subjects(inside) == ["Shop two"]


def test_a_range_of_ones_own_begins_where_it_is_told_to(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    old = sandbox.commit("Second")
    sandbox.commit("Third")
    found = notes(sandbox, since=old)
    assert (subjects(found), found.previous) == (["Third"], old)
    with pytest.raises(ConfigurationError, match="there is no tag, commit or branch 'v9'"):
        notes(sandbox, since="v9")
    with pytest.raises(ConfigurationError):
        notes(sandbox, since="--output=x")


def test_without_a_version_it_is_that_of_the_tag_here_or_unreleased(sandbox: Sandbox) -> None:
    sandbox.tag("v1.0.0")
    sandbox.commit("Second")
    assert as_text(notes(sandbox, None)).startswith("shop unreleased\n")
    sandbox.tag("v1.1.0")
    found = notes(sandbox, None)
    assert (found.version, found.previous, subjects(found)) == ("v1.1.0", "v1.0.0", ["Second"])


def test_a_shallow_clone_says_what_it_may_lack(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.commit("Second")
    found = notes(sandbox.clone(tmp_path / "shallow", "--depth=1"))
    assert subjects(found) == ["Second"]
    for text in (as_text(found), as_markdown(found)):
        assert "This clone is shallow" in text
        assert "git fetch --unshallow --tags" in text
    with pytest.raises(ConfigurationError, match="this clone is shallow"):
        notes(Sandbox(tmp_path / "shallow"), since="v0.1.0")


def test_a_detached_head_has_the_branch_that_ci_says(sandbox: Sandbox) -> None:
    sandbox.git("checkout", "--quiet", "--detach")
    assert notes_for(sandbox.path, environ={"BRANCH_NAME": "release"}).branch == "release"
    assert "branch" not in as_text(notes_for(sandbox.path, environ={}))


def test_the_file_is_replaced_whole(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    found = notes(sandbox)
    folder = sandbox.path / "out"
    assert [write(found, folder, fmt).name for fmt in ("txt", "md", "json")] == [
        "RELEASE_NOTES.txt", "RELEASE_NOTES.md", "RELEASE_NOTES.json",
    ]  # fmt: skip
    data = json.loads((folder / "RELEASE_NOTES.json").read_text())
    assert (data["schema"], data["version"], data["entries"][0]["author"]) == (1, "v1.1.0", "Ann")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    before = (folder / "RELEASE_NOTES.txt").read_text()
    with pytest.raises(OSError, match="no space left"):
        write(notes(sandbox, "v9.0.0"), folder)
    assert (folder / "RELEASE_NOTES.txt").read_text() == before
    assert len(list(folder.iterdir())) == 3
    with pytest.raises(ConfigurationError, match="use txt, md, json"):
        render(found, "pdf")


def test_where_there_is_nothing_to_tell_the_error_says_why(tmp_path: Path, hermetic_git: None) -> None:
    with pytest.raises(DeployGuardError, match="not inside a git repository"):
        notes_for(tmp_path)
    with pytest.raises(DeployGuardError, match="nothing has been committed yet"):
        notes_for(new(tmp_path / "empty").path)
