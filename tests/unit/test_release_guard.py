"""The release guard against real repositories, each in a state that must not be released."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gitrepo import Sandbox, new

from deploy_guard.config import EnvironmentConfig, load
from deploy_guard.errors import DeployGuardError
from deploy_guard.probes.guard import Findings, ReleaseGuard
from deploy_guard.probes.repo import Repo, branch_of, commits_told


def settings(folder: Path, text: str = "", env: str = "stage") -> EnvironmentConfig:
    """The configuration that stands in the folder's git directory, so that the tree stays clean."""
    path = folder / ".git/deploy-guard.toml"
    if not path.parent.is_dir():
        path = folder.with_suffix(".toml")
    path.write_text(text)
    return load(path, directory=folder).for_env(env)


def guard(
    folder: Path, text: str = "", version: str | None = "v1.0.0", env: str = "stage", **told: str
) -> ReleaseGuard:
    config = settings(folder, text, env)
    repo = Repo.of(config)
    return ReleaseGuard(config, repo, repo.release(version, told), told, folder / "reports" / env)


def test_a_clean_tree_passes_and_says_what_was_looked_at(sandbox: Sandbox) -> None:
    found = guard(sandbox.path).tree()
    assert (found.problems, found.facts) == ([], {"looked at": "the whole repository", "differences": "0"})


def test_everything_that_differs_from_the_commit_is_named(sandbox: Sandbox) -> None:
    for name in ("modified", "deleted", "moved"):
        sandbox.commit(name, name)
    (sandbox.path / "modified").write_text("x")
    (sandbox.path / "deleted").unlink()
    (sandbox.path / "staged").touch()
    sandbox.git("add", "staged")
    (sandbox.path / "ne\nw").touch()
    (sandbox.path / ".git/info/exclude").write_text("*.log\n")
    (sandbox.path / "ignored.log").touch()
    sandbox.git("config", "status.showUntrackedFiles", "no")
    assert sorted(Repo(sandbox.path).dirty()) == [
        "deleted: deleted", "modified: modified", "staged: staged", "untracked: ne�w",
    ]  # fmt: skip


def test_ten_offenders_are_named_and_the_others_counted(sandbox: Sandbox) -> None:
    for number in range(13):
        (sandbox.path / f"new-{number:02}").touch()
    text = guard(sandbox.path).tree().text
    assert "untracked: new-09" in text
    assert "untracked: new-10" not in text
    assert text.endswith("and 3 more")


def test_what_runs_write_themselves_does_not_count(sandbox: Sandbox) -> None:
    written = (
        "reports/stage/verdict.json",
        "reports/dev/verdict.json",
        ".deploy-guard/x",
        ".deploy/stage/log",
        "gates/__pycache__/x.pyc",
    )
    for name in written:
        (sandbox.path / name).parent.mkdir(parents=True, exist_ok=True)
        (sandbox.path / name).touch()
    text = '[env.stage]\ndriver = "local"\n[env.stage.local]\nroot = ".deploy/stage"\n'
    assert guard(sandbox.path, text).tree().problems == []
    (sandbox.path / "reports/mine").touch()
    assert "untracked: reports/" in guard(sandbox.path, text).tree().text


def test_only_the_services_own_paths_are_looked_at(sandbox: Sandbox) -> None:
    sandbox.commit("Shop", "services/shop/app.py")
    (sandbox.path / "elsewhere").touch()
    text = 'paths = ["services/shop"]\n'
    found = guard(sandbox.path, text).tree()
    assert (found.problems, found.facts["looked at"]) == ([], "services/shop")
    (sandbox.path / "services/shop/new").touch()
    assert "untracked: services/shop/new" in guard(sandbox.path, text).tree().text
    assert "paths names services/shpo" in guard(sandbox.path, 'paths = ["services/shpo"]\n').tree().text
    # Paths start at the configuration's folder.
    assert Repo(sandbox.path / "services").dirty(["shop"]) == ["untracked: services/shop/new"]
    assert Repo(sandbox.path / "services").dirty(["../file.txt"]) == []


