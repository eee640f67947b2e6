"""The way back on a real cluster: everything is as it was, and belongs to whom it belonged."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import kube
import pytest
from deploying import SERVICE, Deployer, actions

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.kubernetes import merging, owners, restoring, verifying
from deploy_guard.errors import RollbackFailed

KINDS = "configmaps,services,secrets,deployments"


@pytest.fixture
def shop(namespace: kube.Namespace) -> Iterator[Deployer]:
    with Deployer.of(namespace.name) as made:
        yield made


def web(replicas: int | None = 0, image: str = kube.PAUSE, **container: Any) -> kube.Body:
    made = kube.deployment("web", image, replicas=replicas or 0, **container)
    if replicas is None:
        del made["spec"]["replicas"]
    return made


def service(port: int = 80) -> kube.Body:
    spec = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def started(shop: Deployer, *bodies: kube.Body) -> dict[str, Any]:
    """Plan, take the snapshot and apply; returns the snapshot as another process would read it."""
    planned = shop.plan(*bodies)
    data = restoring.snapshot(shop.api, planned, shop.config, shop.target, SERVICE)
    text = json.dumps(data)
    shop.apply(planned, "v2.0.0")
    found: dict[str, Any] = json.loads(text)
    return found


def back(shop: Deployer, data: dict[str, Any], seconds: float = 60) -> None:
    restoring.rollback(shop.api, data, Deadline.after(seconds), shop.config, shop.target, shop.progress)
    assert verifying.differences(shop.api, data, Deadline.after(30)) == []


def state(namespace: kube.Namespace) -> dict[str, Any]:
    """Everything in the namespace as somebody wants it, and who owns what of it."""
    found = {}
    for kind in KINDS.split(","):
        for one in namespace.all(kind, "--show-managed-fields"):
            if one["metadata"]["name"] in ("kube-root-ca.crt",):
                continue
            owned = {
                (entry["manager"], entry["operation"]): sorted(owners.fields(entry))
                for entry in owners.entries(one)
                if entry.get("subresource") != "status" and entry["manager"] != "kube-controller-manager"
            }
            found[f"{kind}/{one['metadata']['name']}"] = merging.comparable(one), owned
    return found


FIRST = (kube.config_map("app", mode="fast", old="yes"), kube.secret("key", word="first"), service(), web())
SECOND = (
    kube.config_map("app", mode="slow", new="yes"),
    kube.secret("key", word="second", more="x"),
    service(81),
    web(1, env=[{"name": "MODE", "value": "slow"}]),
)


def test_everything_is_as_it_was_and_belongs_to_whom_it_belonged(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(*FIRST)
    before = state(namespace)
    data = started(shop, *SECOND)
    assert namespace.get("configmap", "app")["data"] == {"mode": "slow", "new": "yes"}
    back(shop, data)
    assert state(namespace) == before
    assert set(actions(shop.plan(*FIRST)).values()) == {"none"}
    shop.release(*SECOND)  # and meets no conflict


def test_a_first_release_that_is_taken_back_leaves_nothing(shop: Deployer, namespace: kube.Namespace) -> None:
    before = state(namespace)
    data = started(shop, *SECOND, kube.job("move", kube.image("rollback-test:1"), ["true"], phase="before"))
    back(shop, data)
    assert state(namespace) == before
    assert namespace.all("jobs,pods,replicasets") == []


def test_values_of_secrets_are_not_in_the_snapshot(shop: Deployer, namespace: kube.Namespace) -> None:
    namespace.apply(kube.secret("key", word="first-word"), server_side=False)
    shop.set(adopt=True)
    data = started(shop, kube.secret("key", word="second-word"))
    text = json.dumps(data)
    for word in ("Zmlyc3Qtd29yZA", "c2Vjb25kLXdvcmQ", "first-word", "second-word"):
        assert word not in text
    back(shop, data)
    restored = namespace.get("secret", "key")
    assert restored["data"] == {"word": "Zmlyc3Qtd29yZA=="}
    assert "Zmlyc3Qtd29yZA" in restored["metadata"]["annotations"][merging.LAST_APPLIED]
    assert {one["manager"] for one in owners.entries(restored)} == {"kubectl-client-side-apply"}
    assert [one["metadata"]["name"] for one in namespace.all("secrets")] == ["key"]


def test_what_was_pruned_is_there_again(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.set(prune=True)
    shop.release(*FIRST)
    before = state(namespace)
    data = started(shop, kube.config_map("other", a="b"))
    assert namespace.find("deployment", "web") is None
    back(shop, data)
    assert state(namespace) == before
    back(shop, data)
    assert state(namespace) == before


def test_what_others_changed_since_stays_and_is_told(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(kube.config_map("app", mode="fast", both="a"), web(None))
    data = started(
        shop, kube.config_map("app", mode="slow", both="b"), web(None, env=[{"name": "MODE", "value": "slow"}])
    )
    namespace.kubectl("scale", "deployment/web", "--replicas=2")
    namespace.kubectl("patch", "configmap", "app", "-p", '{"data": {"both": "c", "theirs": "d"}}')
    capsys.readouterr()
    back(shop, data)
    told = capsys.readouterr().out
    assert namespace.get("deployment", "web")["spec"]["replicas"] == 2
    assert namespace.get("configmap", "app")["data"] == {"mode": "fast", "both": "a", "theirs": "d"}
    assert "Deployment/web spec.replicas stays as somebody changed it since: 2" in told
    assert "ConfigMap/app data.theirs stays as somebody changed it since: d" in told
    assert "ConfigMap/app data.both is as before, though somebody else changed it too: a" in told
    planned = shop.plan(kube.config_map("app", mode="fast", both="a"), web(None))
    assert set(actions(planned).values()) == {"none"}


def test_a_second_time_it_changes_nothing(shop: Deployer) -> None:
    shop.release(*FIRST)
    data = started(shop, *SECOND, kube.config_map("more", a="b"))
    back(shop, data)
    sent: list[tuple[str, str]] = []
    api = cast(Any, Meddling(shop.api, lambda method, path: sent.append((method, path))))
    restoring.rollback(api, data, Deadline.after(60), shop.config, shop.target, shop.progress)
    assert sent
    assert [one for one in sent if one[0] != "GET" and "selfsubject" not in one[1]] == []
    assert verifying.differences(shop.api, data, Deadline.after(30)) == []


def test_the_release_before_can_be_taken_back_too(shop: Deployer, namespace: kube.Namespace) -> None:
    def secret(word: str) -> kube.Body:
        return kube.secret("key", word=word)

    shop.release(secret("first"))
    one = started(shop, secret("second"))
    two = started(shop, secret("third"))
    back(shop, two)
    assert base64.b64decode(namespace.get("secret", "key")["data"]["word"]) == b"second"
    back(shop, one)
    assert base64.b64decode(namespace.get("secret", "key")["data"]["word"]) == b"first"
    assert not namespace.all("secrets", "-l", "deploy-guard/secrets-before")


def test_what_was_not_healthy_before_is_not_waited_for(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.release(web(1, image="test.local/none:1"))
    data = started(shop, web(1, image="test.local/none:2"))
    back(shop, data, seconds=20)
    assert "Deployment/web was not healthy before the rollout" in capsys.readouterr().out


def test_another_process_does_it_with_the_snapshot_alone(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(*FIRST)
    before = state(namespace)
    data = started(shop, *SECOND)
    with Deployer.of(namespace.name) as other:
        back(other, data)
    assert state(namespace) == before


def test_an_apply_that_never_began_needs_nothing(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(*FIRST)
    planned = shop.plan(*SECOND, kube.config_map("more", a="b"))
    data = restoring.snapshot(shop.api, planned, shop.config, shop.target, SERVICE)
    versions = namespace.versions()
    back(shop, data)
    assert namespace.versions() == versions


def test_lost_old_values_of_a_secret_are_told_and_the_rest_is_brought_back(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    shop.release(*FIRST)
    data = started(shop, *SECOND)
    namespace.kubectl("delete", "secret", "-l", "deploy-guard/secrets-before")
    with pytest.raises(RollbackFailed, match=r"Secret/key: its old values are lost"):
        back(shop, data)
    assert namespace.get("configmap", "app")["data"] == {"mode": "fast", "old": "yes"}


def test_undo_brings_back_the_template_alone(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.set(rollback="undo")
    shop.release(kube.config_map("app", mode="fast"), web(1))
    template = namespace.get("deployment", "web")["spec"]["template"]
    data = started(shop, kube.config_map("app", mode="slow"), web(2, env=[{"name": "MODE", "value": "slow"}]))
    for _ in range(2):
        back(shop, data)
        restored = namespace.get("deployment", "web")
        assert restored["spec"]["template"] == template
        assert restored["spec"]["replicas"] == 2
    assert 'left as it is (rollback = "undo"): ConfigMap/app' in capsys.readouterr().out
    assert namespace.get("configmap", "app")["data"] == {"mode": "slow"}


def test_two_images_under_one_name_are_a_difference(shop: Deployer, namespace: kube.Namespace) -> None:
    name = kube.image("rollback-tag:1", "one")

    def app(mode: str) -> kube.Body:
        return kube.deployment("app", name, env=[{"name": "MODE", "value": mode}])

    shop.release(app("fast"))
    namespace.kubectl("rollout", "status", "deployment/app", "--timeout=30s")
    data = started(shop, app("slow"))
    (images,) = data["images"].values()
    data["images"] = {path: {"main": ["sha256:other"]} for path in data["images"]}
    with pytest.raises(
        AssertionError, match=r"Deployment/app container main runs the image .*; before .* sha256:other"
    ):
        back(shop, data)
    data["images"] = dict.fromkeys(data["images"], images)
    assert images["main"]
    back(shop, data)


def test_what_somebody_deleted_meanwhile_is_there_again(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(*FIRST)
    before = state(namespace)
    data = started(shop, *SECOND, kube.config_map("more", a="b"))
    namespace.kubectl("delete", "secret/key", "configmap/app", "configmap/more")
    back(shop, data)
    assert state(namespace) == before


class Meddling:
    """The API, with something that happens before a request."""

    def __init__(self, api: Any, meddle: Callable[[str, str], None]) -> None:
        self._api, self._meddle = api, meddle

    def request(self, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        self._meddle(method, path)
        return self._api.request(method, path, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)


class Interrupted(BaseException):
    """As a signal that ends the process."""


def test_what_somebody_writes_in_between_is_looked_at_again(shop: Deployer, namespace: kube.Namespace) -> None:
    shop.release(*FIRST)
    before = state(namespace)
    data = started(shop, *SECOND)
    times = iter("12")

    def meddle(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("configmaps/app") and (time := next(times, None)):
            namespace.kubectl("annotate", "--overwrite", "configmap/app", f"theirs={time}")

    restoring.rollback(
        cast(Any, Meddling(shop.api, meddle)), data, Deadline.after(60), shop.config, shop.target, shop.progress
    )
    found = namespace.get("configmap", "app")
    assert found["data"] == {"mode": "fast", "old": "yes"}
    assert found["metadata"]["annotations"] == {"theirs": "2"}
    namespace.kubectl("annotate", "configmap/app", "theirs-")
    assert {name: body for name, (body, _) in state(namespace).items()} == {n: body for n, (body, _) in before.items()}
    assert set(actions(shop.plan(*FIRST)).values()) == {"none"}


@pytest.mark.parametrize("put", range(1, 8))
def test_interrupted_anywhere_the_next_one_completes_it(shop: Deployer, namespace: kube.Namespace, put: int) -> None:
    shop.release(*FIRST)
    before = state(namespace)
    data = started(shop, *SECOND)
    count = itertools.count(1)

    def meddle(method: str, _path: str) -> None:
        if method == "PUT" and next(count) >= put:
            raise Interrupted

    with pytest.raises(Interrupted):
        restoring.rollback(
            cast(Any, Meddling(shop.api, meddle)), data, Deadline.after(60), shop.config, shop.target, shop.progress
        )
    back(shop, data)
    assert state(namespace) == before


def test_an_api_server_that_is_away_is_waited_for(namespace: kube.Namespace, tmp_path: Path) -> None:
    with kube.Relay(tmp_path) as relay, Deployer.of(namespace.name, relay.kubeconfig) as shop:
        shop.release(*FIRST)
        before = state(namespace)
        data = started(shop, *SECOND)
        relay.refuse()
        timer = threading.Timer(10, relay.resume)
        timer.start()
        back(shop, data)
        timer.join()
        assert state(namespace) == before


def test_what_somebody_else_made_and_what_holds_data_is_left_and_listed(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    bodies = (kube.config_map("theirs", a="b"), kube.config_map("ours", a="b"), claim)
    planned = shop.plan(*bodies)
    data = restoring.snapshot(shop.api, planned, shop.config, shop.target, SERVICE)
    namespace.apply(kube.config_map("theirs", c="d"))
    time.sleep(1.1)  # times of owners have seconds only
    shop.apply(planned)
    capsys.readouterr()
    back(shop, data)
    told = capsys.readouterr().out
    assert namespace.find("configmap", "theirs")
    assert namespace.find("configmap", "ours") is None
    assert namespace.find("persistentvolumeclaim", "disk")
    assert "left behind: ConfigMap/theirs was made by somebody else since the plan" in told
    assert "left behind: PersistentVolumeClaim/disk is new, and is never deleted" in told
    assert f"-n {namespace.name} delete persistentvolumeclaim/disk" in told


def test_fields_taken_over_from_a_client_side_apply_belong_to_it_again(
    shop: Deployer, namespace: kube.Namespace
) -> None:
    namespace.apply(*FIRST, server_side=False)
    shop.set(adopt=True)
    before = state(namespace)
    data = started(shop, *SECOND)
    back(shop, data)
    assert state(namespace) == before


def test_a_job_that_was_replaced_stays_and_is_listed(
    shop: Deployer, namespace: kube.Namespace, capsys: pytest.CaptureFixture[str]
) -> None:
    name = kube.image("rollback-test:1")
    shop.release(kube.job("move", name, ["true"], phase="before"), kube.config_map("app", a="b"))
    data = started(shop, kube.job("move", name, ["echo", "2"], phase="before"), kube.config_map("app", a="c"))
    back(shop, data)
    assert (
        "left as it is: Job/move, which the rollout replaced: what a Job did is not undone" in capsys.readouterr().out
    )
    assert namespace.get("job", "move")["spec"]["template"]["spec"]["containers"][0]["command"] == ["echo", "2"]
    assert namespace.get("configmap", "app")["data"] == {"a": "b"}


def test_an_object_takes_one_look_and_two_writes(shop: Deployer, namespace: kube.Namespace) -> None:
    def maps(value: str) -> list[kube.Body]:
        return [kube.config_map(f"app-{number}", value=value) for number in range(50)]

    shop.release(*maps("a"))
    data = started(shop, *maps("b"))
    sent: list[str] = []
    api = cast(Any, Meddling(shop.api, lambda method, path: sent.append(method) if "/configmaps/" in path else None))
    restoring.rollback(api, data, Deadline.after(60), shop.config, shop.target, shop.progress)
    assert {one["data"].get("value", "a") for one in namespace.all("configmaps")} == {"a"}
    assert (sent.count("GET"), sent.count("PUT"), len(sent)) == (50, 100, 150)


def test_a_rollout_that_never_becomes_healthy_is_taken_back(shop: Deployer, namespace: kube.Namespace) -> None:
    def stateful(image: str) -> kube.Body:
        made = kube.deployment("db", image)
        spec = {name: value for name, value in made["spec"].items() if name != "progressDeadlineSeconds"}
        return {**made, "kind": "StatefulSet", "spec": {**spec, "serviceName": "db"}}

    shop.release(web(1), stateful(kube.PAUSE))
    kube.eventually(lambda: len(namespace.all("pods", "--field-selector=status.phase=Running")) == 2)
    data = started(shop, web(1, image="test.local/none:1"), stateful("test.local/none:1"))
    assert set(data["images"]) == {one["ref"]["path"] for one in data["objects"]}
    assert all(found["main"] for found in data["images"].values())
    kube.eventually(lambda: "ImagePull" in json.dumps(namespace.all("pods", "-l", "app=db")))
    back(shop, data)
    assert set(actions(shop.plan(web(1), stateful(kube.PAUSE))).values()) == {"none"}
