"""Plans on a real cluster: what a release would change is known before, and nothing is changed by looking."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube
import pytest
from deploying import Deployer, actions, diffs

from deploy_guard.drivers.kubernetes import planning
from deploy_guard.errors import PlanRejected, RolloutDoomed

WORD = "hunter2-" + uuid.uuid4().hex
"""A value that must show nowhere."""


@pytest.fixture
def shop(namespace: kube.Namespace) -> Iterator[Deployer]:
    with Deployer.of(namespace.name) as made:
        yield made


def web(replicas: int = 1, **container: Any) -> kube.Body:
    return kube.deployment("web", kube.PAUSE, replicas=replicas, **container)


def service(port: int = 80) -> kube.Body:
    spec = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


# What it says


def test_a_first_plan_shows_all_that_will_be_there(shop: Deployer) -> None:
    planned = shop.plan(kube.config_map("app", mode="fast"), web())
    assert actions(planned) == {"ConfigMap/app": "create", "Deployment/web": "create"}
    assert diffs(planned)["ConfigMap/app"] == ["+ data.mode: fast"]
    assert f"+ spec.template.spec.containers[main].image: {kube.PAUSE}" in diffs(planned)["Deployment/web"]
    assert planned.previous is None
    assert planned.sequence == 0
    assert planned.notes == ()


def test_looking_changes_nothing(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(kube.config_map("app", mode="fast"), kube.secret("key", word="old"), web(replicas=0))
    namespace.apply(kube.config_map("other", a="1"), server_side=False)
    shop.set(adopt=True, prune=True)
    before = namespace.versions()
    planned = shop.plan(
        kube.config_map("app", mode="slow"), kube.config_map("other", a="2"), web(replicas=2), service()
    )
    assert set(actions(planned).values()) == {"create", "change", "remove"}
    assert namespace.versions() == before


def test_only_what_differs_is_shown(shop: Deployer) -> None:
    shop.release(kube.config_map("app", mode="fast", kept="a"), web(), service())
    planned = shop.plan(
        kube.config_map("app", mode="slow", kept="a"), web(env=[{"name": "A", "value": "1"}]), service()
    )
    assert diffs(planned) == {
        "ConfigMap/app": ["- data.mode: fast", "+ data.mode: slow"],
        "Deployment/web": [
            "+ spec.template.spec.containers[main].env[A].name: A",
            '+ spec.template.spec.containers[main].env[A].value: "1"',
        ],
    }
    assert actions(planned)["Service/web"] == "none"
    assert planned.previous == "v1.0.0"


def test_a_field_that_the_release_drops_is_shown_as_gone(shop: Deployer) -> None:
    shop.release(kube.config_map("app", mode="fast", old="x"))
    assert diffs(shop.plan(kube.config_map("app", mode="fast"))) == {"ConfigMap/app": ["- data.old: x"]}


def test_the_same_release_again_is_unchanged_however_the_server_writes_its_values(shop: Deployer) -> None:
    resources = {"limits": {"cpu": "1000m", "memory": "0.5Gi"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"word": "old"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "empty"}}
    port = [{"containerPort": 80}]
    bodies = [web(resources=resources, ports=port), secret, account, service()]
    shop.release(*bodies)
    planned = shop.plan(*bodies)
    assert set(actions(planned).values()) == {"none"}
    assert planned.notes == ()


def test_an_entry_of_string_data_that_is_dropped_goes(shop: Deployer, namespace: kube.Namespace) -> None:
    def secret(**data: str) -> kube.Body:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": data}

    shop.release(secret(a="one", b="two"))
    shop.release(secret(b="two"))
    assert list(namespace.get("secret", "key")["data"]) == ["b"]


def test_objects_are_planned_in_the_order_of_their_apply(shop: Deployer) -> None:
    planned = shop.plan(
        kube.job("after", kube.PAUSE, [], phase="after"),
        web(),
        kube.config_map("app"),
        kube.job("before", kube.PAUSE, [], phase="before"),
    )
    assert list(actions(planned)) == ["Job/before", "ConfigMap/app", "Deployment/web", "Job/after"]


# Secrets


def test_a_secret_shows_in_no_part_of_a_plan(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(kube.secret("key", word="old" + WORD, kept=WORD))
    patch = json.dumps({"stringData": {"word": "drifted" + WORD}})
    namespace.kubectl("patch", "secret", "key", "--type=merge", "-p", patch)
    with pytest.raises(PlanRejected) as caught:
        shop.plan(kube.secret("key", word="new" + WORD))
    coded = [base64.b64encode((lead + WORD).encode()).decode() for lead in ("", "old", "new", "drifted")]
    assert "data.word belongs to kubectl-patch" in str(caught.value)
    assert "Secret/key data.word was changed since the last release (by kubectl-patch)" in str(caught.value)
    shop.set(adopt=("kubectl-patch",))
    planned = shop.plan(kube.secret("key", word="new" + WORD))
    assert "+ data.word: (secret value, changed)" in diffs(planned)["Secret/key"]
    assert "- data.kept: (secret value)" in diffs(planned)["Secret/key"]
    for text in (str(caught.value), str(planned), *planned.notes, *(one.diff for one in planned.objects)):
        assert WORD not in text
        assert not any(one in text for one in coded)


@pytest.mark.parametrize(
    "part",
    [
        {"data": {"word": 12345678}},
        {"data": {"word": WORD + "!"}},
        {"stringData": {"word": {"inner": WORD}}},
        {"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": WORD}},
        {"type": "kubernetes.io/tls", "stringData": {"tls.crt": WORD}},
    ],
)
def test_a_secret_that_the_server_refuses_is_told_without_its_value(shop: Deployer, part: dict[str, Any]) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, **part}
    with pytest.raises(PlanRejected, match="Secret/key") as caught:
        shop.plan(body)
    assert WORD not in str(caught.value)
    assert "12345678" not in str(caught.value)


def test_the_digest_tells_plans_apart_but_not_the_values_of_secrets(shop: Deployer) -> None:
    def digest(mode: str, word: str) -> str:
        return planning.digest(shop.plan(kube.config_map("app", mode=mode), kube.secret("key", word=word)))

    assert digest("fast", "a") == digest("fast", "b")
    assert digest("fast", "a") != digest("slow", "a")


# What is refused


def test_everything_that_is_wrong_is_told_at_once_by_object(shop: Deployer, namespace: kube.Namespace) -> None:
    wrong = kube.deployment("wrong", kube.PAUSE)
    wrong["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(PlanRejected) as caught:
        shop.plan(
            kube.config_map("good", a="1"),
            {**kube.config_map("typo"), "dta": {}},
            wrong,
            {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}},
            {"apiVersion": "apps/v2", "kind": "Deployment", "metadata": {"name": "new"}},
            kube.config_map("Bad_Name"),
        )
    text = str(caught.value)
    assert "ConfigMap/typo (k8s/app.yaml, document 2): " in text
    assert ".dta: field not declared in schema" in text
    assert "Deployment/wrong (k8s/app.yaml, document 3): spec.template.metadata.labels: Invalid value" in text
    assert "Widget/w (k8s/app.yaml, document 4): the API server knows no Widget of example.com/v1" in text
    assert "it knows Deployment of apps/v1" in text
    assert "metadata.name" in text
    assert "ConfigMap/good" not in text
    assert not namespace.all("configmaps,deployments", "-l", "app=web")


def test_a_namespace_that_does_not_exist_is_told_once_with_the_command_that_makes_it(cluster: str) -> None:
    with Deployer.of("dg-test-missing") as shop, pytest.raises(PlanRejected) as caught:
        shop.plan(kube.config_map("a"), kube.config_map("b"))
    assert str(caught.value).count("the namespace dg-test-missing does not exist") == 1
    assert "create namespace dg-test-missing" in caught.value.hint


def test_a_quota_that_is_used_up_is_told_in_the_words_of_the_server(shop: Deployer, namespace: kube.Namespace) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
    namespace.apply({**quota, "spec": {"hard": {"count/configmaps": "0"}}})
    status = kube.eventually(lambda: namespace.get("resourcequota", "few").get("status", {}).get("hard"))
    assert status == {"count/configmaps": "0"}
    with pytest.raises(PlanRejected, match=r"ConfigMap/a .*: .*exceeded quota: few"):
        shop.plan(kube.config_map("a"))


def test_an_admission_policy_that_rejects_is_told_in_its_own_words(shop: Deployer, namespace: kube.Namespace) -> None:
    name = f"{namespace.name}-owner"
    match = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}}
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    check = {"expression": "has(object.metadata.labels)", "message": "each ConfigMap has an owner"}
    constraints = {"resourceRules": [match], "namespaceSelector": here}
    policy = api | {
        "kind": "ValidatingAdmissionPolicy",
        "spec": {"matchConstraints": constraints, "validations": [check]},
    }
    bound = {"policyName": name, "validationActions": ["Deny"]}
    kube.kubectl("apply", "-f", "-", stdin=json.dumps(policy))
    kube.kubectl(
        "apply", "-f", "-", stdin=json.dumps(api | {"kind": "ValidatingAdmissionPolicyBinding", "spec": bound})
    )
    try:

        def refused() -> str:
            try:
                shop.plan(kube.config_map("a"), web())
            except PlanRejected as error:
                return str(error)
            return ""

        text = kube.eventually(refused)
    finally:
        kube.kubectl("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", name)
    assert "ConfigMap/a (k8s/app.yaml, document 1): " in text
    assert "each ConfigMap has an owner" in text
    assert "Deployment" not in text


def test_an_object_that_is_being_deleted_is_waited_for_by_the_user(shop: Deployer, namespace: kube.Namespace) -> None:
    held = kube.config_map("held")
    held["metadata"]["finalizers"] = ["example.com/held"]
    namespace.apply(held)
    namespace.kubectl("delete", "configmap", "held", "--wait=false")
    try:
        with pytest.raises(PlanRejected, match=r"ConfigMap/held .* is being deleted"):
            shop.plan(kube.config_map("held", a="1"))
    finally:
        namespace.kubectl("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


# Conflicts, and taking over


def test_a_conflict_names_the_field_the_manager_and_the_setting_that_helps(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    namespace.apply(kube.config_map("app", mode="fast"), server_side=False)
    with pytest.raises(PlanRejected) as caught:
        shop.plan(kube.config_map("app", mode="slow"))
    assert "ConfigMap/app (k8s/app.yaml, document 1): data.mode belongs to kubectl-client-side-apply" in str(
        caught.value
    )
    assert caught.value.hint.startswith("adopt = true takes these fields over; or ")
    assert "remove data.mode from the manifest" in caught.value.hint


def test_a_first_day_with_hundreds_of_conflicts_can_still_be_read(shop: Deployer, namespace: kube.Namespace) -> None:
    fields = {f"f{number:02}": "1" for number in range(15)}
    names = [f"app-{number}" for number in range(110)]
    namespace.apply(*(kube.config_map(name, **fields) for name in names), server_side=False)
    with pytest.raises(PlanRejected) as caught:
        shop.plan(*(kube.config_map(name, **dict.fromkeys(fields, "2")) for name in names))
    lines = caught.value.what.splitlines()
    assert len(lines) == 102
    assert lines[-1] == "  … and 10 more"
    assert lines[1].endswith("; … and 5 more, and has another value there")
    assert len(caught.value.hint) < 300


def test_a_manager_that_adopt_true_does_not_cover_is_named_in_the_setting(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(web(replicas=1))
    namespace.kubectl("scale", "deployment/web", "--replicas=2")
    shop.set(adopt=True)
    with pytest.raises(PlanRejected) as caught:
        shop.plan(web(replicas=3))
    assert "spec.replicas belongs to kubectl (scale)" in str(caught.value)
    assert 'adopt = ["kubectl-client-side-apply", "helm", "kubectl"]' in caught.value.hint
    shop.set(adopt=("kubectl",))
    planned = shop.plan(web(replicas=3))
    assert "@ taken over from kubectl: spec.replicas" in diffs(planned)["Deployment/web"]


def test_adopt_lists_what_it_takes_and_what_the_old_manager_left(shop: Deployer, namespace: kube.Namespace) -> None:
    namespace.apply(kube.config_map("app", mode="fast", same="x", leftover="1"), server_side=False)
    shop.set(adopt=True)
    planned = shop.plan(kube.config_map("app", mode="slow", same="x"))
    assert diffs(planned)["ConfigMap/app"] == [
        '- data.leftover: "1"',
        "- data.mode: fast",
        "+ data.mode: slow",
        "@ taken over from kubectl-client-side-apply: data.mode, data.same",
    ]
    assert planned.objects[0].taken == (("kubectl-client-side-apply", "Update"),)


def test_what_the_server_fills_in_again_is_no_change_of_an_adoption(shop: Deployer, namespace: kube.Namespace) -> None:
    namespace.apply(web(), server_side=False)  # client-side apply owns all defaults too
    shop.set(adopt=True)
    lines = diffs(shop.plan(web()))["Deployment/web"]
    assert len(lines) == 1
    assert lines[0].startswith("@ taken over from kubectl-client-side-apply: spec.")


def test_a_named_port_that_gets_another_number_can_be_adopted(shop: Deployer, namespace: kube.Namespace) -> None:
    namespace.apply(service(80), server_side=False)
    shop.set(adopt=True)
    planned = shop.plan(service(81))
    assert "+ spec.ports[81/TCP].port: 81" in diffs(planned)["Service/web"]
    assert "- spec.ports[80/TCP].port: 80" in diffs(planned)["Service/web"]
    shop.apply(planned)
    assert [one["port"] for one in namespace.get("service", "web")["spec"]["ports"]] == [81]


def test_an_object_that_only_gets_another_owner_says_so(shop: Deployer, namespace: kube.Namespace) -> None:
    namespace.apply(kube.config_map("app", mode="fast"), server_side=False)
    planned = shop.plan(kube.config_map("app", mode="fast"))
    assert diffs(planned)["ConfigMap/app"] == [
        "@ nothing but the field manager: deploy-guard owns these fields from now on"
    ]
    assert "kubectl-client-side-apply owns fields of ConfigMap/app too" in planned.notes[0]


# Drift, and what is left behind


def test_what_others_changed_is_told_apart_from_what_the_release_changes(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(kube.config_map("app", mode="fast", size="3", other="a"), kube.config_map("gone"), web(replicas=0))
    patch = json.dumps({"data": {"size": "5"}})
    namespace.kubectl("patch", "configmap", "app", "--type=merge", "-p", patch)
    namespace.kubectl("delete", "configmap", "gone")
    shop.set(adopt=("kubectl-patch",))
    planned = shop.plan(
        kube.config_map("app", mode="slow", size="3", other="a"), kube.config_map("gone"), web(replicas=0)
    )
    assert planned.notes == (
        'drift: ConfigMap/app data.size is "5" (by kubectl-patch), the last release set "3"; this release sets it back',
        "drift: ConfigMap/gone was deleted since the last release; this release creates it again",
    )
    assert diffs(planned)["ConfigMap/app"][-1].startswith('@ drift: data.size is "5"')
    assert actions(planned) == {"ConfigMap/app": "change", "ConfigMap/gone": "create", "Deployment/web": "none"}


def test_a_change_that_left_no_owner_is_told_though_nothing_conflicts(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(web(replicas=1))
    namespace.kubectl("scale", "deployment/web", "--replicas=0")  # the server notes no owner of a zero
    planned = shop.plan(web(replicas=1))
    assert planned.notes == (
        "drift: Deployment/web spec.replicas is 0, the last release set 1; this release sets it back",
    )
    assert diffs(planned)["Deployment/web"][:2] == ["- spec.replicas: 0", "+ spec.replicas: 1"]


def test_what_others_changed_and_the_release_no_longer_sets_is_left_alone(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(web(replicas=1))
    namespace.kubectl("scale", "deployment/web", "--replicas=2")
    scaled = web()
    del scaled["spec"]["replicas"]
    planned = shop.plan(scaled)
    assert planned.notes == (
        "drift: Deployment/web spec.replicas is 2 (by kubectl), the last release set 1; this release leaves it so",
    )


def test_an_object_that_was_made_anew_by_somebody_is_drift(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(kube.config_map("app", a="1"))
    namespace.kubectl("delete", "configmap", "app")
    namespace.apply(kube.config_map("app", b="2"), manager="somebody")
    planned = shop.plan(kube.config_map("app", a="1"))
    assert "ConfigMap/app was deleted, and made again, since the last release (by somebody)" in planned.notes[0]


def test_what_is_not_in_the_release_any_more_is_listed_with_the_command(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(kube.config_map("old"), kube.config_map("new", a="1"))
    for _ in range(2):  # it stays on the list
        planned = shop.release(kube.config_map("new", a="1"))
        assert [str(ref) for ref in planned.left] == ["ConfigMap/old"]
        assert actions(planned) == {"ConfigMap/new": "none"}
        assert (
            "left behind: ConfigMap/old is not in this release any more, and stays (prune = false)" in planned.notes[0]
        )
        assert f"-n {namespace.name} delete configmap/old" in planned.notes[0]
    namespace.kubectl("delete", "configmap", "old")
    assert shop.plan(kube.config_map("new", a="1")).left == ()


def test_prune_plans_to_remove_what_is_still_ours(shop: Deployer, namespace: kube.Namespace) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": claim}
    names = ("old", "anew", "taken")
    shop.release(*(kube.config_map(name, a="1") for name in names), volume, kube.config_map("kept"))
    namespace.kubectl("delete", "configmap", "anew")
    namespace.apply(kube.config_map("anew", a="1"), manager="somebody")
    namespace.kubectl("replace", "-f", "-", stdin=json.dumps(kube.config_map("taken", a="2")))
    shop.set(prune=True)
    planned = shop.plan(kube.config_map("kept"))
    assert actions(planned) == {"ConfigMap/kept": "none", "ConfigMap/old": "remove"}
    assert [str(ref) for ref in planned.left] == ["PersistentVolumeClaim/disk"]
    said = "\n".join(planned.notes)
    assert "ConfigMap/anew is not in this release any more, and stays: somebody deleted it and made another" in said
    assert "ConfigMap/taken is not in this release any more, and stays: deploy-guard owns none of its fields" in said
    assert "PersistentVolumeClaim/disk is not in this release any more, and stays (it is never deleted)" in said
    assert diffs(planned)["ConfigMap/old"] == ['- data.a: "1"']


# New namespaces and kinds


def definition(group: str, *versions: str) -> kube.Body:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    listed = [{"name": one, "served": True, "storage": one == versions[0], "schema": schema} for one in versions]
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": listed},
    }


def widget(group: str, version: str = "v1") -> kube.Body:
    return {"apiVersion": f"{group}/{version}", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}


@pytest.fixture
def group(namespace: kube.Namespace) -> Iterator[str]:
    name = f"{namespace.name}.example.com"
    yield name
    kube.kubectl("delete", "crd", f"widgets.{name}", "--ignore-not-found")


def test_a_new_kind_is_planned_before_its_objects_and_what_cant_be_checked_is_said(shop: Deployer, group: str) -> None:
    planned = shop.plan(widget(group), definition(group, "v1"))
    assert list(actions(planned).items()) == [
        (f"CustomResourceDefinition/widgets.{group}", "create"),
        ("Widget/w", "create"),
    ]
    assert planned.objects[1].after is None
    assert planned.notes == ("can't be checked yet, its kind comes with this release: Widget/w",)


def test_a_version_that_comes_with_the_release_of_a_kind_that_is_there_is_refused(
    shop: Deployer, namespace: kube.Namespace, group: str
) -> None:
    shop.release(definition(group, "v1"), widget(group))
    assert set(actions(shop.plan(definition(group, "v1"), widget(group))).values()) == {"none"}
    with pytest.raises(PlanRejected) as caught:
        shop.plan(definition(group, "v1", "v2"), widget(group, "v2"))
    assert f"the API server gets {group}/v2 only with this release, and knows Widget of {group}/v1 now" in str(
        caught.value
    )
    assert "release the CustomResourceDefinition first" in caught.value.hint


def test_a_new_namespace_is_planned_before_what_is_in_it_and_then_applied(cluster: str) -> None:
    name = f"dg-test-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        with Deployer.of(name) as shop:
            planned = shop.plan(kube.config_map("app", a="1"), body)
            assert list(actions(planned)) == [f"Namespace/{name}", "ConfigMap/app"]
            assert planned.notes == ("can't be checked yet, its namespace comes with this release: ConfigMap/app",)
            shop.apply(planned)
            before = kube.kubectl("get", "namespace", name, "-o", "json", "--show-managed-fields")
            assert set(actions(shop.plan(kube.config_map("app", a="1"), body)).values()) == {"none"}
            assert kube.kubectl("get", "namespace", name, "-o", "json", "--show-managed-fields") == before
    finally:
        kube.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


# Jobs


def test_a_finished_job_that_is_the_same_stays_and_one_that_differs_is_refused_with_a_way_out(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    image = kube.image("test.local/dg-box:1")
    once = kube.job("once", image, ["true"])
    shop.release(once)
    kube.eventually(lambda: namespace.get("job", "once").get("status", {}).get("succeeded"))
    assert actions(shop.plan(once)) == {"Job/once": "none"}
    with pytest.raises(PlanRejected) as caught:
        shop.plan(kube.job("once", image, ["true", "again"]))
    assert "Job/once (k8s/app.yaml, document 1): spec.template: Invalid value: field is immutable" in str(caught.value)
    assert "deploy-guard/phase" in caught.value.hint


def test_a_job_of_a_phase_runs_once_for_each_release_that_changes_something(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    image = kube.image("test.local/dg-box:1")

    def bodies(mode: str, *words: str) -> list[kube.Body]:
        return [kube.job("migrate", image, ["true", *words], phase="before"), kube.config_map("app", mode=mode)]

    shop.release(*bodies("fast"))
    assert set(actions(shop.plan(*bodies("fast"))).values()) == {"none"}
    planned = shop.plan(*bodies("slow"))
    assert diffs(planned)["Job/migrate"] == ["@ runs again: the release changes something else"]
    planned = shop.plan(*bodies("fast", "more"))
    assert actions(planned) == {"Job/migrate": "change", "ConfigMap/app": "none"}
    assert diffs(planned)["Job/migrate"] == [
        '- spec.template.spec.containers[main].command: ["true"]',
        '+ spec.template.spec.containers[main].command: ["true", "more"]',
        "@ a Job's template can't be changed: the old Job is replaced, and runs again",
    ]
    namespace.kubectl("delete", "job", "migrate")  # as its time to live does
    assert set(actions(shop.plan(*bodies("fast"))).values()) == {"none"}
    assert actions(shop.plan(*bodies("slow"))) == {"Job/migrate": "create", "ConfigMap/app": "change"}


def test_a_job_of_a_phase_that_did_not_complete_runs_again(shop: Deployer, namespace: kube.Namespace) -> None:
    migrate = kube.job("migrate", kube.image("test.local/dg-box:1"), ["false"], phase="before")
    with pytest.raises(RolloutDoomed):
        shop.release(migrate)
    planned = shop.plan(migrate)
    assert diffs(planned) == {"Job/migrate": ["@ runs again: it did not complete"]}


def test_the_annotation_of_a_phase_is_for_jobs(shop: Deployer) -> None:
    body = kube.config_map("app")
    body["metadata"]["annotations"] = {"deploy-guard/phase": "before"}
    with pytest.raises(PlanRejected, match="the annotation deploy-guard/phase is 'before', of a ConfigMap"):
        shop.plan(body, kube.job("a", kube.PAUSE, [], phase="during"))


# Rights

RULES = [
    {
        "apiGroups": [""],
        "resources": ["configmaps", "secrets"],
        "verbs": ["get", "list", "watch", "create", "patch", "update", "delete"],
    },
    {
        "apiGroups": ["apps"],
        "resources": ["deployments"],
        "verbs": ["get", "list", "watch", "create", "patch", "update", "delete"],
    },
    {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
]


def test_a_service_account_with_just_the_rights_that_are_needed_can_plan_and_apply(
    namespace: kube.Namespace, tmp_path: Path
) -> None:
    with Deployer.of(namespace.name, namespace.account(RULES, tmp_path)) as shop:
        shop.release(kube.config_map("app", a="1"), kube.secret("key", word="x"), web(replicas=0))
        shop.release(kube.config_map("app", a="2"), kube.secret("key", word="y"), web(replicas=0))


def test_all_missing_rights_are_told_and_nothing_else(namespace: kube.Namespace, tmp_path: Path) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "delete"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "create"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "create", "patch", "delete"]},
    ]
    config = namespace.account(rules, tmp_path)
    with Deployer.of(namespace.name, config) as shop, pytest.raises(PlanRejected) as caught:
        shop.plan(kube.config_map("app", a="1"), web())
    text = caught.value.what
    assert text.splitlines() == [
        "nothing can be applied:",
        f"  the user system:serviceaccount:{namespace.name}:deployer lacks these rights:",
        f"      patch configmaps in the namespace {namespace.name} (app)",
        f"      list, watch events in the namespace {namespace.name}",
        f"      get, list, watch pods in the namespace {namespace.name}",
        f"      get pods/log in the namespace {namespace.name}",
        f"      delete secrets in the namespace {namespace.name}",
        f"      watch deployments.apps in the namespace {namespace.name}",
        f"      list, watch replicasets.apps in the namespace {namespace.name}",
    ]
    assert "docs/kubernetes.md" in caught.value.hint


def test_rights_for_single_names_are_enough(namespace: kube.Namespace, tmp_path: Path) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "patch", "delete"],
            "resourceNames": ["app"],
        },
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "create", "delete"]},
    ]
    with Deployer.of(namespace.name, namespace.account(rules, tmp_path)) as shop:
        assert actions(shop.plan(kube.config_map("app", a="1"))) == {"ConfigMap/app": "create"}
        with pytest.raises(PlanRejected, match=r"get, patch.* configmaps in the namespace \S+ \(other\)"):
            shop.plan(kube.config_map("app", a="1"), kube.config_map("other"))


def test_a_role_that_grants_more_than_one_has_is_refused_in_the_words_of_the_server(
    namespace: kube.Namespace, tmp_path: Path
) -> None:
    verbs = ["get", "list", "watch", "create", "patch", "update", "delete"]
    rules = [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": verbs},
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "more"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    }
    config = namespace.account(rules, tmp_path)
    with Deployer.of(namespace.name, config) as shop, pytest.raises(PlanRejected, match="attempting to grant"):
        shop.plan(role)