def test_submodules_count(sandbox: Sandbox, tmp_path: Path) -> None:
    library = new(tmp_path / "library")
    library.commit("Library")
    sandbox.git("submodule", "--quiet", "add", str(library.path), "lib")
    sandbox.git("commit", "--quiet", "-m", "Add the library")
    inner = Sandbox(sandbox.path / "lib")
    assert Repo(sandbox.path).dirty() == []
    sandbox.git("config", "submodule.lib.ignore", "all")
    (inner.path / "new").touch()
    assert Repo(sandbox.path).dirty() == ["submodule with changes: lib"]
    inner.commit("Away")
    assert Repo(sandbox.path).dirty() == ["submodule at another commit: lib"]


def test_what_git_was_told_not_to_look_at_is_named(sandbox: Sandbox) -> None:
    for name in ("assumed", "skipped", "sparse"):
        sandbox.commit(name, f"{name}/file")
    sandbox.git("update-index", "--assume-unchanged", "assumed/file")
    sandbox.git("update-index", "--skip-worktree", "skipped/file", "sparse/file")
    (sandbox.path / "assumed/file").write_text("x")
    (sandbox.path / "skipped/file").write_text("x")
    (sandbox.path / "sparse/file").unlink()
    assert Repo(sandbox.path).dirty() == [
        "assumed to be unchanged, not looked at: assumed/file", "skipped, not looked at: skipped/file",
    ]  # fmt: skip
    assert Repo(sandbox.path / "skipped").dirty(["."]) == ["skipped, not looked at: skipped/file"]
    assert Repo(sandbox.path).dirty(["sparse"]) == []


def conflict(sandbox: Sandbox) -> None:
    sandbox.git("checkout", "--quiet", "-b", "other")
    sandbox.commit("Theirs")
    sandbox.git("checkout", "--quiet", "main")
    sandbox.commit("Ours")


@pytest.mark.parametrize(
    ("words", "operation"),
    [(("merge", "other"), "merge"), (("rebase", "other"), "rebase"), (("cherry-pick", "other"), "cherry-pick")],
)
def test_an_operation_in_progress_is_named_and_so_is_the_conflict(
    sandbox: Sandbox, words: tuple[str, ...], operation: str
) -> None:
    conflict(sandbox)
    sandbox.git(*words, check=False)
    text = guard(sandbox.path).tree().text
    assert f"a {operation} is in progress" in text
    assert "conflicted: file.txt" in text


def test_a_bisection_and_a_revert_are_operations_too(sandbox: Sandbox) -> None:
    sandbox.commit("One")
    sandbox.git("revert", "--no-commit", "HEAD")
    assert Repo(sandbox.path).operation == "revert"
    sandbox.git("revert", "--abort")
    assert Repo(sandbox.path).operation is None
    sandbox.git("bisect", "start")
    assert Repo(sandbox.path).operation == "bisect"


def test_a_worktree_is_a_repository_with_an_operation_of_its_own(sandbox: Sandbox, tmp_path: Path) -> None:
    conflict(sandbox)
    sandbox.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"), "main")
    tree = Sandbox(tmp_path / "tree")
    tree.git("merge", "other", check=False)
    assert (Repo(tree.path).operation, Repo(sandbox.path).operation) == ("merge", None)
    assert Repo(tree.path).commit == sandbox.head
    assert Repo(sandbox.path).dirty() == []
    assert not Repo(tree.path).is_shallow


