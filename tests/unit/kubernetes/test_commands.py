"""The commands in the report are those that a person could type."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes.commands import for_apply, for_plan, for_rollback
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.target import Target

PROD = Target("prod", "shop")
AT = "kubectl --context prod -n shop"


def config(*manifests: str, **keys: Any) -> KubernetesConfig:
    return KubernetesConfig(manifests=manifests or None, **keys)


def here(folder: Path) -> Context:
    return Context("shop", "prod", folder, {})


def test_plain_files_are_named_in_one_command(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("kind: ConfigMap")
    plan = for_plan(config("app.yaml", "k8s/*.yaml"), PROD, here(tmp_path))
    assert plan == [f"{AT} diff --server-side --field-manager=deploy-guard -f app.yaml -f 'k8s/*.yaml'"]
    assert for_plan(config("app.yaml", "k8s/*.yaml"), PROD) == plan


def test_apply_takes_over_fields_only_where_that_is_configured() -> None:
    assert "--force-conflicts" not in for_apply(config("a.yaml"), PROD)[0]
    assert for_apply(config("a.yaml", adopt=True), PROD) == [
        f"{AT} apply --server-side --field-manager=deploy-guard --force-conflicts -f a.yaml"
    ]


def test_a_kustomization_is_built_by_kubectl(tmp_path: Path) -> None:
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay/kustomization.yaml").write_text("resources: []")
    found = for_apply(config("overlay", "a.yaml"), PROD, here(tmp_path))
    assert [line.partition("deploy-guard ")[2] for line in found] == ["-f a.yaml", "-k overlay"]


def test_what_a_command_renders_is_piped() -> None:
    (line,) = for_apply(config(render=("helm", "template", "a chart")), PROD)
    assert line.startswith(f"helm template 'a chart' | {AT} apply ")
    assert line.endswith(" -f -")


def test_variables_are_filled_in_before(tmp_path: Path) -> None:
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s/one.yaml").write_text("image: web:${VERSION} ${HOME}")
    (tmp_path / "k8s/two.yaml").write_text("commit: ${COMMIT}")
    (tmp_path / "k8s/binary.yaml").write_bytes(b"\xff")
    one, pattern, folder = for_plan(config("k8s/one.yaml", "k8s/t*.yaml", "k8s"), PROD, here(tmp_path))
    assert one.startswith("envsubst '${VERSION}' < k8s/one.yaml | kubectl ")
    assert pattern.startswith("""for file in k8s/t*.yaml; do echo ---; envsubst '${COMMIT}' < "$file"; done | """)
    assert folder.startswith("for file in k8s/*; do echo ---; envsubst '${COMMIT} ${VERSION}' ")
    assert shlex.split(one)[-2:] == ["-f", "-"]


def test_the_way_back_is_what_comes_closest() -> None:
    assert for_rollback(config("a.yaml", rollback="undo"), PROD, ["deployment/web"]) == [
        f"{AT} rollout undo deployment/web",
        f"{AT} rollout status deployment/web",
    ]
    assert "--force-conflicts" in for_rollback(config("a.yaml"), PROD)[0]
