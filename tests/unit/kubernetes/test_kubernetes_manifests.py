"""The objects of a release, read from what users have: files, folders, lists, commands, and hostile text."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes import manifests, yamls
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.objects import Manifest
from deploy_guard.errors import PlanRejected

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: '{value}'}}\n"


class Folder:
    """A folder with manifests, and what the driver makes of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"VERSION": "v1.2.3", "COMMIT": "3f9c2e1", "PATH": "/usr/bin:/bin"}

    def write(self, name: str, text: str | bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def read(self, *names: str, **more: Any) -> list[Manifest]:
        config = KubernetesConfig(context="c", namespace="shop", manifests=names or None, **more)
        context = Context("shop", "prod", self.path, self.environ)
        return manifests.read(config, context, "shop")

    def refused(self, *names: str, **more: Any) -> str:
        with pytest.raises(PlanRejected) as error:
            self.read(*names, **more)
        return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def spec(folder: Folder, text: str, **more: Any) -> Any:
    folder.write("one.yaml", f"apiVersion: example.com/v1\nkind: Thing\nmetadata: {{name: a}}\nspec:\n{text}\n")
    return folder.read("one.yaml", **more)[0].body["spec"]


# Where objects come from


def test_files_folders_and_globs_give_their_objects_once_and_in_order(folder: Folder) -> None:
    folder.write("k8s/b.yaml", MAP.format(name="b", value=1))
    folder.write("k8s/a.yml", MAP.format(name="a1", value=1) + "---\n# nothing\n---\n" + MAP.format(name="a2", value=1))
    folder.write("k8s/c.json", json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c"}}))
    folder.write("k8s/read.me", "no manifest")
    folder.write("k8s/deep/d.yaml", MAP.format(name="d", value=1))
    found = folder.read("k8s", "k8s/*.yaml", "k8s/**/*.yaml")
    assert [one.name for one in found] == ["a1", "a2", "b", "c", "d"]
    assert found[1].source == "k8s/a.yml, document 3"


def test_lists_are_taken_apart(folder: Folder) -> None:
    items = "".join("- " + MAP.format(name=n, value=1).replace("\n", "\n  ").rstrip() + "\n" for n in ("a", "b"))
    folder.write("l.yaml", f"apiVersion: v1\nkind: List\nitems:\n{items}")
    found = folder.read("l.yaml")
    assert [one.shown for one in found] == ["ConfigMap/a", "ConfigMap/b"]
    assert found[1].source == "l.yaml, document 1, item 2"


@pytest.mark.parametrize(
    ("name", "says"),
    [("gone.yaml", "there is no such file"), ("k8s/*.yaml", "no file"), ("empty", "no file in this folder")],
)
def test_what_is_not_there_is_told(folder: Folder, name: str, says: str) -> None:
    (folder.path / "empty").mkdir()
    assert says in folder.refused(name)


def test_manifests_without_objects_are_refused(folder: Folder) -> None:
    folder.write("a.yaml", "# nothing\n---\n---\n")
    assert "hold no objects" in folder.refused("a.yaml")


def test_a_command_prints_manifests_that_are_not_substituted_and_knows_the_version(folder: Folder) -> None:
    text = MAP.format(name="a", value="${VERSION}")
    command = ("sh", "-c", 'printf "%s" "$1"; echo "# $VERSION" >made', "x", text)
    assert folder.read(render=command)[0].body["data"] == {"a": "${VERSION}"}
    assert (folder.path / "made").read_text() == "# v1.2.3\n"


def test_a_command_may_print_as_much_as_large_charts_do(folder: Folder) -> None:
    one = MAP.format(name="n-'$n'", value="x" * 2000).strip().replace("\n", "\\n")
    found = folder.read(render=("sh", "-c", f"for n in $(seq 2000); do printf '{one}\\n---\\n'; done"))
    assert len(found) == 2000


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("sh", "-c", "echo broken chart >&2; exit 3"), "broken chart"),
        (("true",), "printed nothing"),
        (("./nonesuch",), "can't be started"),
        (("sleep", "9"), "ran longer than 0.2 s"),
    ],
)
def test_a_command_that_fails_is_told_in_its_own_words(folder: Folder, command: tuple[str, ...], says: str) -> None:
    assert says in folder.refused(render=command, render_timeout=0.2 if command[0] == "sleep" else 10.0)


