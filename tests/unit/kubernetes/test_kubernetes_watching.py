"""List and watch: what is told, and what an API server that is away or refuses does to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

import pytest
from kube_fakes import Cluster, ref

from deploy_guard.drivers.kubernetes import watching
from deploy_guard.drivers.kubernetes.api import ApiError, Unreachable
from deploy_guard.drivers.kubernetes.objects import Object
from deploy_guard.drivers.kubernetes.watching import Alive, Broken, Changed, Listed, Told, Watching

PATH = ref("ConfigMap", "x").collection


def config_map(name: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name}}


def until(watched: Watching, kind: type[Told], seconds: float = 5.0) -> list[Told]:
    """What was told up to the first of a kind."""
    found: list[Told] = []
    limit = time.monotonic() + seconds
    while not any(isinstance(told, kind) for told in found):
        assert time.monotonic() < limit, found
        found += watched.news(0.1)
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_PAUSE", 0.05)
    monkeypatch.setattr(watching, "_REFUSED", 0.05)


def test_a_collection_is_listed_and_changes_are_told_at_once() -> None:
    cluster = Cluster(config_map("a"))
    with Watching(cluster, {PATH: {}}) as watched:
        (first,) = until(watched, Listed)
        assert isinstance(first, Listed)
        assert [body["metadata"]["name"] for body in first.items] == ["a"]
        cluster.put(config_map("b"))
        (change,) = until(watched, Changed)
        assert isinstance(change, Changed)
        assert (change.change, change.body["metadata"]["name"]) == ("ADDED", "b")


def test_a_watch_that_was_cut_lists_again() -> None:
    cluster = Cluster(config_map("a"))
    with Watching(cluster, {PATH: {}}) as watched:
        until(watched, Listed)
        cluster.cut()
        assert isinstance(until(watched, Broken)[-1], Broken)
        until(watched, Listed)


def test_an_api_server_that_is_away_is_asked_until_it_is_back() -> None:
    cluster = Cluster()
    cluster.go_away()
    with Watching(cluster, {PATH: {}}) as watched:
        until(watched, Broken)
        until(watched, Broken)
        cluster.away.clear()
        until(watched, Listed)


def test_nobody_waits_for_a_watch_that_never_says_anything() -> None:
    cluster = Cluster()
    cluster.frozen.set()
    begun = time.monotonic()
    with Watching(cluster, {PATH: {}}) as watched:
        assert list(watched.news(0.2)) == []
    assert time.monotonic() - begun < 2.0


class Scripted(Cluster):
    """Each watch follows the next part of a script, and then ends."""

    def __init__(self, *parts: list[Object] | Exception) -> None:
        super().__init__()
        self.parts = list(parts)
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.over = threading.Event()

    def watch(self, path: str, version: str, *, query: Mapping[str, str] | None = None) -> Iterator[Object]:
        self.requests.append(("WATCH", path))
        self.asked.append((version, dict(query or {})))
        if not self.parts:
            self.over.set()
            threading.Event().wait(5)
            return
        part = self.parts.pop(0)
        if isinstance(part, Exception):
            raise part
        yield from part


def event(kind: str, version: str) -> Object:
    return {"type": kind, "object": {"metadata": {"name": "a", "uid": "a", "resourceVersion": version}}}


def test_a_watch_that_ends_goes_on_from_its_last_version_bookmarks_included() -> None:
    cluster = Scripted([event("ADDED", "7")], [event("BOOKMARK", "12")], [])
    with Watching(cluster, {PATH: {}}) as watched:
        assert cluster.over.wait(5)
        told = watched.news(0)
    assert [version for version, _ in cluster.asked[1:]] == ["7", "12", "12"]
    assert sum(isinstance(one, Changed) for one in told) == 1
    assert sum(isinstance(one, Alive) for one in told) == 3
    assert cluster.counted("LIST", "configmaps") == 1
    assert cluster.asked[0][1]["timeoutSeconds"] == "20"


@pytest.mark.parametrize(
    "part",
    [
        ApiError(410, "Expired", "too old resource version"),
        [{"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}],
    ],
)
def test_a_version_that_is_too_old_lists_again_without_a_word(part: list[Object] | Exception) -> None:
    cluster = Scripted(part)
    with Watching(cluster, {PATH: {}}) as watched:
        assert cluster.over.wait(5)
        told = watched.news(0)
    assert [type(one) for one in told] == [Listed, Listed]


def test_watches_that_end_at_once_are_not_begun_in_a_hurry() -> None:
    cluster = Scripted([], [], [], [])
    begun = time.monotonic()
    with Watching(cluster, {PATH: {}}):
        assert cluster.over.wait(5)
    assert time.monotonic() - begun >= 0.2


def test_errors_are_told_with_their_path() -> None:
    cluster = Scripted(Unreachable("cut"), ApiError(403, "Forbidden", "no"))
    with Watching(cluster, {PATH: {}}) as watched:
        assert cluster.over.wait(5)
        told = [one for one in watched.news(0) if isinstance(one, Broken)]
    assert [(one.path, one.error.what) for one in told] == [(PATH, "cut"), (PATH, "no")]
