"""Where the driver deploys to: never where nobody said."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from kubectl_standin import Standin

from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import target as module
from deploy_guard.drivers.kubernetes.config import IN_CLUSTER, KubernetesConfig
from deploy_guard.drivers.kubernetes.connection import Connection
from deploy_guard.drivers.kubernetes.target import Target
from deploy_guard.errors import CommandFailed, ConfigurationError


def config(**keys: Any) -> KubernetesConfig:
    return KubernetesConfig(**({"manifests": ("k8s/app.yaml",)} | keys))


def context(environ: dict[str, str], env: str = "prod") -> Context:
    return Context("shop", env, Path("/nowhere"), environ)


@pytest.fixture
def standin(tmp_path: Path) -> Standin:
    """A kubectl that does what the test orders."""
    return Standin(tmp_path / "standin")


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standin: Standin) -> dict[str, str]:
    """The environment of a pod with a service account."""
    account = tmp_path / "serviceaccount"
    account.mkdir()
    for name, text in (("token", "t"), ("ca.crt", "c"), ("namespace", "own\n")):
        (account / name).write_text(text)
    monkeypatch.setattr(module, "SERVICE_ACCOUNT", account)
    standin.configure(contexts=[IN_CLUSTER])
    return {**standin.environ, "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


def test_a_pinned_target_needs_no_kubectl_and_no_cluster(tmp_path: Path) -> None:
    found = Target.pinned(config(context="prod", namespace="shop"), context({"PATH": str(tmp_path)}))
    assert found == Target("prod", "shop")
    assert found.kubectl("get", "pods") == ("kubectl", "--context", "prod", "--namespace", "shop", "get", "pods")
    assert found.shown("get", "a b") == "kubectl --context prod -n shop get 'a b'"


def test_an_unpinned_target_prints_the_current_context_and_what_to_type(standin: Standin) -> None:
    here = [{"name": "kind-dev", "context": {"namespace": "shop"}}]
    standin.configure(current={"current-context": "kind-dev", "contexts": here})
    with pytest.raises(ConfigurationError) as error:
        Target.pinned(config(manifests=("k8s/app.yaml", "k8s/my cm.yaml")), context(standin.environ))
    assert "context and namespace are not pinned" in error.value.what
    assert "kubectl's current context is 'kind-dev' (namespace 'shop')" in error.value.what
    assert (
        "deploy-guard apply --driver kubernetes --context kind-dev --namespace shop "
        "--manifest k8s/app.yaml --manifest 'k8s/my cm.yaml' --env prod" in error.value.hint
    )
    assert 'context = "kind-dev" and namespace = "shop" under [env.prod.kubernetes]' in error.value.hint


def test_the_command_to_type_names_the_environment_only_where_it_is_not_set(standin: Standin) -> None:
    with pytest.raises(ConfigurationError) as error:
        Target.pinned(config(), context({**standin.environ, "ENV": "prod"}))
    assert "--env" not in error.value.hint


def test_a_command_that_renders_is_part_of_the_command_to_type(standin: Standin) -> None:
    rendering = config(manifests=None, render=("helm", "template", "./a chart"))
    with pytest.raises(ConfigurationError) as error:
        Target.pinned(rendering, context(standin.environ))
    assert """--set 'render=["helm", "template", "./a chart"]'""" in error.value.hint
    assert tomllib.loads('render=["helm", "template", "./a chart"]')["render"] == list(rendering.render or ())


def test_a_namespace_alone_is_not_enough(standin: Standin) -> None:
    here = [{"name": "kind-dev", "context": {}}]
    standin.configure(current={"current-context": "kind-dev", "contexts": here})
    with pytest.raises(ConfigurationError, match="context is not pinned") as error:
        Target.pinned(config(namespace="shop"), context(standin.environ))
    assert "--context kind-dev --namespace shop" in error.value.hint


def test_a_context_alone_is_not_enough(standin: Standin) -> None:
    standin.configure(current={"contexts": [{"name": "two", "context": {"namespace": "web"}}]})
    with pytest.raises(ConfigurationError, match="namespace is not pinned") as error:
        Target.pinned(config(context="two"), context(standin.environ))
    assert "--context two --namespace web" in error.value.hint


def test_without_a_current_context_or_a_kubectl_the_error_is_the_same(standin: Standin, tmp_path: Path) -> None:
    for environ in (standin.environ, {"PATH": str(tmp_path)}):
        with pytest.raises(ConfigurationError, match="kubectl has no current context") as error:
            Target.pinned(config(), context(environ))
        assert "--context CONTEXT --namespace NAMESPACE" in error.value.hint


def test_an_empty_name_pins_nothing(standin: Standin) -> None:
    with pytest.raises(ConfigurationError):
        Target.pinned(config(context="", namespace="shop"), context(standin.environ))


def test_in_a_pod_its_own_cluster_and_namespace_are_meant(pod: dict[str, str]) -> None:
    found = Target.pinned(config(), context(pod))
    assert (found.context, found.namespace) == (IN_CLUSTER, "own")
    assert Target.pinned(config(namespace="shop"), context(pod)).namespace == "shop"
    assert found.shown("get", "pods") == "kubectl -n own get pods"


def test_in_a_pod_with_a_kubeconfig_nothing_is_meant_unasked(pod: dict[str, str], standin: Standin) -> None:
    with pytest.raises(ConfigurationError):
        Target.pinned(config(namespace="shop"), context({**pod, "KUBECONFIG": "/somewhere"}))
    (standin.folder / ".kube").mkdir()
    (standin.folder / ".kube/config").write_text("")
    with pytest.raises(ConfigurationError):
        Target.pinned(config(namespace="shop"), context(pod))
    assert Target.pinned(config(context=IN_CLUSTER), context(pod)).namespace == "own"


def test_in_a_pod_kubectl_gets_a_private_file_that_names_the_token_s_file(
    pod: dict[str, str], standin: Standin, tmp_path: Path
) -> None:
    found = Target.pinned(config(), context({**pod, "TMPDIR": str(tmp_path)}))
    assert found.kubeconfig is not None
    assert not found.kubeconfig.parent.exists()
    made = Connection.open(found, pod)
    try:
        body = json.loads(found.kubeconfig.read_text())
        assert stat.S_IMODE(found.kubeconfig.stat().st_mode) == 0o600
        assert stat.S_IMODE(found.kubeconfig.parent.stat().st_mode) == 0o700
        assert body["users"][0]["user"] == {"tokenFile": str(tmp_path / "serviceaccount/token")}
        cluster = body["clusters"][0]["cluster"]
        assert cluster["server"] == "https://10.0.0.1:6443"
        assert cluster["certificate-authority"] == str(tmp_path / "serviceaccount/ca.crt")
        words = json.loads((standin.folder / "words").read_text())
        assert words[:4] == ["--kubeconfig", str(found.kubeconfig), "--context", IN_CLUSTER]
    finally:
        made.close()
    assert not found.kubeconfig.parent.exists()


def test_an_address_of_ipv6_is_put_in_brackets(pod: dict[str, str], tmp_path: Path) -> None:
    made = Target(IN_CLUSTER, "own", tmp_path / "private/kubeconfig")
    made.write_kubeconfig({"KUBERNETES_SERVICE_HOST": "fd00::1"})
    assert '"https://[fd00::1]:443"' in (tmp_path / "private/kubeconfig").read_text()


def test_a_target_that_was_made_by_hand_works_in_a_pod_too(pod: dict[str, str]) -> None:
    made = Connection.open(Target(IN_CLUSTER, "own"), pod)
    assert made.target.kubeconfig is not None
    made.close()


def test_the_cluster_of_a_pod_can_be_named_elsewhere_but_not_be_reached(standin: Standin) -> None:
    found = Target.pinned(config(context=IN_CLUSTER, namespace="shop"), context(standin.environ))
    with pytest.raises(CommandFailed, match="this is not a pod") as error:
        Connection.open(found, standin.environ)
    assert "name the context of your kubeconfig" in error.value.hint


def test_in_cluster_outside_of_a_pod_has_no_namespace_of_its_own(standin: Standin) -> None:
    with pytest.raises(ConfigurationError, match="namespace is not pinned"):
        Target.pinned(config(context=IN_CLUSTER), context(standin.environ))
