"""Applies on a real cluster: what was planned happens, in order, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube
import pytest
from deploying import SERVICE, Deployer, actions, diffs

from deploy_guard.drivers.kubernetes import records
from deploy_guard.errors import PlanRejected, RolloutDoomed


@pytest.fixture
def shop(namespace: kube.Namespace) -> Iterator[Deployer]:
    with Deployer.of(namespace.name) as made:
        yield made


def web(replicas: int = 0, **container: Any) -> kube.Body:
    return kube.deployment("web", kube.PAUSE, replicas=replicas, **container)


def recorded(namespace: kube.Namespace) -> dict[str, Any]:
    """What the records of the namespace say, by their names."""
    found = namespace.all("secrets", "-l", f"deploy-guard/service={SERVICE}")
    return {
        one["metadata"]["name"]: json.loads(gzip.decompress(base64.b64decode(one["data"]["release"]))) for one in found
    }


def managers(body: kube.Body) -> set[tuple[str, str]]:
    found = body["metadata"].get("managedFields", [])
    return {(one["manager"], one["operation"]) for one in found if one.get("subresource") != "status"}


# What happens


def test_what_was_planned_is_there_and_belongs_to_deploy_guard(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(kube.config_map("app", mode="fast"), web())
    assert capsys.readouterr().out.splitlines() == [
        "created ConfigMap/app",
        "created Deployment/web",
        "record 1 of the release is written",
    ]
    assert namespace.get("configmap", "app")["data"] == {"mode": "fast"}
    assert managers(namespace.get("configmap", "app")) == {("deploy-guard", "Apply")}
    shop.release(kube.config_map("app", mode="slow"), web())
    assert capsys.readouterr().out.splitlines() == [
        "changed ConfigMap/app",
        "1 unchanged",
        "record 2 of the release is written",
    ]
    assert namespace.get("configmap", "app")["data"] == {"mode": "slow"}


def test_the_same_release_again_touches_no_object(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies = [kube.config_map("app", mode="fast"), kube.secret("key", word="x"), web()]
    shop.release(*bodies)
    kube.eventually(lambda: namespace.get("deployment", "web").get("status", {}).get("observedGeneration"))
    before = namespace.versions()
    capsys.readouterr()
    shop.release(*bodies)
    assert capsys.readouterr().out.splitlines() == ["3 unchanged"]
    assert namespace.versions() == before
    shop.release(*bodies, version="v1.0.1")
    after = namespace.versions()
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"Secret/deploy-guard-shop-2"}
    assert shop.plan(*bodies).previous == "v1.0.1"


def test_a_large_release_is_told_in_few_lines(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(*(kube.config_map(f"app-{number}", a="1") for number in range(60)))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[-2] == "and 40 more: 40 created"
    planned = shop.plan(*(kube.config_map(f"app-{number}", a="1") for number in range(60)))
    assert set(actions(planned).values()) == {"none"}


def test_a_new_kind_and_its_first_object_are_made_in_one_release(shop: Deployer, namespace: kube.Namespace) -> None:
    group = f"{namespace.name}.example.com"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
    try:
        shop.release(widget, definition)
        assert namespace.get(f"widgets.{group}", "w")["spec"] == {"size": 1}
        assert set(actions(shop.plan(widget, definition)).values()) == {"none"}
    finally:
        kube.kubectl("delete", "crd", f"widgets.{group}", "--ignore-not-found")


# What goes wrong


def test_a_conflict_that_came_after_the_plan_ends_the_apply_and_is_named(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(kube.config_map("app", mode="fast"), web())
    planned = shop.plan(kube.config_map("app", mode="slow"), web(replicas=1))
    namespace.apply(kube.config_map("app", mode="other"), manager="somebody")
    with pytest.raises(RolloutDoomed) as caught:
        shop.apply(planned)
    assert "ConfigMap/app: somebody changed it since the plan: data.mode belongs to somebody" in str(caught.value)
    assert "plan again" in caught.value.hint
    assert namespace.get("configmap", "app")["data"] == {"mode": "other"}
    assert namespace.get("deployment", "web")["spec"]["replicas"] == 0, "a higher rank was begun"
    assert list(recorded(namespace)) == ["deploy-guard-shop-1"]


def test_a_quota_that_is_used_up_on_the_way_is_told_in_the_words_of_the_server(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    used = len(namespace.all("configmaps"))  # the cluster's own CA
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    namespace.apply({**quota, "spec": {"hard": {"count/configmaps": str(used + 1)}}})
    kube.eventually(lambda: namespace.get("resourcequota", "few").get("status", {}).get("used"))
    planned = shop.plan(kube.config_map("a"), kube.config_map("b"), web())  # each by itself has room
    with pytest.raises(RolloutDoomed, match=r"ConfigMap/[ab]: .*exceeded quota: few"):
        shop.apply(planned)
    assert namespace.find("deployment", "web") is None


# Taking over


def test_what_is_adopted_has_no_other_owner_any_more(shop: Deployer, namespace: kube.Namespace) -> None:
    before = web(env=[{"name": "OLD", "value": "1"}, {"name": "SAME", "value": "1"}])
    before["spec"]["template"]["metadata"]["annotations"] = {"old": "yes"}
    namespace.apply(before, kube.config_map("app", mode="fast", leftover="1"), server_side=False)
    shop.set(adopt=True)
    bodies = [web(env=[{"name": "SAME", "value": "2"}]), kube.config_map("app", mode="slow")]
    planned = shop.release(*bodies)
    assert "- spec.template.spec.containers[main].env[OLD].name: OLD" in diffs(planned)["Deployment/web"]
    assert "- spec.template.metadata.annotations.old: yes" in "\n".join(diffs(planned)["Deployment/web"]).replace(
        '"', ""
    )
    found = namespace.get("deployment", "web")
    assert managers(found) == {("deploy-guard", "Apply")}
    assert "annotations" not in found["spec"]["template"]["metadata"]
    assert found["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "SAME", "value": "2"}]
    assert "kubectl.kubernetes.io/last-applied-configuration" not in found["metadata"].get("annotations", {})
    assert namespace.get("configmap", "app")["data"] == {"mode": "slow"}
    for one in planned.objects:  # what was foreseen is what came
        assert one.after is not None
        now = namespace.get(one.ref.key.kind.lower(), one.ref.key.name)
        assert {**one.after["spec"]} == now["spec"] if "spec" in now else one.after["data"] == now["data"]
    assert set(actions(shop.plan(*bodies)).values()) == {"none"}


@pytest.mark.parametrize("server_side", [True, False], ids=["Helm 4", "Helm 3"])
def test_what_helm_made_is_adopted(shop: Deployer, namespace: kube.Namespace, server_side: bool) -> None:
    body = kube.config_map("app", mode="fast", leftover="1")
    body["metadata"]["annotations"] = {"meta.helm.sh/release-name": "shop"}
    if server_side:
        namespace.apply(body, manager="helm")
    else:
        namespace.kubectl("create", "-f", "-", "--field-manager=helm", stdin=json.dumps(body))
    shop.set(adopt=True)
    shop.release(kube.config_map("app", mode="slow"))
    found = namespace.get("configmap", "app")
    assert found["data"] == {"mode": "slow"}
    assert "annotations" not in found["metadata"]
    assert managers(found) == {("deploy-guard", "Apply")}


def test_fields_of_a_manager_that_is_not_adopted_stay_its_own(shop: Deployer, namespace: kube.Namespace) -> None:
    namespace.apply(kube.config_map("app", mode="fast"), server_side=False)
    namespace.apply(kube.config_map("app", theirs="1"), manager="somebody")
    shop.set(adopt=True)
    shop.release(kube.config_map("app", mode="slow"))
    found = namespace.get("configmap", "app")
    assert found["data"] == {"mode": "slow", "theirs": "1"}
    assert managers(found) == {("deploy-guard", "Apply"), ("somebody", "Apply")}


def test_what_cant_be_removed_from_an_adopted_object_stays(shop: Deployer, namespace: kube.Namespace) -> None:
    def disk(**more: Any) -> kube.Body:
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, **more}
        return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": spec}

    namespace.apply(disk(storageClassName="slow"), server_side=False)
    shop.set(adopt=True)
    planned = shop.release(disk())
    assert "storageClassName" not in "\n".join(diffs(planned)["PersistentVolumeClaim/disk"])
    found = namespace.get("persistentvolumeclaim", "disk")
    assert found["spec"]["storageClassName"] == "slow"
    assert managers(found) == {("deploy-guard", "Apply")}
    assert "kubectl.kubernetes.io/last-applied-configuration" not in found["metadata"].get("annotations", {})
    assert set(actions(shop.plan(disk())).values()) == {"none"}


def test_an_object_older_than_the_notes_of_who_owns_what_is_taken_over_by_name(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    namespace.apply(kube.config_map("app", mode="fast", other="1"))
    forget = json.dumps([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])
    namespace.kubectl("patch", "configmap", "app", "--type=json", "-p", forget)
    assert managers(namespace.get("configmap", "app")) == set()
    with pytest.raises(PlanRejected, match=r"data.mode belongs to before-first-apply") as caught:
        shop.plan(kube.config_map("app", mode="slow"))
    assert 'adopt = ["before-first-apply"]' in caught.value.hint
    shop.set(adopt=("before-first-apply",))
    shop.release(kube.config_map("app", mode="slow"))
    assert namespace.get("configmap", "app")["data"] == {"mode": "slow", "other": "1"}


# Jobs of phases


def test_no_workload_is_touched_when_a_job_of_the_phase_before_fails(shop: Deployer, namespace: kube.Namespace) -> None:
    image = kube.image("test.local/dg-box:1")
    shop.release(kube.config_map("app", mode="fast"), web())
    migrate = kube.job("migrate", image, ["sh", "-c", "exit 3"], phase="before")
    planned = shop.plan(migrate, kube.config_map("app", mode="slow"), kube.config_map("new"), web(replicas=1))
    with pytest.raises(RolloutDoomed, match="Job/migrate"):
        shop.apply(planned)
    assert namespace.get("configmap", "app")["data"] == {"mode": "fast"}
    assert namespace.find("configmap", "new") is None
    assert namespace.get("deployment", "web")["spec"]["replicas"] == 0


def test_what_a_job_of_the_phase_before_names_and_is_new_is_made_before_it(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    image = kube.image("test.local/dg-box:1")
    check = 'test "$WORD" = hello && test "$MODE" = fast && test -f /etc/app/mode'
    migrate = kube.job("migrate", image, ["sh", "-c", check], phase="before")
    pod = migrate["spec"]["template"]["spec"]
    pod["serviceAccountName"] = "migrator"
    pod["containers"][0] |= {
        "env": [{"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}}],
        "envFrom": [{"configMapRef": {"name": "env"}}],
        "volumeMounts": [{"name": "app", "mountPath": "/etc/app"}],
    }
    pod["volumes"] = [{"name": "app", "configMap": {"name": "app"}}]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "migrator"}}
    bodies = [migrate, account, kube.secret("key", word="hello"), kube.config_map("env", MODE="fast")]
    bodies += [kube.config_map("app", mode="fast"), web()]
    planned = shop.release(*bodies)
    assert planned.notes == ()
    bodies[3] = kube.config_map("env", MODE="slow")
    assert shop.plan(*bodies).notes == ("Job/migrate runs before ConfigMap/env is changed, and sees what is there now",)


def test_a_job_of_the_phase_after_runs_at_the_end(shop: Deployer, namespace: kube.Namespace) -> None:
    image = kube.image("test.local/dg-box:1")
    shop.release(kube.job("warm-up", image, ["true"], phase="after"), kube.config_map("app"))
    assert namespace.get("job", "warm-up")["status"]["succeeded"] == 1


# What is not part of the release any more


def test_prune_removes_what_is_left_of_the_last_release(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("old", "anew", "older")
    shop.release(*(kube.config_map(name, a="1") for name in names), kube.config_map("kept"))
    shop.release(*(kube.config_map(name, a="1") for name in names[:2]), kube.config_map("kept"))
    shop.set(prune=True)
    planned = shop.plan(kube.config_map("kept"))
    assert actions(planned) == {
        "ConfigMap/kept": "none",
        "ConfigMap/old": "remove",
        "ConfigMap/anew": "remove",
        "ConfigMap/older": "remove",
    }
    namespace.kubectl("delete", "configmap", "anew")
    namespace.apply(kube.config_map("anew", b="2"), manager="somebody")
    capsys.readouterr()
    shop.apply(planned)
    assert namespace.find("configmap", "old") is None
    assert namespace.find("configmap", "older") is None
    assert namespace.get("configmap", "anew")["data"] == {"b": "2"}
    assert "ConfigMap/anew was made anew by somebody since the plan, and stays" in capsys.readouterr().out
    assert set(actions(shop.plan(kube.config_map("kept"))).values()) == {"none"}


# Records


def test_the_record_knows_the_release_but_no_secret_and_only_two_are_kept(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    word = uuid.uuid4().hex
    coded = base64.b64encode(word.encode()).decode()
    for number in range(4):
        shop.release(kube.config_map("app", number=str(number)), kube.secret("key", word=word), version=f"v{number}")
    found = recorded(namespace)
    assert sorted(found) == ["deploy-guard-shop-3", "deploy-guard-shop-4"]
    assert found["deploy-guard-shop-4"]["version"] == "v3"
    assert word not in json.dumps(found)
    assert coded not in json.dumps(found)
    applied = {one["ref"]["key"]["name"]: one["applied"] for one in found["deploy-guard-shop-4"]["objects"]}
    assert applied["app"]["data"] == {"number": "3"}


def test_a_record_too_large_for_one_secret_is_kept_in_several(
    shop: Deployer, namespace: kube.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_SIZE", 150)
    bodies = [kube.config_map(f"app-{number}", text=uuid.uuid4().hex) for number in range(5)]
    for _ in range(3):
        bodies[0]["data"] = {"text": uuid.uuid4().hex}
        shop.release(*bodies)
    found = namespace.all("secrets", "-l", f"deploy-guard/service={SERVICE}")
    assert {one["metadata"]["labels"]["deploy-guard/sequence"] for one in found} == {"2", "3"}
    assert len(found) > 4
    record = records.last(shop.api, namespace.name, SERVICE)
    assert record is not None
    assert record.sequence == 3
    assert [one.applied["data"] for one in record.objects] == [one["data"] for one in bodies]
    gone = next(name for one in found if (name := one["metadata"]["name"]).startswith("deploy-guard-shop-3-"))
    namespace.kubectl("delete", "secret", gone)  # as if its write had been cut off
    record = records.last(shop.api, namespace.name, SERVICE)
    assert record is not None
    assert record.sequence == 2
    records.back_to(shop.api, namespace.name, SERVICE, 0)
    assert records.last(shop.api, namespace.name, SERVICE) is None


# An API server that is away


def test_an_apply_goes_on_when_the_api_server_is_back(namespace: kube.Namespace, tmp_path: Path) -> None:
    with kube.Relay(tmp_path) as relay, Deployer.of(namespace.name, relay.kubeconfig) as shop:
        planned = shop.plan(*(kube.config_map(f"app-{number}", a="1") for number in range(200)))
        seen: list[str] = []

        def cut(line: str) -> None:
            if not seen:
                relay.refuse()
                threading.Timer(2, relay.resume).start()
            seen.append(line)

        shop.progress = cut
        began = time.monotonic()
        shop.apply(planned)
        assert seen[0].startswith("applied ")
        assert time.monotonic() - began > 2
    assert len(namespace.all("configmaps")) >= 200
    assert len(recorded(namespace)["deploy-guard-shop-1"]["objects"]) == 200
