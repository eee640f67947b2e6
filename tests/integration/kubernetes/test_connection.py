"""The connection against a real API server, through the real kubectl."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kube
import psutil
import pytest

from deploy_guard.drivers.kubernetes import target as target_module
from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.config import IN_CLUSTER
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import CommandFailed

APPLY = {"fieldManager": "deploy-guard", "fieldValidation": "Strict"}


class Asking:
    """A connection, and short words for what these tests ask of it."""

    def __init__(self, namespace: kube.Namespace, environ: dict[str, str] | None = None, **more: Any) -> None:
        self.path = f"/api/v1/namespaces/{namespace.name}/configmaps"
        self.said: list[str] = []
        where = Target(kube.context(), namespace.name)
        self.api = Connection.open(where, environ or dict(os.environ), say=self.said.append, **more)

    @property
    def kubectl(self) -> psutil.Process:
        return psutil.Process(self.api._line.strand().proxy._find())

    def apply(self, name: str, **more: Any) -> Any:
        body = kube.config_map(name, key="value")
        kind = "application/apply-patch+yaml"
        return self.api.request("PATCH", f"{self.path}/{name}", body, query=APPLY, content_type=kind, **more)


@pytest.fixture
def asking(namespace: kube.Namespace) -> Iterator[Asking]:
    made = Asking(namespace)
    yield made
    made.api.close()


@pytest.fixture
def relay(namespace: kube.Namespace, tmp_path: Path) -> Iterator[kube.Relay]:
    with kube.Relay(tmp_path) as made:
        yield made


@pytest.fixture
def far(namespace: kube.Namespace, relay: kube.Relay) -> Iterator[Asking]:
    """A connection whose API server can be taken away from it alone."""
    made = Asking(namespace, {**os.environ, "KUBECONFIG": str(relay.kubeconfig)})
    yield made
    made.api.close()


def ended(process: psutil.Process, seconds: float = 6) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        limit = time.monotonic() + seconds
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > limit:
                return False
            time.sleep(0.02)
    return True


# What it is for


def test_objects_are_applied_read_listed_and_deleted(asking: Asking) -> None:
    applied = asking.api.each(asking.apply, [f"map-{n}" for n in range(20)])
    assert [one["metadata"]["name"] for one in applied] == [f"map-{n}" for n in range(20)]
    assert applied[0]["metadata"]["managedFields"][0]["manager"] == "deploy-guard"
    found, version = asking.api.items(asking.path, query={"limit": "7"})
    assert {one["kind"] for one in found} == {"ConfigMap"}
    assert {f"map-{n}" for n in range(20)} <= {one["metadata"]["name"] for one in found}
    assert int(version) >= int(applied[-1]["metadata"]["resourceVersion"])
    asking.api.request("DELETE", f"{asking.path}/map-0")
    assert asking.api.get(f"{asking.path}/map-0") is None


def test_a_refusal_is_the_api_server_s_own_word(asking: Asking) -> None:
    asking.apply("one")
    with pytest.raises(ApiError) as error:
        asking.api.request("POST", asking.path, kube.config_map("one"))
    assert (error.value.status, error.value.reason) == (409, "AlreadyExists")
    wrong = kube.config_map("two") | {"dta": {}}
    with pytest.raises(ApiError, match="field not declared in schema"):
        asking.api.request(
            "PATCH", f"{asking.path}/two", wrong, query=APPLY, content_type="application/apply-patch+yaml"
        )


def test_a_watch_tells_what_happens_when_it_happens(asking: Asking) -> None:
    _, version = asking.api.items(asking.path)
    seen: list[tuple[str, str, float]] = []

    def look() -> None:
        events = asking.api.watch(asking.path, version, query={"timeoutSeconds": "3"})
        seen.extend((one["type"], one["object"]["metadata"]["name"], time.monotonic()) for one in events)

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(0.5)
    before = time.monotonic()
    asking.apply("seen")
    after = time.monotonic()
    thread.join(15)
    assert not thread.is_alive()
    assert [one[:2] for one in seen] == [("ADDED", "seen")]
    assert before < seen[0][2] < after + 0.5


def test_a_watch_from_long_ago_is_told_that_it_is_too_old(asking: Asking) -> None:
    with pytest.raises(ApiError) as error:
        list(asking.api.watch(asking.path, "1", query={"timeoutSeconds": "2"}))
    assert error.value.status == 410


def test_a_large_list_comes_whole(asking: Asking) -> None:
    def fill(n: int) -> None:
        body = kube.config_map(f"large-{n}", text="x" * 200_000)
        asking.api.request("POST", asking.path, body)

    asking.api.each(fill, range(10))
    found, _ = asking.api.items(asking.path)
    assert sum(len(one.get("data", {}).get("text", "")) for one in found) == 2_000_000


def test_exec_into_pods_can_not_be_asked_for(asking: Asking) -> None:
    pods = asking.path.replace("configmaps", "pods")
    for what in ("exec", "attach", "portforward", "proxy/x"):
        with pytest.raises(ApiError, match="Forbidden"):
            asking.api.request("GET", f"{pods}/web/{what}")
    assert asking.api.get(f"{pods}/exec") is None  # a pod of that name may be asked for


# Who asks


def test_a_service_account_may_do_what_its_role_says_and_nothing_else(
    namespace: kube.Namespace, tmp_path: Path
) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch", "create"]}]
    environ = {**os.environ, "KUBECONFIG": str(namespace.account(rules, tmp_path))}
    asking = Asking(namespace, environ)
    try:
        asking.apply("mine")
        with pytest.raises(ApiError, match=r"cannot delete resource") as error:
            asking.api.request("DELETE", f"{asking.path}/mine")
        assert (error.value.status, error.value.reason) == (403, "Forbidden")
    finally:
        asking.api.close()


def test_wrong_credentials_are_told_at_once(namespace: kube.Namespace, tmp_path: Path) -> None:
    file = kube.kubeconfig(tmp_path / "wrong", token="expired")
    started = time.monotonic()
    with pytest.raises(
        ApiError, match=f"the credentials of the context {kube.context()} are expired or wrong"
    ) as error:
        Asking(namespace, {**os.environ, "KUBECONFIG": str(file)})
    assert error.value.status == 401
    assert time.monotonic() - started < 8


def test_credentials_that_expire_in_the_middle_are_told(namespace: kube.Namespace, tmp_path: Path) -> None:
    environ = {**os.environ, "KUBECONFIG": str(namespace.account([], tmp_path))}
    asking = Asking(namespace, environ)
    try:
        namespace.kubectl("delete", "serviceaccount", "deployer")

        def refused() -> bool:
            with pytest.raises(ApiError) as error:
                asking.api.get(asking.path)
            return error.value.status == 401 and "expired or wrong" in error.value.what

        kube.eventually(refused, 30, 0.5)  # the API server remembers a token for some seconds
    finally:
        asking.api.close()


def test_an_unknown_context_is_told_with_those_there_are(namespace: kube.Namespace) -> None:
    with pytest.raises(CommandFailed, match='context "nonesuch" does not exist') as error:
        Connection.open(Target("nonesuch", "x"), dict(os.environ))
    assert kube.context() in error.value.hint


def test_a_certificate_that_can_not_be_checked_is_told_at_once(namespace: kube.Namespace, tmp_path: Path) -> None:
    file = kube.kubeconfig(tmp_path / "wrong")
    body = json.loads(file.read_text())
    body["clusters"][0]["cluster"]["tls-server-name"] = "other.example"
    file.write_text(json.dumps(body))
    environ = {**os.environ, "KUBECONFIG": str(file)}
    started = time.monotonic()
    with pytest.raises(Unreachable, match="x509"):
        Asking(namespace, environ)
    assert time.monotonic() - started < 8


def test_in_a_pod_the_service_account_is_used_and_a_renewed_token_is_read(
    namespace: kube.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "patch"]}]
    namespace.account(rules, tmp_path, "first")
    namespace.account(rules, tmp_path, "second")
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text(namespace.kubectl("create", "token", "first"))
    root = namespace.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"]
    (account / "ca.crt").write_text(root)
    monkeypatch.setattr(target_module, "SERVICE_ACCOUNT", account)
    host, port = kube.server()
    environ = {**os.environ, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
    environ.pop("KUBECONFIG")
    api = Connection.open(Target(IN_CLUSTER, namespace.name), environ)
    path = f"/api/v1/namespaces/{namespace.name}/configmaps"
    try:
        assert api.items(path)[0]
        with pytest.raises(ApiError, match=f"serviceaccount:{namespace.name}:first"):
            api.get(path.replace("configmaps", "secrets"))
        (account / "token").write_text(namespace.kubectl("create", "token", "second"))
        namespace.kubectl("delete", "serviceaccount", "first")

        def second() -> bool:
            with pytest.raises(ApiError) as error:
                api.get(path.replace("configmaps", "secrets"))
            return ":second" in error.value.what

        kube.eventually(second, 30, 0.5)
        assert api.items(path)[0]
    finally:
        api.close()


# kubectl that goes wrong


RUN = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs in the background ignore Ctrl-C
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.target import Target
made = Connection.open(Target(sys.argv[1], "default"), os.environ)
print(made._line.strand().proxy._find(), flush=True)
time.sleep(60)
"""


