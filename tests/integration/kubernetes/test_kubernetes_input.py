"""Manifests as kubectl and kustomize read them, and as deploy-guard does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kube
import pytest
import yaml

from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import manifests, yamls
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.objects import Manifest
from deploy_guard.errors import PlanRejected

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"

WORDS = """
0644 0o14 0O14 0x1F 0X1f -0x1F +12 -12 1_000 _1 1__0 1e3 1E3 1.5 1. 1.0 .5 -.5 +.5 09 08.5 0b101 0B101 -0b11 12:30:45
190:20:30 2001-01-01 2001-12-14t21:59:43.10-05:00 yes y Y n N No Off on oN TRUE tRUE ~ null Null NULL nULL 'yes' 1.10.0
1e400 12e4567 1e-400 9223372036854775807 9223372036854775808 18446744073709551616 123456789012345678901234567890
-9223372036854775808 -9223372036854775809 1e21 1e20 100000000000000000000.0 1e15 1.0e+16 9007199254740993.0 0.1 1e-7
1.2345678901234567e18 123456.789 -0 -0.0 00 0o0 +0 0_7 0x_1 0. = << 1_000.5 0x1.8p1 0b 0x 0o 0o8 1e 1e+ e3 . .. + +. -.
infinity nan Inf +Inf 0777777777777777777777777 07_7 0b1_0 1.e3 1.5e 12e03 -1e3 1,000 1e3_0 0xFFFFFFFFFFFFFFFFF é 😀 a#b
"""
VALUES = [
    *WORDS.split(),
    "",
    "2001-01-01 10:00:00",
    "!!str 12",
    "!!str",
    "!!str yes",
    "! 12",
    "!<tag:yaml.org,2002:str> 12",
    "!!int '12'",
    "!!int 0x1F",
    "!!float 3",
    "!!float '1.5'",
    "!!bool yes",
    "!!null ''",
    "!!timestamp 2001-01-01",
    "!!binary aGVsbG8=",
    "!!binary |\n   aGVs\n   bG8=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "|\n   x\n   y",
    "|-\n   x\n\n",
    "|+\n   x\n\n",
    ">\n   x\n   y\n\n   z\n",
    '"a\\tb\\x41\\u263A\\e"',
    '"\\0"',
    "'it''s'",
    "a b\n   c",
    "tab\there",
    "12 # comment",
    "[1,2,]",
    "{a, b: }",
    "{? a : b}",
    "{a:1}",
    '{"a":1}',
    "{1: a, 1.5: b, true: c, yes1: d, 1e3: e, 0x10: f, 2001-01-01: g}",
    "{<<: {a: 1}, b: 2}",
    "{<<: [{a: 1}, {a: 2, c: 3}], b: 2}",
    "{<<: {b: 1}, b: 2}",
    "{b: 2, <<: {a: 1}}",
    "{'<<': {a: 1}}",
    "&x [1, &y 2, *y]",
    "[&z x, *z ]",
    "&w",
]
WRONG = [
    *(
        "!!int yes",
        "!!int 1.5",
        "!!float x",
        "!!bool 1",
        "!!null x",
        "!!null 3",
        "!!binary x",
        "!!binary 'aGVs\n   bG8='",
    ),
    *(
        "[1, , 2]",
        "{null: a}",
        "{? [a] : b}",
        "{<<: 3}",
        "&x {a: *x}",
        "@x",
        "`x`",
        "%x",
        "*",
        "&",
        "a: b",
        "{a: b: c}",
    ),
    *("- a", ".inf", ".nan", "-.INF", '"\\ud83d"', "\tx: 1", "'", '"', "{", "]"),
]
STRICTER = {
    "{a: 1, a: 2}": "stands there twice",
    "{1: a, '1': b}": "stands there twice",
    "{b: 2, <<: {b: 1}}": "write << first",
    "{<<: {a: 1}, <<: {a: 2}}": "stands there twice",
    "!local 12": "has no meaning",
    "!!binary /w==": "not base64 of a text",
}
"""What kubectl reads in a way that nobody means."""


def dry(text: str) -> list[Any] | None:
    """The objects that kubectl finds in a manifest; None when it refuses it."""
    words = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"]
    done = subprocess.run(
        ["kubectl", "--context", kube.context(), *words], input=text.encode(), capture_output=True, timeout=60
    )
    if done.returncode:
        assert b"error" in done.stderr
        assert b"connection" not in done.stderr
        return None
    found: list[Any] = []
    rest = done.stdout.decode().strip()
    while rest:
        one, end = json.JSONDecoder(parse_int=_as_go).raw_decode(rest)
        found += one["items"] if one["kind"] == "List" else [one]
        rest = rest[end:].lstrip()
    return found


def _as_go(digits: str) -> int | float:
    """A number as the API server reads it: what 64 bits can't hold is a float."""
    return int(digits) if -(2**63) <= int(digits) < 2**63 else float(digits)


