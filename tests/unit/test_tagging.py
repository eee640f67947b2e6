"""The tag of a release against real repositories: a refused, hanging, overtaken or interrupted push leaves nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gitrepo import Sandbox

from deploy_guard.errors import TagFailed
from deploy_guard.probes import gitremote, tagging
from deploy_guard.probes.tagging import TagResult, tag_release

TAG = "v1.2.3"


@pytest.fixture
def bare(sandbox: Sandbox, tmp_path: Path) -> Sandbox:
    return sandbox.remote(tmp_path / "remote.git")


def tagged(sandbox: Sandbox, tag: str = TAG, **more: float) -> TagResult:
    return tag_release(sandbox.path, tag, sandbox.head, "shop v1.2.3\n\n# not a comment\n", **more)  # type: ignore[arg-type]


def refused(sandbox: Sandbox, tag: str = TAG, **more: float) -> str:
    with pytest.raises(TagFailed) as error:
        tagged(sandbox, tag, **more)
    return str(error.value)


def hanging_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch, then: str = "exec sleep 60") -> None:
    script = folder / "ssh-that-hangs"
    script.write_text(f"#!/bin/sh\n{then}\n")
    script.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(script))
    monkeypatch.setenv("GIT_SSH_VARIANT", "ssh")


def test_an_annotated_tag_with_the_notes_is_made_and_pushed_alone(sandbox: Sandbox, bare: Sandbox) -> None:
    sandbox.git("config", "push.followTags", "true")
    sandbox.tag("v0.9.0")
    result = tagged(sandbox)
    assert (result.made, result.pushed, result.said) == (True, True, "v1.2.3 made and pushed to origin")
    assert bare.tags == {TAG: sandbox.head}
    assert bare.git("cat-file", "-t", TAG) == "tag"
    assert "# not a comment" in bare.git("cat-file", "-p", TAG), "notes in Markdown keep their headings"


def test_a_second_run_finds_the_tag_and_does_nothing(sandbox: Sandbox, bare: Sandbox) -> None:
    tagged(sandbox)
    again = tagged(sandbox)
    assert (again.made, again.pushed, again.said) == (False, False, "v1.2.3 is on origin already")
    sandbox.git("tag", "-d", TAG)
    assert tagged(sandbox).said == "v1.2.3 is on origin already", "a fresh clone needs no tag of its own"
    assert sandbox.tags == {}


def test_a_tag_that_was_here_is_pushed_and_stays_though_the_push_is_refused(sandbox: Sandbox, bare: Sandbox) -> None:
    sandbox.tag(TAG)
    bare.hook("pre-receive", "echo only on Tuesdays >&2; exit 1")
    assert "only on Tuesdays" in refused(sandbox)
    assert list(sandbox.tags) == [TAG]
    bare.hook("pre-receive", "exit 0")
    result = tagged(sandbox)
    assert (result.made, result.pushed) == (False, True)
    assert list(bare.tags) == [TAG]


def test_a_push_that_is_refused_leaves_no_tag_and_says_why_in_gits_words(sandbox: Sandbox, bare: Sandbox) -> None:
    bare.hook("pre-receive", "echo only on Tuesdays >&2; exit 1")
    said = refused(sandbox)
    assert "remote: only on Tuesdays" in said
    assert "pre-receive hook declined" in said
    assert "was removed again" in said
    assert (sandbox.tags, bare.tags) == ({}, {})


@pytest.mark.parametrize("where", ["here", "origin"])
def test_a_tag_at_another_commit_is_never_moved(sandbox: Sandbox, bare: Sandbox, where: str) -> None:
    old = sandbox.head
    sandbox.tag(TAG)
    if where == "origin":
        sandbox.git("push", "--quiet", "origin", TAG)
        sandbox.git("tag", "-d", TAG)
    sandbox.commit("More")
    assert f"stands at commit {old[:12]}" in refused(sandbox)
    assert sandbox.tags == ({TAG: old} if where == "here" else {})


@pytest.mark.parametrize("where", ["here", "on origin"])
def test_a_lightweight_tag_is_no_release_tag(sandbox: Sandbox, bare: Sandbox, where: str) -> None:
    sandbox.git("tag", TAG)
    if where == "on origin":
        sandbox.git("push", "--quiet", "origin", TAG)
    assert f"{where} is a lightweight one" in refused(sandbox)


def test_a_race_for_the_same_tag_is_lost_without_a_trace(sandbox: Sandbox, bare: Sandbox, tmp_path: Path) -> None:
    """Somebody pushes the tag, at another commit, after we asked and before our push arrives."""
    other = bare.clone(tmp_path / "other")
    theirs = other.commit("Theirs")
    other.tag(TAG)
    sandbox.hook("pre-push", f"git -C {other.path} push --quiet origin {TAG}")
    said = refused(sandbox)
    assert f"stands at commit {theirs[:12]} on origin, pushed meanwhile" in said
    assert (sandbox.tags, bare.tags) == ({}, {TAG: theirs})


def test_a_race_with_another_run_of_the_same_release_is_fine(sandbox: Sandbox, bare: Sandbox, tmp_path: Path) -> None:
    other = bare.clone(tmp_path / "other")
    other.git("tag", "-a", "-m", "theirs", TAG)
    sandbox.hook("pre-push", f"git -C {other.path} push --quiet origin {TAG}")
    result = tagged(sandbox)
    assert (result.said, result.pushed) == ("v1.2.3 was pushed by somebody else", False)
    assert sandbox.tags == {}, "ours is another object than theirs, and would be in the way of the next fetch"


def test_a_remote_that_hangs_is_given_up_before_anything_is_made(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.git("remote", "add", "origin", "ssh://git@host.invalid/shop.git")
    hanging_ssh(tmp_path, monkeypatch)
    started = time.monotonic()
    assert "ran longer than 0.5 s" in refused(sandbox, deadline=0.5)
    assert time.monotonic() - started < 15
    assert sandbox.tags == {}


def push_only(bare: Sandbox, otherwise: str) -> str:
    """The other side of an ssh that behaves for questions, and in its own way for pushes."""
    return f'case "$*" in *receive-pack*) {otherwise};; *) exec git-upload-pack {bare.path};; esac'


def test_a_push_that_hangs_and_did_not_arrive_leaves_no_tag(
    sandbox: Sandbox, bare: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.git("remote", "set-url", "origin", "ssh://git@host.invalid/shop.git")
    hanging_ssh(tmp_path, monkeypatch, push_only(bare, "exec sleep 60"))
    said = refused(sandbox, deadline=3)
    assert "ran longer than 3 s" in said
    assert (sandbox.tags, bare.tags) == ({}, {})


def test_a_push_that_hangs_after_it_arrived_is_a_push(
    sandbox: Sandbox, bare: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.git("remote", "set-url", "origin", "ssh://git@host.invalid/shop.git")
    hanging_ssh(tmp_path, monkeypatch, push_only(bare, f"git-receive-pack {bare.path}; exec sleep 60"))
    result = tagged(sandbox, deadline=3)
    assert (result.pushed, result.said) == (True, "v1.2.3 arrived on origin, though the push did not end well")
    assert sandbox.tags == bare.tags == {TAG: sandbox.head}


def test_when_nobody_can_tell_whether_it_arrived_the_tag_is_removed_and_that_is_said(
    sandbox: Sandbox, bare: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.git("remote", "set-url", "origin", "ssh://git@host.invalid/shop.git")
    gone = f"touch {tmp_path}/gone; exec sleep 60"
    script = f"test -e {tmp_path}/gone && exit 1\n" + push_only(bare, gone)
    hanging_ssh(tmp_path, monkeypatch, script)
    said = refused(sandbox, deadline=3)
    assert "Whether it arrived is not known" in said
    assert "was removed again" in said
    assert sandbox.tags == {}


def test_an_interruption_during_the_push_removes_the_tag(
    sandbox: Sandbox, bare: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = gitremote.git

    def interrupted(folder: Path, *words: str, **options: object) -> object:
        if words[0] == "push":
            raise KeyboardInterrupt("SIGTERM")
        return real(folder, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tagging, "git", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tagged(sandbox)
    assert sandbox.tags == {}
    assert "was removed again" in capsys.readouterr().out


def test_without_any_remote_the_tag_stays_here(sandbox: Sandbox) -> None:
    result = tagged(sandbox)
    assert (result.made, result.pushed) == (True, False)
    assert "no remote is configured" in result.said
    assert sandbox.tags == {TAG: sandbox.head}
    assert tagged(sandbox).said == "v1.2.3 was here; there is no remote"


def test_a_remote_of_another_name_is_not_guessed(sandbox: Sandbox, bare: Sandbox) -> None:
    sandbox.git("remote", "rename", "origin", "upstream")
    said = refused(sandbox)
    assert "there is no git remote origin; there is upstream" in said
    assert sandbox.tags == {}


def test_a_missing_identity_is_told_in_gits_words(
    sandbox: Sandbox, bare: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)
    sandbox.git("config", "user.useConfigOnly", "true")
    assert "user.email" in refused(sandbox)
    assert (sandbox.tags, bare.tags) == ({}, {})


def test_a_tag_is_signed_where_git_is_configured_so(sandbox: Sandbox, bare: Sandbox, tmp_path: Path) -> None:
    gpg = tmp_path / "gpg"
    gpg.write_text('#!/bin/sh\necho "the key has expired" >&2; exit 1\n')
    gpg.chmod(0o755)
    sandbox.git("config", "tag.gpgSign", "true")
    sandbox.git("config", "gpg.program", str(gpg))
    assert "the key has expired" in refused(sandbox) or "failed to sign" in refused(sandbox)
    assert (sandbox.tags, bare.tags) == ({}, {})


def test_a_name_that_is_no_tag_name_is_refused(sandbox: Sandbox) -> None:
    for name in ("--force", "v1 2", "a..b", "", "v1~1", "x.lock", "/x"):
        assert "git accepts no tag" in refused(sandbox, name)


def test_credentials_in_a_remote_url_are_never_shown(sandbox: Sandbox) -> None:
    sandbox.git("remote", "add", "origin", "http://ann:canary-4711@127.0.0.1:1/shop.git?token=canary-4712")
    said = refused(sandbox)
    assert "127.0.0.1" in said
    assert "canary" not in said
    assert gitremote.shown_url(sandbox.path, "origin") == "http://127.0.0.1:1/shop.git"
    assert gitremote.without_credentials("x ssh://git:pw@h/x y") == "x ssh://h/x y"


def test_two_runs_at_once_end_with_one_tag(sandbox: Sandbox, bare: Sandbox, tmp_path: Path) -> None:
    other = bare.clone(tmp_path / "other")
    ended: list[object] = []

    def note(act: Callable[[], object]) -> None:
        try:
            ended.append(act())
        except TagFailed as error:
            ended.append(error)

    threads = [threading.Thread(target=note, args=[lambda each=each: tagged(each)]) for each in (sandbox, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(end, TagResult) for end in ended), ended
    assert bare.tags == {TAG: sandbox.head}


def test_a_remote_that_goes_away_during_a_push_that_fails_leaves_no_tag(sandbox: Sandbox, bare: Sandbox) -> None:
    sandbox.hook("pre-push", f"mv {bare.path} {bare.path}.away; exit 1")
    said = refused(sandbox)
    assert "could not be pushed to origin" in said
    assert "was removed again" in said
    assert sandbox.tags == {}


def test_a_signature_that_never_comes_leaves_no_tag(
    sandbox: Sandbox, bare: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "_LOCAL", 3.0)
    gpg = tmp_path / "gpg"
    gpg.write_text("#!/bin/sh\nexec sleep 60\n")
    gpg.chmod(0o755)
    sandbox.git("config", "tag.gpgSign", "true")
    sandbox.git("config", "gpg.program", str(gpg))
    said = refused(sandbox)
    assert "v1.2.3 could not be made" in said
    assert "ran longer than 3 s" in said
    assert (sandbox.tags, bare.tags) == ({}, {})


def test_an_interruption_right_after_the_tag_was_made_removes_it(
    sandbox: Sandbox, bare: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gitremote.git

    def interrupted(folder: Path, *words: str, **options: object) -> object:
        result = real(folder, *words, **options)  # type: ignore[arg-type]
        if words[0] == "tag":
            assert list(sandbox.tags) == [TAG]
            raise KeyboardInterrupt("SIGTERM")
        return result

    monkeypatch.setattr(tagging, "git", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tagged(sandbox)
    assert (sandbox.tags, bare.tags) == ({}, {})


def test_a_tag_that_could_not_be_removed_is_said_to_be_still_here(sandbox: Sandbox, bare: Sandbox) -> None:
    sandbox.hook("pre-push", "touch $(git rev-parse --git-dir)/refs/tags/v1.2.3.lock; exit 1")
    said = refused(sandbox)
    assert "The local tag v1.2.3 is still here" in said
    assert list(sandbox.tags) == [TAG]
    (sandbox.path / ".git/refs/tags/v1.2.3.lock").unlink()
    (sandbox.path / ".git/hooks/pre-push").unlink()
    assert tagged(sandbox).said == "v1.2.3 pushed to origin", "the next run makes up for it"


@pytest.mark.parametrize(
    ("command", "configured", "used"),
    [
        (None, None, "ssh -oBatchMode=yes"),
        ("/usr/bin/ssh -i key", None, "/usr/bin/ssh -i key -oBatchMode=yes"),
        (None, "ssh -p 2222", "ssh -p 2222 -oBatchMode=yes"),
        ("plink -batch", "ssh -p 2222", "plink -batch"),
        ("'", None, "'"),
    ],
)
def test_nobody_is_asked_for_a_password_and_the_users_own_ssh_is_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, command: str | None, configured: str | None, used: str
) -> None:
    if configured:
        sandbox.git("config", "core.sshCommand", configured)
    given = {"PATH": "/bin", "SSH_ASKPASS": "a-window", "GIT_ASKPASS": "of-the-ci"}
    quiet = gitremote._quiet(sandbox.path, given | ({"GIT_SSH_COMMAND": command} if command else {}))
    assert quiet["GIT_SSH_COMMAND"] == used
    assert (quiet["GIT_TERMINAL_PROMPT"], quiet["GIT_ASKPASS"]) == ("0", "of-the-ci")
    assert "SSH_ASKPASS" not in quiet
    assert "GIT_SSH_COMMAND" not in gitremote._quiet(sandbox.path, {**given, "GIT_SSH": "my-ssh"})