def test_what_a_command_printed_before_it_failed_is_not_told_for_it_may_be_secret(folder: Folder) -> None:
    said = folder.refused(render=("sh", "-c", "echo 'password: hunter2'; exit 3"))
    assert "ended with exit code 3" in said
    slow = folder.refused(render=("sh", "-c", "echo 'password: hunter2'; sleep 9"), render_timeout=0.5)
    assert "ran longer than 0.5 s" in slow
    for text in (said, slow):
        assert "password: hunter2\n" not in text
        assert text.count("hunter2") == 1  # in the command itself


def test_a_stream_of_json_objects_is_read_with_the_line_of_each(folder: Folder) -> None:
    one = '{"apiVersion": "v1", "kind": "ConfigMap",\n"metadata": {"name": "%s"}, "data": {"a": "%s"}}\n'
    folder.write("s.json", one % ("a", "x") + one % ("b", "${VERSION}"))
    assert [(found.name, found.source) for found in folder.read("s.json")] == [
        ("a", "s.json, document 1"),
        ("b", "s.json, document 2"),
    ]
    del folder.environ["VERSION"]
    assert "s.json:4: ${VERSION} has no value" in folder.refused("s.json")


def test_brackets_in_the_name_of_the_folder_are_no_pattern(folder: Folder) -> None:
    inner = Folder(folder.path / "[x]")
    inner.write("k8s/a.yaml", MAP.format(name="a", value=1))
    assert [one.source for one in inner.read("k8s/*.yaml")] == ["k8s/a.yaml, document 1"]


@pytest.mark.parametrize(("name", "says"), [("x" * 300, "can't be read"), ("a\0b", "null")])
def test_names_that_no_file_can_have_are_told(folder: Folder, name: str, says: str) -> None:
    assert says in folder.refused(name)


def test_entries_of_a_list_may_leave_their_kind_to_it_and_an_empty_one_is_none(folder: Folder) -> None:
    items = "apiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: a}}]\n"
    folder.write("l.yaml", f"{items}---\napiVersion: v1\nkind: List\nitems:\n")
    assert [one.shown for one in folder.read("l.yaml")] == ["ConfigMap/a"]


def test_five_hundred_documents_are_read_in_well_below_a_second(folder: Folder) -> None:
    for number in range(500):
        folder.write(f"k8s/{number}.yaml", MAP.format(name=f"c{number}", value="v-${VERSION}"))
    started = time.process_time()
    assert len(folder.read("k8s")) == 500
    assert time.process_time() - started < 0.6  # 0.12 s where nothing else runs


# Variables


def test_variables_are_replaced_and_everything_else_that_looks_like_one_stays(folder: Folder) -> None:
    found = spec(
        folder,
        "  image: shop:${VERSION}\n  ${COMMIT}: key\n  escaped: $${VERSION} $${other}\n"
        "  nginx: ${request_uri} ${x:-y} $VERSION ${}\n  text: |\n    #!/bin/sh\n    echo ${HOME} ${VERSION}\n",
    )
    assert found["image"] == "shop:v1.2.3"
    assert found["3f9c2e1"] == "key"
    assert found["escaped"] == "${VERSION} ${other}"
    assert found["nginx"] == "${request_uri} ${x:-y} $VERSION ${}"
    assert found["text"] == "#!/bin/sh\necho ${HOME} v1.2.3\n"


@pytest.mark.parametrize("value", ["a: b", "x # y", "'", '"', "- a", "{a: b}", "a\nb: c", "*x", "!!int 3", "---"])
def test_no_value_can_change_the_rest_of_a_manifest(folder: Folder, value: str) -> None:
    folder.environ["VERSION"] = value
    found = spec(folder, "  plain: ${VERSION}\n  inside: v-${VERSION}\n  last: 1")
    assert found == {"plain": value, "inside": f"v-{value}", "last": 1}


def test_an_unquoted_variable_is_what_its_value_is_and_a_quoted_one_is_text(folder: Folder) -> None:
    folder.environ["VERSION"] = "3"
    found = spec(folder, "  a: ${VERSION}\n  b: '${VERSION}'\n  c: \"${VERSION}\"\n  d: ${VERSION}.0\n  e: $${VERSION}")
    assert found == {"a": 3, "b": "3", "c": "3", "d": "3.0", "e": "${VERSION}"}


