"""Whole runs with the Compose driver: the decision, the way back, and no secret in any file."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import compose
import pytest
from cli import Command
from compose import Shop, eventually

if TYPE_CHECKING:
    from conftest import Project

SECRET, OLD_SECRET, ODD = "correct horse 42", "battery staple 41", "pa$$w\"ord'\\ü"
GATES = """
import os, urllib.request
from deploy_guard import gate, post_check

@gate("critical")
def test_gate(): pass

@post_check("critical")
def test_serves(release):
    with urllib.request.urlopen(os.environ["SERVICE_URL"] + "/version", timeout=5) as answer:
        served = answer.read().decode().strip()
    assert served == release.version, served
    assert not os.environ.get("FAIL"), "told to fail"
"""


engine = compose.engine


@pytest.fixture
def shop(engine: None, project: Project) -> Iterator[Shop]:
    """A project on the engine in the folder of a project with gates, whose runs ship it."""
    made = compose.new_shop(project.root)
    project.env.update(SERVICE_URL=f"http://127.0.0.1:{made.port}", API_KEY=SECRET)
    project.write("gates/conftest.py", "")
    project.write("gates/test_first.py", GATES)
    project.write(
        "deploy-guard.toml",
        f"""
        name = "shop"
        gates = ["gates"]
        timeout = "30s"
        [env.stage]
        driver = "compose"
        [env.stage.compose]
        project = "{made.project}"
        dwell = "600ms"
        """,
    )
    made.write(
        {
            "web": made.web(environment={"VERSION": "${VERSION}", "API_KEY": "${API_KEY}", "UNSPOKEN": "${UNSPOKEN-}"}),
            "worker": made.worker(),
        }
    )
    yield made
    made.clean()


def test_a_release_is_shipped_again_unchanged_changed_and_rolled_back(shop: Shop, project: Project) -> None:
    first = project.run()
    assert (first.code, first.outcome) == (0, "shipped"), first.out
    ids = shop.ids
    again = project.run()
    assert (again.code, again.outcome) == (0, "unchanged"), again.out
    assert shop.ids == ids
    failed = project.run(VERSION="v2.0.0", FAIL="1")
    assert (failed.code, failed.outcome) == (2, "rolled-back"), failed.out
    assert "v1.0.0 serves again" in failed.out
    assert shop.served == "v1.0.0"
    second = project.run(VERSION="v2.0.0")
    assert (second.code, second.verdict["previous"]) == (0, "v1.0.0"), second.out
    command = Command(project.root)
    done = command("rollback", "--env", "stage", **project.env, VERSION="v2.0.0")
    assert done.code == 0, done.out + done.err
    assert shop.served == "v1.0.0"


def test_no_secret_is_in_any_file_or_output_of_a_run(shop: Shop, project: Project) -> None:
    says = 'echo "key $$API_KEY"; echo "also $$UNSPOKEN"; echo "$$ODD_TOKEN"; exit 3'
    environment = {name: f"${{{name}}}" for name in ("VERSION", "API_KEY", "UNSPOKEN", "ODD_TOKEN")}
    shop.write(
        {
            "web": shop.web(environment=environment, labels={"with": "in ${API_KEY}"}, secrets=["copied"]),
            "worker": shop.worker(environment=environment),
        },
        secrets={"copied": {"environment": "COPIED"}},
    )
    given = {"UNSPOKEN": "hard2guess-value", "ODD_TOKEN": ODD, "COPIED": "copied-value-7"}
    old = {"API_KEY": OLD_SECRET, "UNSPOKEN": "old2guess-value", "ODD_TOKEN": f"old {ODD}", "COPIED": "copied-value-6"}
    first = project.run(more={**given, **old})
    assert first.outcome == "shipped", first.out
    assert shop.exec("web", 'echo "$ODD_TOKEN"') == f"old {ODD}", "they reach the containers"
    assert shop.exec("web", "cat /run/secrets/copied") == "copied-value-6"
    shop.write(
        {
            "web": shop.web("two", environment=environment, labels={"with": "in ${API_KEY}"}, secrets=["copied"]),
            "worker": shop.worker(says, environment=environment, restart="always"),
        },
        secrets={"copied": {"environment": "COPIED"}},
    )
    failed = project.run(VERSION="v2.0.0", more=given)
    assert failed.outcome == "rolled-back", failed.out
    assert "crashes again and again" in failed.out
    assert "key [API_KEY redacted]" in failed.out
    assert shop.exec("web", "cat /run/secrets/copied") == "copied-value-6"
    assert shop.exec("web", 'echo "$API_KEY"') == OLD_SECRET
    shop.write({"web": shop.web(ports=["${UNSPOKEN}"])})
    bad = project.run(VERSION="v2.0.0", more=given)
    assert (bad.outcome, bad.codes) == ("withheld", ["plan-failed"]), bad.out
    assert "[UNSPOKEN redacted]" in bad.out
    values = [*given.values(), *old.values(), SECRET]
    files = [path for path in project.root.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".toml")]
    assert any(path.name.endswith(".json") and path.parent.name == ".deploy-guard" for path in files)
    texts = {str(path): path.read_text(errors="replace") for path in files}
    texts.update({"first": first.out, "failed": failed.out, "bad": bad.out})
    for name, text in texts.items():
        for value in values:
            for form in (value, json.dumps(value)[1:-1], base64.b64encode(value.encode()).decode()):
                assert form not in text, f"{value} is in {name}"


def test_a_plan_alone_leaves_no_trace(shop: Shop, project: Project) -> None:
    done = project.run("--deploy-plan")
    assert (done.code, done.outcome) == (0, "planned"), done.out
    assert (shop.ids, shop.kept) == ({}, [])
    plan = json.loads((done.folder / "plan.json").read_text())
    assert "service web" in [change["object"] for change in plan["changes"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_during_up_takes_all_back(shop: Shop, project: Project, number: int) -> None:
    assert project.run().code == 0
    process = project.start(VERSION="v2.0.0")
    replaced = shop.ids[f"{shop.project}-web-1"]
    eventually(lambda: replaced not in shop.ids.values() or not shop.containers, 40, 0.01)
    os.killpg(process.pid, number)  # as a terminal does: to all that the run has not put aside
    done = project.ended(process)
    assert (done.code, done.outcome) == (2, "rolled-back"), done.out
    assert shop.served == "v1.0.0"


def test_a_run_that_is_killed_during_up_is_taken_back_by_the_next_one(shop: Shop, project: Project) -> None:
    assert project.run().code == 0
    process = project.start(VERSION="v2.0.0")
    replaced = shop.ids[f"{shop.project}-web-1"]
    eventually(lambda: replaced not in shop.ids.values(), 40, 0.01)
    process.kill()
    process.communicate()
    time.sleep(0.5)
    done = project.run(VERSION="v3.0.0")
    assert (done.code, done.outcome) == (0, "shipped"), done.out
    assert done.step("recover")["outcome"] == "passed"
    assert done.verdict["previous"] == "v1.0.0"
    assert shop.served == "v3.0.0"


def test_the_command_takes_files_from_the_command_line(shop: Shop, project: Project) -> None:
    (project.root / "deploy-guard.toml").unlink()
    path = shop.write({"web": shop.web()}, "other.yaml")
    command = Command(project.root)
    words = [
        "apply",
        "--driver",
        "compose",
        "--manifest",
        path.name,
        "--set",
        f"project={shop.project}",
        "--env",
        "dev",
    ]
    done = command(*words, "--version", "v1.0.0", **project.env)
    assert done.code == 0, done.out + done.err
    assert shop.served == "v1.0.0"
    assert Path(project.root / "reports/dev/verdict.json").is_file()
