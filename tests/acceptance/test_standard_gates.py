"""The standard gates of this repository, with input that makes each of them fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Project

GATES = Path(__file__).resolve().parents[2] / "gates"
GOOD = {"SERVICE_URL": "http://127.0.0.1:1", "TOKEN": "only-a-test-value"}
EASY = "release-guard = false\n[host]\ndisk = { warn = 99, fail = 100 }\nmemory = { warn = 99, fail = 100 }\n"


@pytest.fixture
def standard(project: Project) -> Project:
    (project.root / "gates/test_first.py").unlink()
    for path in GATES.glob("test_*.py"):
        shutil.copy(path, project.root / "gates")
    project.write("deploy-guard.toml", EASY)
    return project


def test_they_pass_where_all_is_well(standard: Project) -> None:
    result = standard.run("gates", "--no-deploy", more=GOOD)
    assert (result.code, result.outcome) == (0, "checked"), result.out
    assert len(result.verdict["gates"]) == 8
    assert result.gate("test_memory_is_left")["evidence"][0]["unit"] == "%"


def test_everything_wrong_with_the_environment_is_told_at_once_and_is_recoverable(standard: Project) -> None:
    result = standard.run("gates", VERSION=" ", ENV="prod", SERVICE_URL="ftp://user:canary-4711@h")
    assert result.code == 1, result.out
    gate = result.gate("test_the_environment_is_named_and_complete")
    for words in (
        "ENV names another",
        "VERSION is not set",
        "none of API_KEY, TOKEN",
        "not an http:// or https:// URL",
    ):
        assert words in gate["message"]
    assert "canary-4711" not in result.out


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_a_full_machine_is_critical(standard: Project, what: str) -> None:
    standard.write(
        "deploy-guard.toml",
        EASY.replace(f"{what} = {{ warn = 99, fail = 100 }}", f"{what} = {{ warn = 0.01, fail = 0.02 }}"),
    )
    result = standard.run("gates", more=GOOD)
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert any(what in reason["id"] for reason in result.verdict["reasons"])


def test_a_service_that_does_not_answer_after_the_rollout_is_rolled_back(standard: Project) -> None:
    result = standard.run("gates", more=GOOD)
    assert (result.code, result.outcome, standard.target) == (2, "rolled-back", None), result.out
    assert "GET http://127.0.0.1:1/version" in result.out
