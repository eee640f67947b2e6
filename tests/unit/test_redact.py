from __future__ import annotations

import base64
import copy
import json
import pickle
import urllib.parse
from html import escape

import pytest

from deploy_guard.redact import Redactor, Secret

VALUE = 's3cr&t <value>/+%"ü'


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        f"before {VALUE} after",
        urllib.parse.quote(VALUE, safe=""),
        urllib.parse.quote_plus(VALUE, safe=""),
        json.dumps({"a": VALUE}),
        escape(VALUE),
        repr({"a": VALUE}),
        VALUE.encode().hex(),
        base64.b64encode(VALUE.encode()).decode(),
        base64.b64encode(b"u:" + VALUE.encode()).decode(),
        base64.b64encode(b"me:" + VALUE.encode() + b"tail").decode(),
        base64.urlsafe_b64encode(b"user:" + VALUE.encode()).decode(),
    ],
)
def test_a_secret_and_its_forms_are_replaced_by_its_name(form: str) -> None:
    said = Redactor({"API_KEY": VALUE}).redact(form)
    assert "[API_KEY redacted]" in said
    assert VALUE not in said


def test_text_around_it_stays_and_a_secret_inside_another_is_told_apart() -> None:
    redactor = Redactor({"SHORT": "abcdef", "LONG": "abcdefghij"})
    assert redactor.redact("x abcdefghij y abcdef z") == "x [LONG redacted] y [SHORT redacted] z"


def test_short_values_and_none_at_all_change_nothing() -> None:
    assert not Redactor({"X": "abc"})
    assert Redactor({}).redact("abc") == "abc"
    assert Redactor({}).redact_json({"a": [1]}) == {"a": [1]}


def test_plain_data_is_redacted_throughout() -> None:
    data = {"canary": ["x canary", ("canary", 1, None)], "n": 1}
    assert Redactor({"K": "canary"}).redact_json(data) == {
        "[K redacted]": ["x [K redacted]", ("[K redacted]", 1, None)],
        "n": 1,
    }


def test_secrets_are_found_by_configuration_and_by_name() -> None:
    environ = {"MINE": "value-one", "DEPLOY_TOKEN": "value-two", "HOME": "value-three"}
    said = Redactor.from_environment(environ, [["MINE", "OTHER"]]).redact("value-one value-two value-three")
    assert said == "[MINE redacted] [DEPLOY_TOKEN redacted] value-three"


def test_a_secret_shows_itself_to_nobody_but_reveal() -> None:
    secret = Secret.from_environment([["API_KEY", "TOKEN"]], {"API_KEY": "canary"})["API_KEY"]
    assert secret.reveal() == "canary"
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>30}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert "canary" not in shown
    assert secret == Secret("X", "canary")
    assert secret != "canary"
    assert len({secret, Secret("X", "canary")}) == 1
    for leak in (pickle.dumps, copy.copy, json.dumps):
        with pytest.raises(TypeError):
            leak(secret)


@pytest.mark.parametrize("password", ["canary-4711", "can%40ry-4711", "can@ry-4711"])
def test_passwords_in_urls_are_redacted_whatever_the_variable_is_called(password: str) -> None:
    url = f"tcp://joe:{password}@engine.internal:2376/x"
    redact = Redactor.from_environment({"DOCKER_HOST": url, "HOME": "/home/joe"}, []).redact
    assert (
        redact(f"can't reach {url}")
        == "can't reach tcp://joe:[password in DOCKER_HOST redacted]@engine.internal:2376/x"
    )
    assert "ry-4711" not in redact(f"the login {password} or {urllib.parse.unquote(password)} is wrong")
    assert redact("/home/joe") == "/home/joe"
