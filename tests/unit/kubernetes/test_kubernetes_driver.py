"""The driver as the flow uses it, as far as no cluster is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy_guard.deadline import Deadline
from deploy_guard.drivers.base import Context, Plan, Snapshot
from deploy_guard.drivers.kubernetes import KubernetesConfig, KubernetesDriver
from deploy_guard.errors import PlanRejected, RollbackFailed

SNAPSHOT = Snapshot("kubernetes", 1, "kubernetes prod/shop", "v1.0.0", {})


@pytest.fixture
def driver(tmp_path: Path) -> KubernetesDriver:
    """A driver on a machine without kubectl: whatever asks a cluster fails in other words."""
    config = KubernetesConfig(context="prod", namespace="shop", manifests=("k8s",))
    return KubernetesDriver(config, Context("shop", "prod", tmp_path, {"PATH": "/nonesuch"}))


def test_the_target_is_named(driver: KubernetesDriver) -> None:
    assert driver.target == "kubernetes prod/shop"


@pytest.mark.parametrize("target", ["kubernetes stage/shop", "kubernetes prod/other"])
def test_a_snapshot_of_another_cluster_or_namespace_is_never_brought_back(
    driver: KubernetesDriver, target: str
) -> None:
    for act in (driver.rollback, driver.verify):
        with pytest.raises(
            RollbackFailed, match=f"the snapshot is of {target}, and kubernetes prod/shop is configured"
        ):
            act(replace(SNAPSHOT, target=target), Deadline.after(1))


@pytest.mark.parametrize("other", [replace(SNAPSHOT, driver="local"), replace(SNAPSHOT, schema=2)])
def test_a_snapshot_that_this_version_can_not_read_is_told(driver: KubernetesDriver, other: Snapshot) -> None:
    with pytest.raises(RollbackFailed, match="this version reads kubernetes, schema 1"):
        driver.rollback(other, Deadline.after(1))


def test_a_plan_that_another_driver_made_is_not_applied(driver: KubernetesDriver) -> None:
    with pytest.raises(PlanRejected, match="was not made by this driver"):
        driver.apply(Plan((), "digest"))


def test_a_missing_kubectl_is_told_in_the_words_of_the_step(driver: KubernetesDriver) -> None:
    with pytest.raises(RollbackFailed, match="kubectl"):
        driver.rollback(SNAPSHOT, Deadline.after(1))
    driver.close()
