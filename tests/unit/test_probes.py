from __future__ import annotations

from pathlib import Path

import git
import pytest

from deploy_guard import Deadline
from deploy_guard.config import load
from deploy_guard.probes.environment import names_set, problems
from deploy_guard.probes.repo import Repo
from deploy_guard.retry import retrying


def test_retrying_stays_within_its_deadline() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError("x")

    with pytest.raises(OSError, match="x"):
        retrying(fail, retry_on=(OSError,), deadline=Deadline.after(0.01), base=1.0)
    assert len(calls) == 1
    with pytest.raises(OSError, match="x"):
        retrying(fail, retry_on=(ValueError,), deadline=Deadline.after(9))
    assert len(calls) == 2


GOOD = {"SERVICE_URL": "https://h/", "VERSION": "v1", "TOKEN": "canary-4711", "ENV": "stage"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"ENV": ""}, []),
        ({"ENV": "prod"}, ["ENV names another environment than --deploy-env=stage"]),
        ({"VERSION": " "}, ["VERSION is not set, or blank"]),
        ({"TOKEN": "", "API_KEY": " "}, ["none of API_KEY, TOKEN is set"]),
        ({"SERVICE_URL": "h"}, ["SERVICE_URL is not an http:// or https:// URL"]),
        ({"SERVICE_URL": "https://u:canary-4711@h/"}, ["SERVICE_URL holds credentials"]),
        ({"SERVICE_URL": "http://[bad"}, ["SERVICE_URL is not a URL"]),
        ({"SERVICE_URL": "", "VERSION": "", "TOKEN": ""}, ["SERVICE_URL", "VERSION", "none of"]),
    ],
)
def test_problems_of_the_environment_are_told_by_name_and_never_by_value(
    tmp_path: Path, change: dict[str, str], words: list[str]
) -> None:
    config = load(None, directory=tmp_path).for_env("stage")
    found = problems(config, {**GOOD, **change})
    assert len(found) == len(words)
    assert all(word in said for word, said in zip(words, found, strict=True))
    assert "canary-4711" not in " ".join(found)


def test_a_configured_service_url_stands_for_the_variable_unless_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "deploy-guard.toml"
    environ = {**GOOD, "SERVICE_URL": ""}
    path.write_text('service-url = "https://h/"\n')
    assert problems(load(path, directory=tmp_path).for_env("stage"), environ) == []
    path.write_text('service-url = "https://h/"\nrequired-variables = ["SERVICE_URL"]\n')
    assert problems(load(path, directory=tmp_path).for_env("stage"), environ) == ["SERVICE_URL is not set, or blank"]


def test_a_variable_of_a_header_that_is_not_set_is_told_before_anything_ships(tmp_path: Path) -> None:
    path = tmp_path / "deploy-guard.toml"
    path.write_text("service-headers = { Authorization = 'Bearer ${SHOP_LOGIN}' }\n")
    config = load(path, directory=tmp_path).for_env("stage")
    assert problems(config, GOOD) == ["SHOP_LOGIN is not set, or blank, and service-headers.Authorization needs it"]
    assert problems(config, {**GOOD, "SHOP_LOGIN": "x"}) == []


def test_names_of_variables_that_are_set_are_evidence_and_their_values_are_not(tmp_path: Path) -> None:
    config = load(None, directory=tmp_path).for_env("stage")
    assert names_set(config, {**GOOD, "API_KEY": " ", "OTHER": "x"}) == ["ENV", "SERVICE_URL", "VERSION", "TOKEN"]


def test_one_secret_of_its_own_is_named(tmp_path: Path) -> None:
    (tmp_path / "deploy-guard.toml").write_text('secrets = ["DB_PASSWORD"]\nrequired-variables = []\n')
    config = load(tmp_path / "deploy-guard.toml", directory=tmp_path).for_env("stage")
    assert problems(config, {}) == ["DB_PASSWORD is not set, or blank"]


def test_a_repository_describes_its_release(tmp_path: Path) -> None:
    with git.Repo.init(tmp_path, initial_branch="trunk") as repo:
        repo.config_writer().set_value("user", "name", "x").set_value("user", "email", "x@example.invalid").release()
        assert Repo(tmp_path).release("v1", {}).commit is None
        for version in ("v1.9.0", "v1.10.0"):
            commit = repo.index.commit(version)
            repo.create_tag(version, message=version)
        found = Repo(tmp_path)
        release = found.release("v1.11.0", {})
        assert (release.commit, release.branch, release.tag, release.previous) == (
            commit.hexsha,
            "trunk",
            None,
            "v1.10.0",
        )
        assert found.release("v1.10.0", {}).tag == "v1.10.0"
        assert found.release("v1.10.0", {}).previous == "v1.9.0"
        assert found.is_clean
        (tmp_path / "new").touch()
        assert not Repo(tmp_path).is_clean
        repo.git.checkout("--detach")
        assert Repo(tmp_path).branch is None
        assert Repo(tmp_path).release("v1", {"GITHUB_REF_NAME": "main"}).branch == "main"


def test_outside_a_repository_nothing_is_known_and_it_says_why(tmp_path: Path) -> None:
    found = Repo(tmp_path)
    assert "not inside a git repository" in found.problem
    assert (found.commit, found.branch, found.tags, found.is_clean) == (None, None, {}, False)
    assert "does not exist" in Repo(tmp_path / "nonesuch").problem