def test_head_must_be_the_commit_that_is_told(sandbox: Sandbox) -> None:
    old, new_one = sandbox.head, sandbox.commit("More")
    for told in ({"GITHUB_SHA": new_one}, {"GIT_COMMIT": new_one}, {"CI_COMMIT_SHA": new_one}, {"COMMIT": new_one[:7]}):
        found = guard(sandbox.path, **told).commit()
        assert (found.problems, found.facts["told by"]) == ([], next(iter(told)))
    for wrong in (old, old[:10], new_one[:6], "main", "\x1b[2J"):
        text = guard(sandbox.path, CI_COMMIT_SHA=wrong).commit().text
        assert text.startswith("CI_COMMIT_SHA says ")
        assert new_one in text
        assert "\x1b" not in text
    assert guard(sandbox.path, COMMIT=new_one, GITHUB_SHA=old).commit().problems == [], "COMMIT is the last word"
    assert commits_told({"COMMIT": " ", "GIT_COMMIT": "a"}) == {"GIT_COMMIT": "a"}


def test_a_head_that_moves_during_the_run_is_noticed(sandbox: Sandbox) -> None:
    made = guard(sandbox.path)
    sandbox.commit("Meanwhile")
    assert "somebody moved it" in made.commit().text


def test_before_the_first_commit_there_is_nothing_to_release(tmp_path: Path, hermetic_git: None) -> None:
    made = guard(new(tmp_path / "work").path)
    assert "there is no commit yet" in made.commit().text


@pytest.mark.parametrize(
    ("told", "branch"),
    [
        ({"BRANCH_NAME": "main"}, "main"),
        ({"BRANCH_NAME": "PR-7", "CHANGE_BRANCH": "feature/x"}, "feature/x"),
        ({"GIT_BRANCH": "origin/release/1.2"}, "release/1.2"),
        ({"GIT_BRANCH": "detached"}, None),
        ({"BRANCH_NAME": "v1.0.0", "GIT_BRANCH": "v1.0.0", "TAG_NAME": "v1.0.0"}, None),
        ({"GITHUB_REF_NAME": "7/merge", "GITHUB_HEAD_REF": "fix"}, "fix"),
        ({"GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "branch", "GITHUB_HEAD_REF": ""}, "main"),
        ({"GITHUB_REF_NAME": "v1.0.0", "GITHUB_REF_TYPE": "tag"}, None),
        ({"CI_COMMIT_REF_NAME": "v1.0.0", "CI_COMMIT_TAG": "v1.0.0"}, None),
        ({"CI_COMMIT_BRANCH": "main", "CI_COMMIT_REF_NAME": "main"}, "main"),
        ({"CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix", "CI_COMMIT_REF_NAME": "fix"}, "fix"),
        ({}, None),
    ],
)
def test_the_branch_of_a_detached_head_comes_from_the_ci_service(told: dict[str, str], branch: str | None) -> None:
    assert branch_of(told) == branch


def test_a_detached_head_is_released_with_the_branch_that_ci_says(sandbox: Sandbox) -> None:
    sandbox.git("checkout", "--quiet", "--detach")
    found = guard(sandbox.path, GIT_BRANCH="origin/main", GIT_COMMIT=sandbox.head).commit()
    assert (found.problems, found.facts["branch"]) == ([], "main")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, "there is no version: set VERSION"),
        ("1.2.3", "must be vX.Y.Z"),
        ("v1.3.0-rc.1", "must be vX.Y.Z"),
        ("v1.1.9", "v1.1.9 is not newer than the newest release, v1.2.0"),
        ("v1.2.0", ""),
        ("v1.10.0", ""),
    ],
)
def test_a_version_is_well_formed_and_newer(sandbox: Sandbox, version: str | None, words: str) -> None:
    sandbox.tag("v1.2.0")
    sandbox.tag("v1.9.0-rc.1")
    sandbox.tag("web/v9.9.9")
    text = guard(sandbox.path, version=version).version().text
    assert (words in text) if words else not text


def test_pre_releases_and_downgrades_are_allowed_where_configured(sandbox: Sandbox) -> None:
    sandbox.tag("v1.2.0-rc.2")
    allowed = "pre-releases = true\n"
    assert guard(sandbox.path, allowed, "v1.2.0-rc.10").version().problems == []
    assert "newest release, v1.2.0-rc.2" in guard(sandbox.path, allowed, "v1.2.0-rc.1").version().text
    found = guard(sandbox.path, allowed + "allow-downgrade = true\n", "v1.1.0").version()
    assert (found.problems, found.facts["downgrade"]) == ([], "allowed")


