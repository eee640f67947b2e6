"""Fixtures of the tests that need a real cluster; ``tests/kube.py`` says how one is named."""

from __future__ import annotations

from collections.abc import Iterator

import kube
import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "disruptive: stops the API server; no other test uses the cluster meanwhile")


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """The context of the cluster, held for this test: alone when it is marked ``disruptive``."""
    name = kube.context()
    alone = request.node.get_closest_marker("disruptive") is not None
    with kube.exclusive() if alone else kube.shared():
        yield name


@pytest.fixture
def namespace(cluster: str) -> Iterator[kube.Namespace]:
    """A namespace of this test's own."""
    with kube.Namespace.new() as made:
        yield made
