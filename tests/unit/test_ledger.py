from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy_guard import Change, ConfigurationError, Plan, Release, RollbackFailed
from deploy_guard.flow.model import Mode, Outcome, Reason, Severity
from deploy_guard.flow.record import Record
from deploy_guard.flow.rollout import Rollout
from deploy_guard.ledger.files import write_atomically, write_json
from deploy_guard.ledger.journal import FileJournal
from deploy_guard.ledger.store import FileStore


def test_a_record_counts_as_unfinished_only_after_its_apply_began(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "state", "stage")
    assert store.load() is None
    store.save({"schema": 1, "begun": False})
    assert store.load() is None
    store.save({"schema": 1, "begun": True, "run": "r"})
    assert FileStore(tmp_path / "state", "stage").load() == {"schema": 1, "begun": True, "run": "r"}
    assert FileStore(tmp_path / "state", "prod").load() is None
    store.clear({"run": "r"}, stays=False)
    assert store.load() is None
    assert store.last() == {"run": "r"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "begun": true}', "{}"])
def test_a_record_that_cannot_be_read_is_an_error_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stage.unfinished.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="can't be read"):
        FileStore(tmp_path, "stage").load()
    assert path.read_text() == text


def test_the_last_summary_is_empty_when_it_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "stage.last.json").write_text("[]")
    assert FileStore(tmp_path, "stage").last() == {}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    with pytest.raises(ValueError, match=r"nan|NaN|JSON"):
        write_json(path, {"value": [1, float("nan")]})
    with pytest.raises(TypeError):
        write_atomically(path, 1)  # type: ignore[arg-type]
    assert json.loads(path.read_text()) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_is_written_a_line_for_each_key_and_list_entry(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = {"a": 1, "b": [{"x": [1]}, {"y": "é"}], "c": [], "d": {}}
    write_json(path, data)
    assert json.loads(path.read_text()) == data
    assert path.read_text().splitlines()[2:5] == ['  "b": [', '    {"x": [1]},', '    {"y": "é"}']
    write_json(path, {})
    assert path.read_text() == "{}\n"


def test_events_are_whole_lines_with_redacted_text(tmp_path: Path) -> None:
    journal = FileJournal(
        tmp_path / "audit.jsonl", run="r", env="stage", version="v1", redact=lambda text: text.replace("canary", "*")
    )
    journal.event("x", text="canary\n\ud800", path=tmp_path)
    journal.close()
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert (event["event"], event["run"], event["env"], event["version"]) == ("x", "r", "stage", "v1")
    assert event["time"].endswith("Z")
    assert "canary" not in line


def rollout(folder: Path) -> Rollout:
    journal = FileJournal(folder / "audit.jsonl", run="r", env="stage", version="v1", redact=str)
    return Rollout(
        run="r",
        env="stage",
        service="shop",
        release=Release("v1"),
        mode=Mode.DEPLOY,
        source=lambda: pytest.fail("no driver is needed"),
        journal=journal,
        store=FileStore(folder, "stage"),
        timeout=1,
    )


def test_without_a_snapshot_there_is_no_way_back_and_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RollbackFailed, match="no snapshot"):
        rollout(tmp_path).rollback()
    FileStore(tmp_path, "stage").save({"schema": 1, "begun": True, "run": "old", "snapshot": {}, "saved": {"a": 1}})
    found = rollout(tmp_path)
    assert (found.unfinished, found.unfinished_run, found.stored_saves()) == (True, "old", {"a": 1})
    assert not found.adopt_unfinished_of("r")
    with pytest.raises(RollbackFailed, match="stored snapshot of run old can't be read"):
        found.recover()


def test_a_plan_sums_itself_up() -> None:
    changes = (Change("create", "a"), Change("change", "b"), Change("change", "c"), Change("none", "d"))
    assert Plan(changes, "x").summary == "1 created, 2 changed, 1 unchanged"
    assert Plan((), "x").summary == "no objects"
    assert Plan((), "x").unchanged


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("previous", [None, "v0.9.0"])
def test_every_outcome_has_a_headline_and_a_next_step(outcome: Outcome, previous: str | None) -> None:
    record = Record("r", "shop", "stage", Mode.DEPLOY, version="v1.0.0", previous=previous, outcome=outcome)
    record.reasons = [Reason("x", Severity.CRITICAL, "because", "gates/test_x.py::test_x")]
    assert record.headline.split(":")[0].isupper()
    assert record.next_step
    assert json.dumps(record.to_json())