def test_versions_that_cannot_be_compared_are_doubt(sandbox: Sandbox) -> None:
    text = "version-pattern = '[a-z]+|[0-9.]+'\n"
    assert guard(sandbox.path, text, "blue").version().problems == []
    sandbox.tag("2026.1")
    assert "can't be compared with 2026.1" in guard(sandbox.path, text, "blue").version().text


def test_newer_tags_that_only_the_remote_has_count(sandbox: Sandbox, tmp_path: Path) -> None:
    bare = sandbox.remote(tmp_path / "remote.git")
    other = bare.clone(tmp_path / "other")
    other.tag("v2.0.0")
    other.git("push", "--quiet", "origin", "v2.0.0")
    made = guard(sandbox.path, version="v1.9.0")
    found = made.version()
    assert "newest release, v2.0.0" in found.text
    assert found.facts["remote"] == f"origin: {bare.path}"


def tag_at(sandbox: Sandbox, bare: Sandbox, where: str, *options: str, commit: str = "HEAD") -> None:
    sandbox.git("tag", *options, "v1.0.0", commit)
    if where != "here":
        sandbox.git("push", "--quiet", "origin", "v1.0.0")
    if where == "remote":
        sandbox.git("tag", "-d", "v1.0.0")


@pytest.mark.parametrize("where", ["here", "remote", "both"])
def test_a_tag_at_another_commit_fails_wherever_it_is_and_at_this_one_it_is_a_re_run(
    sandbox: Sandbox, tmp_path: Path, where: str
) -> None:
    bare = sandbox.remote(tmp_path / "remote.git")
    free = guard(sandbox.path).tag()
    assert (free.problems, free.facts["state"]) == ([], "free")
    tag_at(sandbox, bare, where, "-a", "-m", "x")
    again = guard(sandbox.path).tag()
    assert (again.problems, again.facts["state"]) == ([], "a re-run: it stands at this commit")
    old = sandbox.head
    sandbox.commit("More")
    text = guard(sandbox.path).tag().text
    assert f"the tag v1.0.0 stands at commit {old}" in text
    assert len(text.splitlines()) == (2 if where == "both" else 1)


def test_a_lightweight_tag_fails_unless_the_remote_has_the_real_one(sandbox: Sandbox, tmp_path: Path) -> None:
    bare = sandbox.remote(tmp_path / "remote.git")
    tag_at(sandbox, bare, "here")
    assert "annotated tags only" in guard(sandbox.path).tag().text
    sandbox.git("tag", "-d", "v1.0.0")
    tag_at(sandbox, bare, "remote", "-a", "-m", "x")
    sandbox.git("tag", "v1.0.0")  # as actions/checkout leaves it
    assert guard(sandbox.path).tag().problems == []


def test_a_remote_that_cannot_be_asked_is_doubt_in_gits_words(sandbox: Sandbox) -> None:
    sandbox.git("remote", "add", "origin", "/nonesuch/shop.git")
    made = guard(sandbox.path)
    for found in (made.tag(), made.version()):
        assert "can't be asked for its tags" in found.text
        assert "does not appear to be a git repository" in found.text


def test_no_remote_at_all_is_recorded_and_passes(sandbox: Sandbox) -> None:
    found = guard(sandbox.path).tag()
    assert (found.problems, found.facts["remote"]) == ([], "no remote")


