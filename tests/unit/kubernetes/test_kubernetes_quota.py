"""Whether a quota has room by now for the pods that it refused."""

from __future__ import annotations

import pytest

from deploy_guard.drivers.kubernetes.faults import Missing, missing_in
from deploy_guard.drivers.kubernetes.trial import has_room

SAID = (
    'pods "web-5b89f95d57-mk65n" is forbidden: exceeded quota: one, requested: pods=1,requests.cpu=500m, '
    "used: pods=1,requests.cpu=1, limited: pods=1,requests.cpu=1"
)


def quota(used: dict[str, str], hard: dict[str, str]) -> dict[str, object]:
    return {"status": {"used": used, "hard": hard}}


def test_a_refusal_names_the_quota_and_what_was_asked_for() -> None:
    found = missing_in(SAID)
    assert found == Missing("ResourceQuota", "one", "pods=1,requests.cpu=500m")
    assert str(found) == "room in ResourceQuota/one for pods=1,requests.cpu=500m"


@pytest.mark.parametrize(
    ("wanted", "used", "hard", "room"),
    [
        ("pods=1", "1", "1", False),
        ("pods=1", "0", "1", True),
        ("pods=500m", "600m", "1", False),
        ("pods=500m", "0.5", "1", True),
        ("pods=512Mi", "1Gi", "1.5Gi", True),
        ("pods=513Mi", "1Gi", "1.5Gi", False),
        ("pods=1G", "0", "1Gi", True),
        ("pods=1Gi", "0", "1G", False),
        ("pods=1", "0", "1e3", True),
    ],
)
def test_quantities_are_compared_as_numbers(wanted: str, used: str, hard: str, room: bool) -> None:
    assert has_room(quota({"pods": used}, {"pods": hard}), wanted) is room


def test_all_that_was_asked_for_needs_room() -> None:
    hard = {"pods": "2", "requests.cpu": "1"}
    assert not has_room(quota({"pods": "1", "requests.cpu": "1"}, hard), "pods=1,requests.cpu=500m")
    assert has_room(quota({"pods": "1", "requests.cpu": "200m"}, hard), "pods=1,requests.cpu=500m")


def test_a_quota_that_limits_it_no_longer_has_room() -> None:
    assert has_room(quota({}, {}), "pods=1")
