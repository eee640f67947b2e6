"""Drivers are found by name, and what is wrong with one, or with its table, is said in words."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import pytest

from deploy_guard import drivers
from deploy_guard.drivers import load_driver, make_driver
from deploy_guard.drivers.base import Context, Driver
from deploy_guard.drivers.local import LocalDriver
from deploy_guard.errors import ConfigurationError

GOOD: dict[str, Any] = {"root": "dep", "artifact": "app"}


class Package(Distribution):
    """An installed package called acme-deploy."""

    def read_text(self, filename: str) -> str | None:
        return "Metadata-Version: 2.1\nName: acme-deploy\nVersion: 1\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        return path


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(**values: str) -> None:
        points = []
        for name, value in values.items():
            point = EntryPoint(name, value, drivers.GROUP)
            vars(point).update(dist=Package())
            points.append(point)
        monkeypatch.setattr(drivers, "entry_points", lambda group: points if group == drivers.GROUP else [])

    return register


def make(**table: Any) -> Driver:
    return make_driver("local", {**GOOD, **table}, Context("shop", "stage", Path()))


def refused(**table: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        make(**table)
    return str(error.value)


def test_what_is_made_is_a_driver() -> None:
    assert isinstance(make(), Driver)


def test_a_driver_is_loaded_only_when_it_is_named() -> None:
    code = "import sys, deploy_guard.drivers; print([name for name in sys.modules if '.drivers.' in name])"
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert said.strip() == "['deploy_guard.drivers.base']"


@pytest.mark.parametrize("name", drivers.OWN)
def test_ours_are_found_without_installed_metadata_and_whatever_packages_register(registered: Any, name: str) -> None:
    registered(**{name: "nonesuch_module:Driver"})
    assert load_driver(name).__module__.startswith(f"deploy_guard.drivers.{name}")


def test_ours_are_those_that_the_package_registers() -> None:
    points = {
        point.name: point.value
        for point in Distribution.from_name("deploy-guard").entry_points.select(group=drivers.GROUP)
    }
    assert points == drivers.OWN


def test_before_anything_runs_ours_are_made_and_those_of_packages_only_known(registered: Any) -> None:
    registered(acme="nonesuch_module:Driver")
    context = Context("shop", "stage", Path())
    drivers.check_driver("acme", {"whatever": 1}, context)
    drivers.check_driver("local", GOOD, context)
    with pytest.raises(ConfigurationError, match="artifact: is missing"):
        drivers.check_driver("local", {"root": "dep"}, context)
    with pytest.raises(ConfigurationError, match="there is no driver 'acmee'"):
        drivers.check_driver("acmee", {}, context)


def test_an_unknown_driver_names_the_known_ones(registered: Any) -> None:
    registered(acme="acme:Driver")
    with pytest.raises(ConfigurationError, match=r"there is no driver 'lokal'") as error:
        load_driver("lokal")
    assert "acme, compose, kubernetes, local" in error.value.hint


def test_a_package_brings_its_own_driver(registered: Any) -> None:
    registered(acme="deploy_guard.drivers.local:LocalDriver")
    assert load_driver("acme") is LocalDriver


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("nonesuch_module:Driver", "ModuleNotFoundError: No module named 'nonesuch_module'"),
        ("deploy_guard.errors:Nonesuch", "AttributeError"),
        ("deploy_guard.errors:CommandFailed", "has no msgspec Struct Config"),
    ],
)
def test_a_broken_driver_names_its_package_and_the_cause(registered: Any, value: str, cause: str) -> None:
    registered(acme=value)
    with pytest.raises(ConfigurationError, match="the acme driver of the package acme-deploy") as error:
        load_driver("acme")
    assert cause in str(error.value)
    assert "acme-deploy" in error.value.hint


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"keep": 1}, "[env.stage.local] keep = 1: write a whole number: at least 2"),
        ({"ready-timeout": "soon"}, "[env.stage.local] ready-timeout = 'soon': write a duration such as"),
        ({"ready_url": "http://x/"}, "[env.stage.local] ready_url: there is no such key: did you mean ready-url?"),
        ({"nonsense": 1}, "[env.stage.local] nonsense: there is no such key: use root, artifact, command"),
        ({"variables": {"PORT": 80}}, "[env.stage.local] variables.PORT = 80: write a string"),
        ({"command": "python3 server.py"}, "there is no shell: write ['python3', 'server.py']"),
        ({"command": []}, "[env.stage.local] command = []"),
        ({"before": ["./migrate", "up"]}, "each of them is a list of words: write [['./migrate', 'up']]"),
        ({"ready-url": "ftp://x/"}, "write a URL that begins with http:// or https://"),
        ({"command": ["a"], "restart-command": ["b"]}, "[env.stage.local] as a whole: command and restart-command"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_the_fix(table: dict[str, Any], line: str) -> None:
    assert line in refused(**table)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError) as error:
        make_driver("local", {}, Context("shop", "stage", Path()))
    assert "[env.stage.local] root: is missing" in str(error.value)
    assert "[env.stage.local] artifact: is missing" in str(error.value)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    text = refused(**{"ready-url": "http://user:hunter2@host/"})
    assert "must not hold credentials" in text
    assert "hunter2" not in text


def test_an_error_about_the_whole_table_shows_none_of_it() -> None:
    text = refused(**{"command": ["a"], "restart-command": ["b"], "variables": {"X": "not to be shown"}})
    assert "not to be shown" not in text
