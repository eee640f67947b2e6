"""docs/kubernetes.md: the walk-through word by word, and the Role of least privilege, on the test cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kube
import pytest
import yaml
from cli import Command
from shop import Shop

PAGE = Path(__file__).resolve().parents[3] / "docs/kubernetes.md"
IMAGE = "busybox:1.37"
NOT_HERE = ("pip install", "kind ")
"""Commands that make what a test has already."""
TIMES = re.compile(r"\d+\.\d+ s")
NAMES = re.compile(r"\bshop-[a-z0-9]{6,10}(?:-[a-z0-9]{5}\b|…)|\b\d{8}T\d{6}Z-[0-9a-f]+")
"""Of pods, whole or cut off, and of runs: others each time."""


@dataclass(frozen=True)
class Block:
    """A block of the page: a file with its name in the first line, or commands with what they print."""

    language: str
    text: str

    @property
    def file(self) -> str:
        first = self.text.splitlines()[0]
        assert first.startswith("# "), f"the first line does not name the file: {first}"
        return first[2:]

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Each command with the lines that are shown below it."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip() not in ("", "…"):
                found[-1][1].append(line)
        return found


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def words(row: str) -> list[str]:
    """The words of a line, without what differs from run to run."""
    return NAMES.sub("NAME", TIMES.sub("N s", row)).split()


def section(title: str) -> str:
    """A part of the page, with what is below it."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the page has no part {title}"
    return found[2]


def test_the_walk_through_works_word_by_word(namespace: kube.Namespace, tmp_path: Path) -> None:
    kube.image(IMAGE)
    folder = tmp_path / "walk"
    folder.mkdir()
    command = Command(folder)
    environ = command.environ(PATH=f"{Path(sys.executable).parent}:{command.environ()['PATH']}")
    done = []

    def here(text: str) -> str:
        return text.replace("kind-shop", kube.context()).replace("shop-prod", namespace.name)

    for block in blocks(section("From a manifest to a release that rolls itself back")):
        if block.language != "console":
            file = folder / block.file
            file.parent.mkdir(exist_ok=True)
            file.write_text(here(block.text))
            continue
        for line, shown in block.commands:
            if line.startswith(NOT_HERE) or "create namespace" in line:
                continue
            ran = subprocess.run(
                ["bash", "-euc", here(line)], cwd=folder, env=environ, capture_output=True, text=True, timeout=150
            )
            said = ran.stdout + ran.stderr
            promised = re.search(r"exit (\d)\)", "\n".join(shown))
            assert ran.returncode == int(promised[1] if promised else 0), f"{line}\n{said}"
            printed = [words(row) for row in said.splitlines()]
            for wanted in shown:
                begun = words(here(wanted))
                assert any(begun == row[: len(begun)] for row in printed), (
                    f"{line}\ndoes not print\n{wanted}\nbut\n{said}"
                )
            done.append(line)
    assert len(done) > 8


def role() -> list[dict[str, Any]]:
    """The objects of the page's Role."""
    (text,) = [one.text for one in blocks(section("The least that it may")) if one.language == "yaml"]
    return list(yaml.safe_load_all(text))


def account(namespace: kube.Namespace, folder: Path, without: tuple[str, str] | None = None) -> Path:
    """A kubeconfig whose user may do what the page's Role allows, less one verb on one resource."""
    (rules,) = [one["rules"] for one in role() if one["kind"] == "Role"]
    if without is not None:
        verb, resource = without
        rules = [
            {**rule, "resources": [one], "verbs": [v for v in rule["verbs"] if (v, one) != (verb, resource)]}
            for rule in rules
            for one in rule["resources"]
        ]
    return namespace.account(rules, folder, name="deploy-guard")


@pytest.fixture
def shop(tmp_path: Path, namespace: kube.Namespace) -> Shop:
    """The shop before its first release."""
    made = Shop.new(tmp_path / "shop", namespace)
    words = ["sh", "-c", "echo done"]
    made.manifest("job.yaml", kube.job("migrate", "test.local/shop:v1.0.0", words, phase="before"))
    return made


def test_the_role_of_the_page_is_enough_for_a_release_and_for_the_way_back(shop: Shop, tmp_path: Path) -> None:
    config = str(account(shop.namespace, tmp_path))
    first = shop.release("v1.0.0", KUBECONFIG=config)
    assert (first.code, first.outcome) == (0, "shipped"), first.out
    before = shop.state()
    failed = shop.release("v2.0.0", KUBECONFIG=config, CHECK="fails")
    assert (failed.code, failed.outcome) == (2, "rolled-back"), failed.out
    after = shop.state()
    for found in (before, after):
        found.pop("Job/migrate", None)  # what a migration did stays
    assert after == before


def test_the_objects_of_the_page_are_accepted_as_they_stand(namespace: kube.Namespace) -> None:
    bodies = [{**one, "metadata": {**one["metadata"], "namespace": namespace.name}} for one in role()]
    for body in bodies:
        for subject in body.get("subjects", []):
            subject["namespace"] = namespace.name
    namespace.apply(*bodies)
    who = f"system:serviceaccount:{namespace.name}:deploy-guard"
    assert namespace.kubectl("auth", "can-i", "patch", "deployments.apps", "--as", who).strip() == "yes"
    assert namespace.kubectl("auth", "can-i", "create", "roles", "--as", who, check=False).strip() == "no"


@pytest.mark.parametrize("missing", [("patch", "configmaps"), ("delete", "deployments"), ("get", "pods/log")])
def test_one_right_that_is_missing_withholds_and_is_named(shop: Shop, tmp_path: Path, missing: tuple[str, str]) -> None:
    result = shop.release("v1.0.0", KUBECONFIG=str(account(shop.namespace, tmp_path, without=missing)))
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    said = result.step("plan")["message"]
    assert all(word in said for word in missing), said
    assert "docs/kubernetes.md" in said
    assert shop.state() == {}