def test_a_variable_without_a_value_is_told_with_its_line_only_where_it_is_used(folder: Folder) -> None:
    del folder.environ["COMMIT"]
    assert spec(folder, "  a: ${VERSION}") == {"a": "v1.2.3"}
    folder.write("two.yaml", MAP.format(name="a", value="${COMMIT}"))
    assert "two.yaml:4: ${COMMIT} has no value: set COMMIT" in folder.refused("two.yaml")


def test_a_value_that_is_no_text_is_refused(folder: Folder) -> None:
    folder.environ["VERSION"] = b"v\xff".decode("utf-8", "surrogateescape")
    folder.write("two.yaml", MAP.format(name="a", value="${VERSION}"))
    assert "two.yaml:4: ${VERSION} is not UTF-8" in folder.refused("two.yaml")


def test_strict_variables_refuse_all_others(folder: Folder) -> None:
    folder.write("two.yaml", MAP.format(name="a", value="${VERSION} ${TYPO} $${FINE}"))
    said = folder.refused("two.yaml", strict_variables=True)
    assert "${TYPO} is not one of the variables (COMMIT, VERSION)" in said
    assert "FINE" not in said


def test_json_is_substituted_inside_of_texts(folder: Folder) -> None:
    folder.environ["VERSION"] = '"}{'
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"v": "${VERSION}"}}
    folder.write("a.json", json.dumps(body))
    assert folder.read("a.json")[0].body["data"] == {"v": '"}{'}


# YAML as kubectl reads it


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0644", 420),
        ("0o14", 12),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1e3", 1000),
        ("1.5", 1.5),
        ("09", 9),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("yes", True),
        ("n", False),
        ("Off", False),
        ("~", None),
        ("", None),
        ("'yes'", "yes"),
        ("1.10.0", "1.10.0"),
        ("!!str 12", "12"),
        ("!!binary aGVsbG8=", "hello"),
        ("!!timestamp 2001-01-01", "2001-01-01"),
        ("1.0e+16", 10**16),
        ("9223372036854775808", 9223372036854775808.0),
        ("12e4567", "12e4567"),
    ],
)
def test_scalars_are_what_kubectl_makes_of_them(folder: Folder, text: str, value: object) -> None:
    found = spec(folder, f"  a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_keys_that_are_no_texts_become_texts_and_merge_keys_work(folder: Folder) -> None:
    found = spec(folder, "  1: a\n  base: &b {x: 1, z: 2}\n  both: {<<: *b, z: 3}")
    assert found == {"1": "a", "base": {"x": 1, "z": 2}, "both": {"x": 1, "z": 3}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "bad.yaml:2:1: the key 'a' stands there twice"),
        ('{"a": 1, "a": 2}', "stands there twice"),
        ("a: [", "did not find expected node content"),
        ("a:\n\t- b", "bad.yaml:2:1"),
        ("a: 1\nb: {x: 1, <<: {x: 2}}", "bad.yaml:2:11: the key 'x' stands before << and in it"),
        ("a: {<<: {x: 1}, <<: {y: 1}}", "<< stands there twice"),
        ("a: !!int yes", "what stands there is no !!int"),
        ("a: !!binary /w==", "not base64 of a text"),
        ('{"a":\n1, "a": 2}', "bad.yaml:2:4: the key"),
        ('{"a": 1e400}', "too large for JSON"),
        ('{"a": "\\ud800"}', "bad.yaml:1:10: while parsing a quoted scalar"),
        ('{"a": ' + "[" * 500 + "]" * 500 + "}", "levels deep"),
        ("a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}]\n" for i in range(1200)), "levels deep"),
        ("a: *x", "bad.yaml:1:4: this alias has no anchor"),
        ("a: &x [*x]", "this alias has no anchor"),
        ("a: .inf", "write it in quotes"),
        ('{"a": NaN}', "write it in quotes"),
        ("a: !!python/object:os.system x", "has no meaning in a manifest"),
        ("a: \x00", "control characters"),
        ("- " * 2000, "levels deep"),
        ('{"a":' * 2000, "levels deep"),
        (b"a: \xff", "it is not UTF-8: byte 4"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
            "holds more than 1,000,000 values",
        ),
    ],
)
def test_files_that_can_not_be_read_are_told_with_the_place(folder: Folder, text: str | bytes, says: str) -> None:
    folder.write("bad.yaml", text)
    assert says in folder.refused("bad.yaml")


