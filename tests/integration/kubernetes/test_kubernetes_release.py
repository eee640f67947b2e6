"""Releases to a real cluster as a user makes them: ``pytest --deploy-env=prod gates`` in a subprocess."""

from __future__ import annotations

import base64
import re
import shlex
from pathlib import Path

import kube
import pytest
from cli import Command
from shop import IMAGE, PASSWORD, Shop

CRASHING = 'imagePullPolicy: IfNotPresent\n        command: ["sh", "-c", "echo no such table; exit 3"]'


@pytest.fixture
def shop(tmp_path: Path, namespace: kube.Namespace) -> Shop:
    """The shop before its first release."""
    return Shop.new(tmp_path, namespace)


def test_a_good_release_ships_and_the_same_again_touches_nothing(shop: Shop) -> None:
    first = shop.release("v1.0.0")
    assert (first.code, first.outcome) == (0, "shipped"), first.out
    assert {change["action"] for change in first.verdict["changes"]} == {"create"}
    assert first.verdict["target"] == f"kubernetes {kube.context()}/{shop.namespace.name}"
    assert f"kubernetes {kube.context()}/{shop.namespace.name}" in first.out, "the target is shown"
    assert "SHIPPED: shop v1.0.0 serves in prod" in first.out
    settings = shop.namespace.get("configmap", "settings")["data"]
    assert settings == {"greeting": "hello from v1.0.0", "nginx": "proxy_set_header Host ${host};"}
    before = shop.quiet_versions()
    again = shop.release("v1.0.0")
    assert (again.code, again.outcome) == (0, "unchanged"), again.out
    assert {change["action"] for change in again.verdict["changes"]} == {"none"}
    assert shop.namespace.versions() == before


def test_plan_only_changes_nothing_and_shows_the_difference(shop: Shop) -> None:
    shop.shipped()
    before = shop.quiet_versions()
    result = shop.run("gates", "--deploy-plan", env="prod", VERSION="v2.0.0", timeout=90)
    assert (result.code, result.outcome) == (0, "planned"), result.out
    assert shop.namespace.versions() == before
    changes = {change["object"]: change for change in result.verdict["changes"]}
    assert {name: change["action"] for name, change in changes.items()} == {
        "ConfigMap/settings": "change",
        "Secret/credentials": "change",
        "Service/shop": "none",
        "Deployment/shop": "change",
    }
    assert "hello from v2.0.0" in changes["ConfigMap/settings"]["diff"]
    assert f"{IMAGE}:v2.0.0" in changes["Deployment/shop"]["diff"]


def test_a_failing_post_check_brings_everything_back_the_config_map_included(shop: Shop) -> None:
    shop.shipped()
    before, images = shop.state(), shop.image_ids()
    result = shop.release("v2.0.0", CHECK="fails")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert result.gate("test_the_service_reports_the_release")["outcome"] == "passed", "the new one did serve"
    assert "v1.0.0 serves again" in result.out
    assert shop.state() == before
    assert kube.eventually(lambda: shop.image_ids() == images)
    again = shop.release("v1.0.0")
    assert (again.code, again.outcome) == (0, "unchanged"), again.out


def test_a_crash_loop_is_told_with_its_last_words_and_goes_back(shop: Shop) -> None:
    shop.shipped()
    before = shop.state()
    shop.edit("imagePullPolicy: IfNotPresent", CRASHING)
    result = shop.release("v2.0.0")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    said = result.step("wait")["message"]
    for word in ("container shop", "crashed 2 times", "no such table"):
        assert word in said
    assert "no such table" in (result.folder / "gate-report.html").read_text()
    assert shop.state() == before


def test_a_first_release_that_fails_leaves_nothing_behind(shop: Shop) -> None:
    before = shop.state()
    shop.edit("imagePullPolicy: IfNotPresent", CRASHING)
    result = shop.release("v1.0.0")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert "nothing was there before, and nothing is left" in result.out
    assert shop.state() == before == {}
    assert shop.own() == []
    assert kube.eventually(lambda: not shop.namespace.pods())


def test_nothing_is_applied_when_the_migration_before_it_fails(shop: Shop) -> None:
    shop.shipped()
    before, versions = shop.state(), shop.quiet_versions()
    words = ["sh", "-c", "echo column exists already; exit 4"]
    shop.manifest("migrate.yaml", kube.job("migrate", f"{IMAGE}:v2.0.0", words, phase="before"))
    result = shop.release("v2.0.0")
    assert (result.code, result.outcome) == (2, "rolled-back"), result.out
    assert "column exists already" in result.step("apply")["message"]
    assert shop.state() == before
    after = shop.namespace.versions()
    for name in ("ConfigMap/settings", "Secret/credentials", "Service/shop", "Deployment/shop"):
        assert after[name] == versions[name], name


