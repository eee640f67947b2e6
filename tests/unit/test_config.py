from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy_guard import ConfigurationError
from deploy_guard.config import EnvironmentConfig, find, gate_roots, load
from deploy_guard.configfile import gate_folders
from deploy_guard.drivers import load_driver, make_driver
from deploy_guard.drivers.base import Context
from deploy_guard.duration import seconds_of, seconds_or_none
from deploy_guard.probes.versions import Versions

FULL = """
name = "shop"
gates = ["gates"]
required-variables = ["SERVICE_URL"]
secrets = [["API_KEY", "TOKEN"], "DB_PASSWORD"]
timeout = "2m"
[settings]
canary = { minutes = 10, percent = 5 }
[host.disk]
warn = 50
fail = 60
[local]
root = "general"
keep = 3
[env.stage]
driver = "local"
timeout = 30
gate-timeout = "1m"
service-url = "http://127.0.0.1:1"
[env.stage.settings]
canary = { minutes = 1 }
[env.stage.host]
paths = ["/", "/tmp"]
[env.stage.local]
root = "special"
artifact = "app"
[env.prod]
required-variables = []
"""


def configured(folder: Path, text: str, env: str = "stage", name: str = "deploy-guard.toml") -> EnvironmentConfig:
    path = folder / name
    path.write_text(text)
    return load(path, directory=folder).for_env(env)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        configured(folder, text)
    assert str(folder / "deploy-guard.toml") in str(error.value), "the file is named"
    return str(error.value)


def test_an_environments_own_keys_win_over_the_general_ones(tmp_path: Path) -> None:
    config = configured(tmp_path, FULL)
    assert (config.name, config.driver, config.timeout, config.gate_timeout) == ("shop", "local", 30.0, 60.0)
    assert config.driver_config == {"root": "special", "artifact": "app", "keep": 3}
    assert config.settings == {"canary": {"minutes": 1, "percent": 5}}
    assert (config.host.disk.warn, config.host.disk.fail, config.host.memory.fail) == (50, 60, 85)
    assert config.host.paths == ("/", "/tmp")
    assert config.secret_groups == (("API_KEY", "TOKEN"), ("DB_PASSWORD",))
    assert configured(tmp_path, FULL, "prod").required_variables == ()


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    config = load(None, directory=tmp_path).for_env("dev")
    assert (config.name, config.driver, config.environments) == (tmp_path.name, None, ("dev", "stage", "prod"))
    assert (config.host.disk.warn, config.host.disk.fail) == (75, 85)
    assert (config.host.memory.warn, config.host.memory.fail) == (70, 85)
    assert config.required_variables == ("SERVICE_URL", "VERSION")
    assert config.gate_timeout == 60


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae = 'x'", ["nmae", "did you mean name?"]),
        ("[env.stage]\ntimout = 3", ["env.stage.timout", "did you mean timeout?"]),
        ("timeout = 'soon'", ["timeout = 'soon'", "90s"]),
        ("timeout = -1", ["timeout = -1", "above 0"]),
        ("gates = []", ["gates", "at least 1"]),
        ("name = 'two words'", ["name = 'two words'"]),
        ("ledger = 'mysql://x'", ["ledger", "sqlite:///"]),
        ("rollback = 'never'", ["rollback = 'never'", "'auto' or 'off'"]),
        ("service-url = 'ftp://x'", ["service-url", "http://"]),
        ("[host]\ndisk = { warn = 90, fail = 80 }", ["host.disk", "swap them"]),
        ("[env.stage.host]\nmemory = { warn = 10, fail = 200 }", ["env.stage.host.memory.fail = 200", "100"]),
        ("[host]\nclock-skew = { warn = 30, fail = 5 }", ["host.clock-skew", "swap them"]),
        ("[host]\ninodes = { wran = 30, fail = 5 }", ["host.inodes.wran", "did you mean warn?"]),
        ("[host]\ntoools = []", ["host.toools", "did you mean tools?"]),
        ("[env.stage.host.ports]\nfre = [1]", ["env.stage.host.ports.fre", "did you mean free?"]),
        ("[host]\ntools = ['docker > 2']", ["host.tools.0 = 'docker > 2'", "name>=1.2"]),
        ("[host]\nprocesses = [' ']", ["host.processes.0 = ' '"]),
        ("[host.ports]\nopen = ['h:99999']", ["host.ports.open.0 = 'h:99999'", "host:port"]),
        ("[host.ports]\nopen = [true]", ["host.ports.open.0 = True", "host:port"]),
        ("[host.ports]\nfree = [0]", ["host.ports.free.0 = 0"]),
        ("certificate-days = { warn = 7, fail = 21 }", ["certificate-days", "fewer days are worse", "swap them"]),
        ("version-samples = 0", ["version-samples = 0: write a whole number: at least 1, at most 20"]),
        ("release-guard = 1", ["release-guard = 1: write true or false"]),
        ("[host.disk]\nwarn = 5", ["host.disk.fail: is missing: write it"]),
        ("[host.ports]\nfree = [8080.5, true]", ["host.ports.free.0 = 8080.5", "host.ports.free.1 = True"]),
        (
            "secrets = [[], 5]",
            ["secrets.0 = []", "secrets.1 = 5: write the name of a variable, or a list of such names"],
        ),
        ("env = 3", ["env = 3: write a table"]),
        ("[env]\nstage = 3", ["env.stage = 3: write a table"]),
        ("[env.stage]\nlocl = 3", ["env.stage.locl = 3", "did you mean local?"]),
        ('name = "shop\\n"', ["name = 'shop\\n'"]),
        ('version-header = "X-A\\n"', ["version-header"]),
        ("version-header = 'two words'", ["version-header = 'two words'"]),
        ("[service-headers]\n'a b' = 'x'", ["service-headers.a b"]),
        ("environments = ['qa']\n[env.stage]\n", ["environments does not name stage"]),
        ("extends = 'nonesuch_package:base.toml'", ["nonesuch_package is not installed"]),
        ("extends = 'no colon'", ['write "package:file.toml"']),
        ("a = 1\nname = = 2", ["not valid TOML", "line 2"]),
    ],
)
def test_errors_name_file_key_value_and_fix(tmp_path: Path, text: str, words: list[str]) -> None:
    said = refused(tmp_path, text)
    for word in words:
        assert word in said, said


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    said = refused(tmp_path, "nmae = 1\ntimeout = 'soon'\n[env.stage]\ntimout = 1\n")
    assert all(word in said for word in ("nmae", "soon", "timout"))