def test_kubectl_does_not_outlive_a_run_that_was_killed(cluster: str) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN, cluster], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        kubectl = psutil.Process(int(run.stdout.readline()))
        assert "proxy" in kubectl.cmdline()
        run.kill()
    assert ended(kubectl)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_kubectl_ends_with_a_run_that_was_interrupted(cluster: str, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, cluster], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        kubectl = psutil.Process(int(run.stdout.readline()))
        run.send_signal(number)
        run.wait(10)
    assert ended(kubectl)


def test_kubectl_that_was_killed_is_started_again(asking: Asking) -> None:
    asking.kubectl.kill()
    assert asking.apply("after")["metadata"]["name"] == "after"
    assert asking.said == ["kubectl proxy was ended by SIGKILL; it was started again"]


def test_kubectl_killed_under_many_requests_loses_none(asking: Asking) -> None:
    threading.Timer(0.1, asking.kubectl.kill).start()
    names = [f"map-{n}" for n in range(300)]
    asking.api.each(asking.apply, names)
    assert len(asking.said) == 1
    found, _ = asking.api.items(asking.path)
    assert set(names) <= {one["metadata"]["name"] for one in found}


def test_kubectl_that_is_stopped_is_replaced(asking: Asking) -> None:
    kubectl = asking.kubectl
    kubectl.suspend()
    kube.eventually(lambda: kubectl.status() == psutil.STATUS_STOPPED)
    started = time.monotonic()
    assert asking.apply("after")["metadata"]["name"] == "after"
    assert time.monotonic() - started < 10
    assert "SIGSTOP" in asking.said[0]
    assert ended(kubectl)