def test_a_migration_runs_before_the_rest_and_one_after_it(shop: Shop) -> None:
    words = ["sh", "-c", "echo done"]
    jobs = [kube.job(f"runs-{phase}", f"{IMAGE}:v1.0.0", words, phase=phase) for phase in ("before", "after")]
    shop.manifest("jobs.yaml", *jobs)
    shop.shipped()
    before, after = (shop.namespace.get("job", f"runs-{phase}")["status"] for phase in ("before", "after"))
    created = shop.namespace.get("deployment", "shop")["metadata"]["creationTimestamp"]
    assert before["completionTime"] <= created <= after["startTime"]


def test_a_bad_document_in_the_middle_stops_everything_at_the_plan(shop: Shop) -> None:
    bad = kube.config_map("bad") | {"dta": {"typing": "error"}}
    shop.manifest("a.yaml", kube.config_map("one", a="1"), bad, kube.config_map("three", a="1"))
    result = shop.release("v1.0.0")
    assert (result.code, result.outcome) == (2, "withheld"), result.out
    assert "dta" in result.step("plan")["message"]
    assert shop.state() == {}
    assert shop.own() == []


def test_no_file_of_a_run_holds_a_secret(shop: Shop) -> None:
    secrets = [f"{PASSWORD}-v1.0.0", f"{PASSWORD}-v2.0.0"]
    encoded = [base64.b64encode(value.encode()).decode() for value in secrets]
    shop.shipped()
    assert shop.namespace.get("secret", "credentials")["data"]["password"] == encoded[0]
    assert shop.files_with(*secrets) == []
    failed = shop.release("v2.0.0", CHECK="fails")
    assert failed.outcome == "rolled-back", failed.out
    assert shop.files_with(*secrets) == []
    assert not [value for value in (*secrets, *encoded) if value in failed.out]
    assert shop.namespace.get("secret", "credentials")["data"]["password"] == encoded[0], "restored all the same"
    planned = shop.run("gates", "--deploy-plan", env="prod", VERSION="v2.0.0", timeout=90)
    assert planned.outcome == "planned", planned.out
    assert shop.files_with(*secrets) == []
    assert not [value for value in (*secrets, *encoded) if value in planned.out]


def test_the_command_rolls_back_from_another_process(shop: Shop) -> None:
    shop.shipped()
    before = shop.state()
    shop.shipped("v2.0.0")
    assert shop.state() != before
    done = Command(shop.root)("rollback", "--env", "prod")
    assert done.code == 0, done.out + done.err
    assert shop.state() == before


def test_an_unpinned_target_is_refused_with_the_command_to_type(shop: Shop, tmp_path: Path) -> None:
    (shop.root / "deploy-guard.toml").unlink()
    config = kube.kubeconfig(tmp_path / "own.kubeconfig")
    words = ["--kubeconfig", str(config), "config", "set-context", kube.context(), "--namespace", shop.namespace.name]
    kube.kubectl(*words)
    asked = ["apply", "--driver", "kubernetes", "--manifest", "k8s/app.yaml", "--env", "prod"]
    done = Command(shop.root)(*asked, "--version", "v1.0.0", KUBECONFIG=str(config))
    said = done.out + done.err
    assert done.code == 4, said
    assert f"current context is '{kube.context()}'" in said
    assert shop.state() == {}
    (typed,) = re.findall(r"deploy-guard (apply --driver kubernetes --context .*)", said)
    planned = Command(shop.root)(*shlex.split(typed), "--version", "v1.0.0", "--plan", KUBECONFIG=str(config))
    assert planned.code == 0, planned.out + planned.err
    assert f"kubernetes {kube.context()}/{shop.namespace.name}" in planned.out
    assert "ConfigMap/settings" in planned.out


def test_a_pinned_context_needs_no_current_one(shop: Shop, tmp_path: Path) -> None:
    other = kube.kubeconfig(tmp_path / "other.kubeconfig")
    kube.kubectl("--kubeconfig", str(other), "config", "unset", "current-context")
    result = shop.run("gates", env="prod", timeout=90, VERSION="v1.0.0", KUBECONFIG=str(other))
    assert (result.code, result.outcome) == (0, "shipped"), result.out
