"""The record of the last release: what is in it, and what becomes of records that are cut off."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from memoryapi import MemoryApi

from deploy_guard.drivers.kubernetes import records
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.kubernetes.objects import Key, Ref
from deploy_guard.drivers.kubernetes.records import Entry, Record
from deploy_guard.errors import PlanRejected, RolloutDoomed

SECRETS = "/api/v1/namespaces/ns/secrets"


def entry(name: str, text: str = "x") -> Entry:
    key = Key("v1", "ConfigMap", "ns", name)
    applied = {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}}
    return Entry(Ref(key, f"/api/v1/namespaces/ns/configmaps/{name}"), f"uid of {name}", applied)


def record(version: str = "v1", sequence: int = 0, *entries: Entry) -> Record:
    return Record(version, "abc", entries or (entry("app"),), (entry("old"),), sequence)


def names(api: MemoryApi) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in api.objects)


def test_a_record_is_read_as_it_was_written() -> None:
    api = MemoryApi()
    assert records.last(api, "ns", "shop") is None
    assert records.write(api, "ns", "shop", record("v1")) == 1
    found = records.last(api, "ns", "shop")
    assert found == Record("v1", "abc", (entry("app"),), (entry("old"),), 1)
    assert records.last(api, "ns", "other") is None


def test_the_new_record_and_the_one_before_stay() -> None:
    api = MemoryApi()
    for number in range(4):
        records.write(api, "ns", "shop", record(f"v{number}", number))
    assert names(api) == ["deploy-guard-shop-3", "deploy-guard-shop-4"]


def test_of_a_write_that_met_its_own_half_the_record_to_go_back_to_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    api = MemoryApi()
    records.write(api, "ns", "shop", record("v1"))
    records.write(api, "ns", "shop", record("v2", 1))
    assert records.write(api, "ns", "shop", record("v2", 1)) == 3  # as if the answer to the first had been lost
    assert names(api) == ["deploy-guard-shop-1", "deploy-guard-shop-3"]
    records.back_to(api, "ns", "shop", 1)
    found = records.last(api, "ns", "shop")
    assert found is not None
    assert (found.version, found.sequence) == ("v1", 1)


def test_a_large_record_is_cut_in_chunks_and_one_that_misses_a_chunk_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records, "_SIZE", 100)
    api = MemoryApi()
    records.write(api, "ns", "shop", record("v1"))
    entries = [entry(f"app-{number}", str(hash(number))) for number in range(20)]
    records.write(api, "ns", "shop", record("v2", 1, *entries))
    assert "deploy-guard-shop-2-3" in names(api)
    assert all(len(base64.b64decode(one["data"]["release"])) <= 100 for one in api.objects.values())
    found = records.last(api, "ns", "shop")
    assert found is not None
    assert found.objects == tuple(entries)
    del api.objects[f"{SECRETS}/deploy-guard-shop-2-3"]
    found = records.last(api, "ns", "shop")
    assert found is not None
    assert found.version == "v1"


def test_no_chunk_comes_near_the_limit_of_the_api_server() -> None:
    assert records._SIZE * 4 / 3 < 1024 * 1024 * 0.95


def test_two_releases_at_the_same_time_do_not_overwrite_each_other() -> None:
    api = MemoryApi()
    api.objects[f"{SECRETS}/deploy-guard-shop-1"] = {"metadata": {"name": "x"}, "type": "Opaque"}  # not seen by a list
    with pytest.raises(RolloutDoomed, match="somebody else writes records of shop"):
        records.write(api, "ns", "shop", record())


def test_another_refusal_is_told_as_it_is() -> None:
    api = MemoryApi()

    def refuse(method: str, *_rest: Any) -> None:
        if method == "POST":
            raise ApiError(403, "Forbidden", "exceeded quota")

    api.answers.append(refuse)
    with pytest.raises(ApiError, match="exceeded quota"):
        records.write(api, "ns", "shop", record())


def test_a_record_that_went_meanwhile_is_no_error() -> None:
    api = MemoryApi()
    records.write(api, "ns", "shop", record())

    def gone(method: str, path: str, *_rest: Any) -> None:
        if method == "DELETE":
            raise ApiError(404, "NotFound", "not found")

    api.answers.append(gone)
    records.back_to(api, "ns", "shop", 0)


@pytest.mark.parametrize("text", [b"no gzip", b""])
def test_a_record_that_cant_be_read_is_told_with_what_to_do(text: bytes) -> None:
    api = MemoryApi()
    records.write(api, "ns", "shop", record())
    api.objects[f"{SECRETS}/deploy-guard-shop-1"]["data"]["release"] = base64.b64encode(text).decode()
    with pytest.raises(PlanRejected, match="record 1 of the last release") as caught:
        records.last(api, "ns", "shop")
    assert "delete secret -l deploy-guard/sequence=1" in caught.value.hint


def test_a_record_of_a_newer_version_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    api = MemoryApi()
    monkeypatch.setattr(records, "_SCHEMA", 2)
    records.write(api, "ns", "shop", record())
    monkeypatch.undo()
    with pytest.raises(PlanRejected, match="it is of the schema 2"):
        records.last(api, "ns", "shop")


def test_what_a_release_set_is_noted_as_the_server_wrote_it_without_secrets() -> None:
    desired = {"kind": "Secret", "metadata": {"name": "key"}, "data": {"word": "c2VjcmV0"}, "type": "Opaque"}
    answer = {**desired, "metadata": {"name": "key", "uid": "1", "labels": {"theirs": "yes"}}, "immutable": False}
    found = records.applied(desired, answer)
    assert found["metadata"] == {"name": "key"}
    assert "c2VjcmV0" not in json.dumps(found)
    limits = {"spec": {"limits": {"cpu": "1000m"}, "gone": "x"}}
    assert records.applied(limits, {"spec": {"limits": {"cpu": "1"}, "more": 1}}) == {"spec": {"limits": {"cpu": "1"}}}


@pytest.mark.parametrize("name", ["shop", "Shop", "my.shop_1", "x" * 80, "日本"])
def test_names_of_services_become_names_of_objects_and_differ(name: str) -> None:
    found = records.prefix(name)
    assert found.replace("-", "").isalnum()
    assert found.isascii()
    assert len(f"deploy-guard-{found}") <= 63
    assert (found == name) == (name == "shop")
    assert records.prefix(name + "!") != found
