"""What is applied before what."""

from __future__ import annotations

import pytest

from deploy_guard.drivers.kubernetes import order, phases
from deploy_guard.drivers.kubernetes.objects import Action, Key, Object, Planned, Ref

RBAC = "rbac.authorization.k8s.io/v1"


def body(kind: str, api_version: str = "v1", **more: object) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **more}


def planned(desired: Object, action: Action = "create", phase: str = "", name: str = "x") -> Planned:
    key = Key(desired["apiVersion"], desired["kind"], "ns", name)
    return Planned(Ref(key, f"/{name}"), action, desired, None, None, phase, order.rank(desired))


def test_what_others_need_comes_first() -> None:
    kinds = [
        body("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1"),
        body("Widget", "example.com/v1"),
        body("Deployment", "apps/v1"),
        body("Secret"),
        body("CustomResourceDefinition", "apiextensions.k8s.io/v1"),
        body("Namespace"),
    ]
    assert sorted(kinds, key=order.rank) == kinds[::-1]


@pytest.mark.parametrize(
    ("kind", "api_version", "rank"),
    [
        ("Service", "v1", order.CONFIGURATION),
        ("RoleBinding", RBAC, order.CONFIGURATION),
        ("StorageClass", "storage.k8s.io/v1", order.CONFIGURATION),
        ("CronJob", "batch/v1", order.WORKLOAD),
        ("Pod", "v1", order.WORKLOAD),
        ("HorizontalPodAutoscaler", "autoscaling/v2", order.REST),
        ("Ingress", "networking.k8s.io/v1", order.REST),
    ],
)
def test_each_kind_has_its_rank(kind: str, api_version: str, rank: int) -> None:
    assert order.rank(body(kind, api_version)) == rank


@pytest.mark.parametrize(
    ("kind", "api_version"), [("Service", "serving.knative.dev/v1"), ("Job", "batch.volcano.sh/v1")]
)
def test_a_kind_of_the_same_name_from_elsewhere_is_one_of_the_rest(kind: str, api_version: str) -> None:
    assert order.rank(body(kind, api_version)) == order.REST


# Jobs of the phase before


def job(**pod: object) -> Object:
    return body("Job", "batch/v1", spec={"template": {"spec": {"containers": [], **pod}}})


def test_a_job_names_what_its_pods_need_to_start() -> None:
    container = {
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "a"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "two", "key": "b"}}},
            {"name": "C", "value": "plain"},
        ],
        "envFrom": [{"configMapRef": {"name": "three"}}, {"secretRef": {"name": "four"}}],
    }
    sources = [{"secret": {"name": "eight"}}]
    volumes = [
        {"name": "v", "configMap": {"name": "five"}},
        {"name": "w", "secret": {"secretName": "six"}},
        {"name": "x", "persistentVolumeClaim": {"claimName": "seven"}},
        {"name": "y", "projected": {"sources": sources}},
    ]
    pod = {"serviceAccountName": "nine", "imagePullSecrets": [{"name": "ten"}]}
    found = set(phases.named(job(containers=[container], volumes=volumes, **pod)))
    assert found == {
        ("ConfigMap", "one"),
        ("Secret", "two"),
        ("ConfigMap", "three"),
        ("Secret", "four"),
        ("ConfigMap", "five"),
        ("Secret", "six"),
        ("PersistentVolumeClaim", "seven"),
        ("Secret", "eight"),
        ("ServiceAccount", "nine"),
        ("Secret", "ten"),
    }


def test_new_objects_that_a_job_needs_are_made_before_it_and_nothing_else() -> None:
    subject = {"kind": "ServiceAccount", "name": "account"}
    binding = body("RoleBinding", RBAC, subjects=[subject], roleRef={"kind": "Role", "name": "role"})
    config = planned(body("ConfigMap"), name="config")
    objects = [
        planned(job(serviceAccountName="account", volumes=[{"configMap": {"name": "config"}}]), phase="before"),
        config,
        planned(body("ConfigMap"), name="other"),
        planned(body("Namespace"), name="ns"),
        planned(body("ServiceAccount"), name="account"),
        planned(binding, name="binding"),
        planned(body("Role", RBAC), name="role"),
        planned(body("Role", RBAC), name="unused"),
    ]
    found = [one.ref.key.name for one in phases.needed_first(objects)]
    assert found == ["config", "ns", "account", "binding", "role"]
    assert phases.notes(objects) == []


def test_what_is_there_is_changed_after_the_job_and_that_is_said() -> None:
    objects = [
        planned(job(volumes=[{"configMap": {"name": "config"}}]), "change", "before", name="migrate"),
        planned(body("ConfigMap"), "change", name="config"),
    ]
    assert phases.needed_first(objects) == []
    assert phases.notes(objects) == ["Job/migrate runs before ConfigMap/config is changed, and sees what is there now"]


@pytest.mark.parametrize(("action", "phase"), [("none", "before"), ("create", "after"), ("create", "")])
def test_without_a_job_that_runs_before_nothing_is_needed_first(action: Action, phase: str) -> None:
    objects = [planned(job(volumes=[{"configMap": {"name": "config"}}]), action, phase), planned(body("ConfigMap"))]
    assert phases.needed_first(objects) == []
