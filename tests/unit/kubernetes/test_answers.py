"""What answers mean, as rules over plain data."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from deploy_guard.drivers.kubernetes.answers import Call, decoded, error_of, event, holds, made_by, warnings_of
from deploy_guard.drivers.kubernetes.api import ApiError
from deploy_guard.drivers.unixhttp import Lost, Response


def answer(body: bytes, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, body)


def secret(**keys: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", **keys}


@pytest.mark.parametrize(
    ("there", "sent", "held"),
    [
        ({"a": 1, "status": {}}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": [1, {"c": 2, "d": 3}]}}, {"a": {"b": [1, {"c": 2}]}}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [1]}, {"a": {"b": 1}}, False),
        ({"a": 1}, {"a": [1]}, False),
        ({"a": "1"}, {"a": 1}, False),
        (secret(data={"p": base64.b64encode(b"x").decode()}), secret(stringData={"p": "x"}), True),
        (secret(data={"p": base64.b64encode(b"y").decode()}), secret(stringData={"p": "x"}), False),
    ],
)
def test_an_object_holds_what_was_sent_when_nothing_of_it_differs(there: Any, sent: Any, held: bool) -> None:
    assert holds(there, sent) is held


def test_what_somebody_else_made_is_not_ours_though_it_is_the_same() -> None:
    there = {"metadata": {"name": "a", "managedFields": [{"manager": "helm"}]}}
    call = Call("POST", "/x", {"metadata": {"name": "a"}}, {"fieldManager": "deploy-guard"})
    assert not made_by(call, there)
    assert made_by(Call("POST", "/x", {"metadata": {"name": "a"}}), there)


def test_an_error_in_plain_text_is_put_on_one_line() -> None:
    error, plain = error_of(answer(b"dial tcp:\n refused\n", 500))
    assert (str(error), plain) == ("dial tcp: refused", True)
    error, plain = error_of(answer(b"", 502))
    assert (str(error), plain) == ("status 502", True)
    error, plain = error_of(answer(b'{"kind":"Status","reason":"Gone"}', 410))
    assert (str(error), error.reason, plain) == ("Gone", "Gone", False)


def test_an_answer_that_is_no_object_is_an_error() -> None:
    for body in (b"ok", b"[1]"):
        with pytest.raises(ApiError, match="no object"):
            decoded(answer(body))
    assert decoded(answer(b"")) == {}


def test_an_event_that_can_not_be_read_is_lost() -> None:
    with pytest.raises(Lost, match="can't be read"):
        event(b'{"type":')
    with pytest.raises(ApiError) as error:
        event(json.dumps({"type": "ERROR", "object": {"kind": "Status"}}).encode())
    assert error.value.status == 500


def test_warnings_are_read_with_their_quotes() -> None:
    header = '299 - "a \\"b\\", c", 299 host "d"'
    assert warnings_of(answer(b"", warning=header)) == ['a "b", c', "d"]
    assert warnings_of(answer(b"")) == []