def test_what_an_alias_stands_for_is_a_value_of_its_own(folder: Folder) -> None:
    found = spec(folder, "  a: &a {x: {z: 1}}\n  b: *a\n  c: {<<: *a}")
    found["b"]["x"]["z"] = found["c"]["x"]["z"] = 2
    assert found["a"] == {"x": {"z": 1}}


def test_byte_order_marks_and_line_ends_of_windows_are_nothing_special(folder: Folder) -> None:
    folder.write("w.yaml", b"\xef\xbb\xbf" + MAP.format(name="a", value="x").replace("\n", "\r\n").encode())
    assert folder.read("w.yaml")[0].body["data"] == {"a": "x"}


# What is looked at before anything is sent


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: A\nmetadata: {name: a}", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: a}", "kind is missing"),
        ("apiVersion: v1\nkind: A", "metadata is missing"),
        ("apiVersion: v1\nkind: A\nmetadata: [a]", "metadata must be a mapping"),
        ("apiVersion: v1\nkind: A\nmetadata: {}", "metadata.name is missing"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: 12}", "put it in quotes"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a/b}", "can't be part of a path"),
        ("apiVersion: v1\nkind: A\nmetadata: {generateName: a-}", "generateName"),
        ("apiVersion: 1\nkind: A\nmetadata: {name: a}", "apiVersion must be a text"),
        ("just words", "an object is a mapping"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: other}", "for the namespace other"),
        ("apiVersion: v1\nkind: List\nitems: [3]", "item 1: an object is a mapping"),
        (
            "apiVersion: batch/v1\nkind: Job\nmetadata: {name: a, annotations: {deploy-guard/phase: first}}",
            "write before or after",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, annotations: {deploy-guard/phase: before}}",
            "is for a Job of batch/v1",
        ),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: deploy-guard-shop-4}", "deploy-guard's own records"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: deploy-guard-shop-4-1}", "deploy-guard's own records"),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: deploy-guard-before-shop.0a1b2c3d}",
            "deploy-guard's own records",
        ),
    ],
)
def test_an_object_that_can_not_be_sent_is_told_before(folder: Folder, text: str, says: str) -> None:
    folder.write("bad.yaml", text)
    assert says in folder.refused("bad.yaml")


@pytest.mark.parametrize("value", ["*hunter2", "!hunter2", "!!hunter2 x"])
def test_a_password_without_quotes_is_not_repeated(folder: Folder, value: str) -> None:
    folder.write("s.yaml", f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData:\n  password: {value}\n")
    said = folder.refused("s.yaml")
    assert "s.yaml:5" in said
    assert "hunter2" not in said


def test_a_pipe_is_not_read(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe.yaml")
    assert "it is not a file" in folder.refused("pipe.yaml")


def test_an_object_that_stands_there_twice_is_told_with_both_places(folder: Folder) -> None:
    folder.write("a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}")
    folder.write("b.yaml", "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: web, namespace: shop}")
    said = folder.refused("a.yaml", "b.yaml")
    assert "b.yaml, document 1: Deployment/web stands in a.yaml, document 1 already" in said


def test_everything_that_is_wrong_is_told_at_once_and_nothing_that_a_secret_holds(folder: Folder) -> None:
    folder.write("a.yaml", "kind: Secret\nstringData: {password: hunter2-canary}\n---\nkind: B\nmetadata: {name: b}\n")
    folder.write("b.yaml", MAP.format(name="x", value="y").replace("name: x", "name: x, namespace: z"))
    said = folder.refused("a.yaml", "b.yaml", "gone.yaml")
    for text in ("a.yaml:1: document 1: apiVersion", "a.yaml:4: document 2", "b.yaml:1", "gone.yaml"):
        assert text in said
    assert "canary" not in said


def test_an_error_of_the_reader_is_not_taken_for_the_end_of_the_file() -> None:
    found = yamls.documents("a: 1\n---\nb: [", lambda text, plain: (text, plain, []))
    assert next(found).data == {"a": 1}
    with pytest.raises(yamls.Unreadable):
        next(found)