def parsed(text: str) -> list[Any]:
    return [one.data for one in yamls.documents(text, lambda text, plain: (text, plain, []))]


def read(folder: Path, *names: str, render: tuple[str, ...] | None = None) -> list[Manifest]:
    config = KubernetesConfig(context="c", namespace="shop", manifests=names or None, render=render)
    return manifests.read(config, Context("shop", "prod", folder, {**os.environ, "VERSION": "v1"}), "shop")


@pytest.mark.parametrize("loader", ["in C", "in Python"])
def test_every_value_is_what_kubectl_makes_of_it(cluster: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loader == "in Python":
        monkeypatch.setattr(yamls, "_Loader", yaml.SafeLoader)
    values = [one for one in VALUES if loader == "in C" or "\t" not in one]  # the one in Python takes no tabs there
    text = HEAD + "".join(f"v{number}:\n  a: {value}\n" for number, value in enumerate(values))
    [ours], [theirs] = parsed(text), dry(text) or [{}]
    for number, value in enumerate(values):
        assert ours[f"v{number}"] == theirs[f"v{number}"], value
        assert type(ours[f"v{number}"]["a"]) is type(theirs[f"v{number}"]["a"]), value


def test_what_kubectl_refuses_is_refused(cluster: str) -> None:
    texts = [f"{HEAD}x:\n  a: {value}\n" for value in WRONG]
    with ThreadPoolExecutor(4) as pool:
        assert [value for value, found in zip(WRONG, pool.map(dry, texts), strict=True) if found is not None] == []
    for text in texts:
        with pytest.raises(yamls.Unreadable):
            parsed(text)


@pytest.mark.parametrize(("value", "says"), STRICTER.items())
def test_what_kubectl_reads_in_a_way_that_nobody_means_is_refused(cluster: str, value: str, says: str) -> None:
    text = f"{HEAD}x:\n  a: {value}\n"
    assert dry(text) is not None
    with pytest.raises(yamls.Unreadable, match=says) as error:
        parsed(text)
    assert error.value.line == 5


CONFIG = (
    '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "%s"}, "data": {"a": "\\u00e9\\ud83d\\ude00/"}}'
)
PLAIN = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "%s"}}'
FILES = {
    "two documents": HEAD + "---\n" + HEAD.replace("name: a", "name: b"),
    "comments and nothing": f"# one\n---\n# two\n---\n\n{HEAD}---\n---\n~\n",
    "the end of a document": f"{HEAD}...\n---\n{HEAD.replace('name: a', 'name: b')}...\n",
    "line ends of Windows": HEAD.replace("\n", "\r\n") + "---\r\n" + HEAD.replace("a}", "b}").replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + HEAD,
    "JSON": CONFIG % "a",
    "a stream of JSON": CONFIG % "a" + "\n" + CONFIG % "b" + "\n",
    "JSON with marks": f"{PLAIN % 'a'}\n---\n{PLAIN % 'b'}",
    "JSON with tabs": (CONFIG % "a").replace(", ", ",\n\t\t"),
    "numbers of JSON": (CONFIG % "a").replace('"data"', '"n": [1.0, 1e3, 12345678901234567890, 1e20, -0.0], "data"'),
    "a list": f"apiVersion: v1\nkind: List\nitems:\n- {HEAD.strip().replace(chr(10), chr(10) + '  ')}\n",
    "a list that tells the kind": "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n",
    "an empty list too": f"apiVersion: v1\nkind: List\nitems:\n---\n{HEAD}",
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_of_a_file_has_the_objects_that_kubectl_finds(cluster: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "k8s.yaml").write_bytes(FILES[name].encode())
    theirs = dry(FILES[name])
    assert theirs
    for one in theirs:
        del one["metadata"]["namespace"]
    assert [one.body for one in read(tmp_path, "k8s.yaml")] == theirs


def test_a_kustomization_is_built_by_kustomize_and_its_variables_are_replaced(tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        kube.missing("kubectl is not on the PATH")
    (tmp_path / "base").mkdir()
    (tmp_path / "base/app.yaml").write_text(HEAD + "data: {version: '${VERSION}', other: '${other}'}\n")
    (tmp_path / "base/kustomization.yaml").write_text("resources: [app.yaml]\n")
    (tmp_path / "prod").mkdir()
    (tmp_path / "prod/Kustomization").write_text("resources: [../base]\nnamePrefix: prod-\n")
    [found] = read(tmp_path, "prod")
    assert (found.name, found.body["data"]) == ("prod-a", {"version": "v1", "other": "${other}"})
    assert found.source == "kustomize prod, document 1"
    with pytest.raises(PlanRejected, match="name its folder, base, instead"):
        read(tmp_path, "base/*.yaml")


def test_what_kustomize_says_stands_in_the_error(tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        kube.missing("kubectl is not on the PATH")
    (tmp_path / "kustomization.yml").write_text("resources: [gone.yaml]\n")
    with pytest.raises(PlanRejected, match=r"gone\.yaml"):
        read(tmp_path, ".")