@pytest.mark.parametrize(
    "text",
    [
        "[settings]\napi-token = 'canary-4711'",
        "[settings.deep]\npassword = 'canary-4711'",
        "[env.stage.settings]\nAPI_KEY = 'canary-4711'",
        "service-url = 'https://user:canary-4711@host/'",
        "ledger = 'postgresql://u:canary-4711@host/db'",
        "token = 'canary-4711'",
        "service-headers = { Authorization = 'Bearer canary-4711' }",
        "service-headers = { X-Api-Key = 'canary-4711' }",
        "[env.stage]\nservice-headers = { Cookie = 'sid=canary-4711' }",
    ],
)
def test_a_secret_in_the_file_is_an_error_that_does_not_repeat_it(tmp_path: Path, text: str) -> None:
    said = refused(tmp_path, text)
    assert "canary-4711" not in said
    assert "secret" in said or "credentials" in said


def test_headers_are_merged_and_their_secrets_are_hidden(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        "[service-headers]\nAuthorization = 'Bearer ${SHOP_LOGIN}'\nX-Team = 'shop'\nX-Env = '${ENV}'\n"
        "[env.stage.service-headers]\nX-Team = 'stage-team'\n",
    )
    assert config.service_headers == {
        "Authorization": "Bearer ${SHOP_LOGIN}",
        "X-Team": "stage-team",
        "X-Env": "${ENV}",
    }
    assert config.hidden == (("API_KEY", "TOKEN"), ("SHOP_LOGIN",))


def test_host_tables_of_an_environment_are_merged(tmp_path: Path) -> None:
    host = configured(
        tmp_path,
        "[host]\ntools = ['jq']\nports = { open = ['db:5432', 8080], free = [9] }\n"
        "[env.stage.host]\nclock-skew = { warn = 5, fail = 30 }\nports = { free = [7] }\n",
    ).host
    assert (host.tools, host.ports.open, host.ports.free) == (("jq",), ("db:5432", "127.0.0.1:8080"), (7,))
    assert host.clock_skew is not None
    assert host.clock_skew.fail == 30
    assert (host.inodes.warn, host.inodes.fail) == (75, 85)


def test_limits_that_only_another_environment_completes_are_told_by_name(tmp_path: Path) -> None:
    text = "[host]\ndisk = { warn = 50 }\n[env.stage.host]\ndisk = { fail = 60 }\n"
    assert configured(tmp_path, text).host.disk.fail == 60
    with pytest.raises(ConfigurationError, match=r"not valid for dev:\n  host\.disk\.fail: is missing"):
        configured(tmp_path, text, "dev")


def test_a_secret_inside_a_value_of_the_wrong_type_is_not_repeated(tmp_path: Path) -> None:
    assert "canary-4711" not in refused(tmp_path, "name = { token = 'canary-4711' }")


def test_what_only_errors_and_rare_keys_need_is_not_imported() -> None:
    rare = ("difflib", "deploy_guard.probes.ports", "deploy_guard.probes.tools", "pydantic", "requests", "pytest")
    code = f"import sys, deploy_guard.config; print([name for name in {rare!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_an_unknown_environment_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="use one of dev, stage, prod, qa"):
        configured(tmp_path, "[env.qa]\n", "moon")


def test_unreadable_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "deploy-guard.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load(tmp_path / "deploy-guard.toml", directory=tmp_path)
    with pytest.raises(ConfigurationError, match="can't be read"):
        load(tmp_path / "nonesuch.toml", directory=tmp_path)