# An API server that goes away: for this test alone, behind a relay


def test_an_address_where_nobody_is_is_told(namespace: kube.Namespace, relay: kube.Relay) -> None:
    relay.refuse()
    environ = {**os.environ, "KUBECONFIG": str(relay.kubeconfig)}
    started = time.monotonic()
    with pytest.raises(Unreachable, match="connection refused") as error:
        Asking(namespace, environ, patience=2.0)
    assert relay.address in error.value.what
    assert "Error while proxying request" in error.value.what  # kubectl's own words
    assert time.monotonic() - started < 5


def test_an_address_that_does_not_answer_is_told(namespace: kube.Namespace, relay: kube.Relay) -> None:
    relay.stall()
    environ = {**os.environ, "KUBECONFIG": str(relay.kubeconfig)}
    started = time.monotonic()
    with pytest.raises(Unreachable, match="within 2 s: no answer within") as error:
        Asking(namespace, environ, patience=2.0)
    assert relay.address in error.value.what
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("away", ["refuse", "stall"])
def test_requests_wait_for_an_api_server_that_is_away_and_go_on(far: Asking, relay: kube.Relay, away: str) -> None:
    far.apply("before")
    getattr(relay, away)()
    threading.Timer(4, relay.resume).start()
    started = time.monotonic()
    names = [f"map-{n}" for n in range(20)]
    far.api.each(far.apply, names)
    assert 3 < time.monotonic() - started < 15
    assert not far.said
    created = far.api.request("POST", far.path, {"metadata": {"generateName": "new-"}})
    assert created["metadata"]["name"].startswith("new-")


def test_an_api_server_that_vanishes_in_the_middle_of_requests_gets_them_all(far: Asking, relay: kube.Relay) -> None:
    threading.Timer(0.05, relay.refuse).start()
    threading.Timer(2, relay.resume).start()
    names = [f"map-{n}" for n in range(200)]
    applied = far.api.each(far.apply, names)
    assert [one["metadata"]["name"] for one in applied] == names


def test_an_api_server_that_stays_away_ends_requests_with_their_patience(far: Asking, relay: kube.Relay) -> None:
    relay.refuse()
    started = time.monotonic()
    with pytest.raises(Unreachable) as error:
        far.apply("never", patience=2.0)
    assert time.monotonic() - started < 4
    for word in (relay.address, "within 2 s", "connection refused"):
        assert word in error.value.what


def test_a_watch_on_a_connection_that_broke_unseen_ends(far: Asking, relay: kube.Relay) -> None:
    _, version = far.api.items(far.path)
    watch = far.api.watch(far.path, version)
    threading.Timer(0.5, far.apply, ("seen",)).start()
    assert next(watch)["object"]["metadata"]["name"] == "seen"
    relay.stall()
    started = time.monotonic()
    with pytest.raises(Unreachable, match="the watch was cut"):
        next(watch)
    assert time.monotonic() - started < 25  # kubectl's pings; its own defaults would take 45
    relay.resume()
    assert far.apply("after")["metadata"]["name"] == "after"


@pytest.mark.disruptive
def test_requests_wait_for_an_api_server_that_is_stopped(asking: Asking) -> None:
    with kube.pause_api_server():
        started = time.monotonic()
        with pytest.raises(Unreachable, match="no answer within 1 s"):
            asking.apply("never", patience=1.0)
        assert time.monotonic() - started < 3
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(asking.apply("later")))
        thread.start()
        time.sleep(2)
        assert not results
    thread.join(10)
    assert results[0]["metadata"]["name"] == "later"
    assert not asking.said