def test_a_shallow_clone_is_told_apart_from_a_missing_tag(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.tag("v0.9.0")
    sandbox.commit("More")
    shallow = sandbox.clone(tmp_path / "shallow", "--depth=1", "--no-tags")
    repo = Repo(shallow.path)
    assert repo.is_shallow
    assert "git fetch --unshallow --tags" in repo.why_no_tag("v0.9.0")
    assert Repo(sandbox.path).why_no_tag("v9") == "there is no tag v9"
    # The remote knows all tags, so nothing is in doubt while it can be asked.
    assert guard(shallow.path, version="v1.0.0").version().facts["newest release"] == "v0.9.0"
    assert guard(shallow.path, version="v1.0.0").tag().problems == []
    shallow.git("remote", "remove", "origin")
    for found in (guard(shallow.path).version(), guard(shallow.path).tag()):
        assert "git fetch --unshallow --tags" in found.text


def test_the_services_of_a_monorepo_have_versions_of_their_own(sandbox: Sandbox) -> None:
    sandbox.tag("web/v9.0.0")
    sandbox.tag("shop/v1.2.0")
    old = sandbox.head
    sandbox.commit("More")
    text = 'tag = "shop/{version}"\n'
    assert guard(sandbox.path, text, "v1.3.0").version().problems == []
    assert "not newer than the newest release, shop/v1.2.0" in guard(sandbox.path, text, "v1.1.0").version().text
    assert f"shop/v1.2.0 stands at commit {old}" in guard(sandbox.path, text, "v1.2.0").tag().text
    release = Repo.of(settings(sandbox.path, text)).release("v1.3.0", {})
    assert (release.tag, release.previous) == (None, "v1.2.0")
    assert Repo.of(settings(sandbox.path, text)).release("v1.2.0", {}).tag == "shop/v1.2.0"


def test_the_release_before_a_final_one_is_a_final_one(sandbox: Sandbox) -> None:
    for tag in ("v1.1.0", "v1.2.0-rc.1"):
        sandbox.tag(tag)
    repo = Repo.of(settings(sandbox.path, "pre-releases = true\n"))
    assert repo.release("v1.2.0", {}).previous == "v1.1.0"
    assert repo.release("v1.2.0-rc.2", {}).previous == "v1.2.0-rc.1"
    assert repo.release("v1.0.0", {}).previous is None


def every(made: ReleaseGuard) -> list[Findings]:
    return [made.tree(), made.commit(), made.version(), made.tag()]


def test_where_the_guard_is_off_nothing_is_judged_and_that_is_recorded(tmp_path: Path, hermetic_git: None) -> None:
    for found in every(guard(tmp_path / "x", env="dev", version=None)):
        assert (found.problems, found.facts) == ([], {"guard": "release guard is off for dev"})
    off = guard(tmp_path / "x", "[env.prod]\nrelease-guard = false\n", env="prod")
    assert [found.problems for found in every(off)] == [[], [], [], []]


def test_outside_a_repository_the_guard_says_so_plainly(tmp_path: Path, hermetic_git: None) -> None:
    (tmp_path / "x").mkdir()
    for found in every(guard(tmp_path / "x", env="prod")):
        assert "is not inside a git repository" in found.text
        assert "release-guard = false under [env.prod]" in found.text
    with pytest.raises(DeployGuardError, match="not inside"):
        Repo(tmp_path / "x").dirty()
    with pytest.raises(DeployGuardError, match="not inside"):
        _ = Repo(tmp_path / "x").remote_tags
    assert "bare repository" in Repo(new(tmp_path / "bare", "--bare").path).problem


def test_a_repository_that_git_refuses_is_a_problem_and_no_crash(sandbox: Sandbox) -> None:
    sandbox.git("config", "core.repositoryFormatVersion", "1")
    sandbox.git("config", "extensions.nonesuch", "true")
    repo = Repo(sandbox.path)
    assert "git refuses this repository" in repo.problem
    assert "nonesuch" in repo.problem
    assert (repo.commit, repo.tags, repo.is_clean) == (None, {}, False)


def test_a_names_commit_is_found_or_there_is_none(sandbox: Sandbox) -> None:
    assert Repo(sandbox.path).resolve("main") == sandbox.head
    assert Repo(sandbox.path).resolve("--all") is None
    assert os.environ["GIT_CONFIG_NOSYSTEM"] == "1"