def test_the_nearest_configuration_wins(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.deploy-guard]\nname = 'repo'\n")
    service = tmp_path / "services/shop"
    (service / "gates").mkdir(parents=True)
    assert find(service / "gates") == tmp_path / "pyproject.toml"
    (service / "deploy-guard.toml").write_text("name = 'shop'\n")
    assert find(service / "gates") == service / "deploy-guard.toml"
    assert load(tmp_path / "pyproject.toml", directory=tmp_path).for_env("dev").name == "repo"


def test_the_search_ends_at_the_top_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "deploy-guard.toml").write_text("")
    (tmp_path / "repo/.git").mkdir(parents=True)
    assert find(tmp_path / "repo") is None


def test_two_configurations_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "deploy-guard.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.deploy-guard]\n")
    with pytest.raises(ConfigurationError, match="keep one of them"):
        find(tmp_path)
    assert gate_folders(tmp_path) == frozenset()


def test_gate_roots_are_folders_and_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gates").mkdir()
    (tmp_path / "lib/acme_gates/gates").mkdir(parents=True)
    (tmp_path / "lib/acme_gates/__init__.py").touch()
    (tmp_path / "lib/acme_gates/gates/__init__.py").touch()
    (tmp_path / "lib/acme_gates/base.toml").write_text("timeout = 7\n[settings]\na = 1\nb = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    config = configured(
        tmp_path, "extends = 'acme_gates:base.toml'\ngates = ['gates', 'acme_gates.gates']\n[settings]\nb = 2\n"
    )
    assert [(root.path, root.name) for root in gate_roots(config)] == [
        (tmp_path / "gates", "gates"),
        (tmp_path / "lib/acme_gates/gates", "acme_gates.gates"),
    ]
    assert "acme_gates" not in sys.modules, "the process that outlives the gates runs no code of others"
    assert (config.timeout, config.settings) == (7, {"a": 1, "b": 2})
    with pytest.raises(ConfigurationError, match="'nonesuch' is neither a folder"):
        gate_roots(configured(tmp_path, "gates = ['nonesuch']"))
    with pytest.raises(ConfigurationError, match=r"'no\.such' is neither a folder"):
        gate_roots(configured(tmp_path, "gates = ['no.such']"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("90s", 90), ("250ms", 0.25), ("1h", 3600), (7, 7), (0.5, 0.5)]
)
def test_durations(text: object, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 days", 0, -1, True, None, "9999h"])
def test_durations_that_are_none(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration"):
        seconds_of(text)


@pytest.mark.parametrize("text", [0, 0.0, "0s", "0", "0.0 ms"])
def test_no_time_at_all_can_be_written_where_it_means_something(text: object) -> None:
    assert seconds_or_none(text) == 0.0
    assert seconds_or_none("5s") == 5.0
    with pytest.raises(ValueError, match=r"duration"):
        seconds_or_none("soon")


def test_drivers_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="installed drivers: compose, kubernetes, local"):
        load_driver("teleport")
    context = Context("shop", "stage", tmp_path)
    with pytest.raises(ConfigurationError) as error:
        make_driver("local", {"rot": "x", "keep": 1, "command": []}, context)
    said = str(error.value)
    assert all(word in said for word in ("[env.stage.local] rot", "root", "artifact", "keep = 1", "command = []"))
    with pytest.raises(ConfigurationError, match="exclude each other"):
        make_driver("local", {"root": "a", "artifact": "b", "command": ["x"], "restart-command": ["y"]}, context)
    with pytest.raises(ConfigurationError, match="credentials"):
        make_driver("local", {"root": "a", "artifact": "b", "ready-url": "http://u:p@h/"}, context)
    with pytest.raises(ConfigurationError, match="begins with http"):
        make_driver("local", {"root": "a", "artifact": "b", "ready-url": "h"}, context)


def test_releases_are_guarded_everywhere_but_in_dev(tmp_path: Path) -> None:
    (tmp_path / "deploy-guard.toml").write_text('tag = "shop/{version}"\n[env.qa]\n[env.prod]\npre-releases = true\n')
    config = load(tmp_path / "deploy-guard.toml", directory=tmp_path)
    assert [config.for_env(env).releases.guard for env in ("dev", "stage", "prod", "qa")] == [False, True, True, True]
    prod = config.for_env("prod").releases
    assert prod.versions == Versions("shop/{version}", pre_releases=True)
    assert (prod.paths, prod.allow_downgrade, prod.remote) == ((), False, "origin")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('tag = "release"', 'write the place of the version into it, once, as in "shop/{version}"'),
        ('tag = "{version}/{version}"', "once"),
        ('tag = "a b/{version}"', "git accepts no tag of that name"),
        ('version-pattern = "v("', "no regular expression"),
        ('paths = ["/srv/shop"]', "start at the configuration file's folder"),
        ('paths = [" "]', "start at the configuration file's folder"),
        ('tag-remote = "--upload-pack=x"', "tag-remote"),
        ("release-guard = 3", "release-guard"),
    ],
)
def test_a_wrong_rule_for_releases_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text + "\n")
