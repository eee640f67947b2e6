"""Objects field by field: what differs, how it is shown, and how one is made into the other."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import pytest

from deploy_guard.drivers.kubernetes import compare
from deploy_guard.drivers.kubernetes.compare import ABSENT
from deploy_guard.drivers.kubernetes.objects import Object

WEB = (("name", "web"),)


def deployment(**spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "replicas": 3,
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "web",
                            "image": "shop:1",
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                            "ports": [
                                {"containerPort": 80, "protocol": "TCP"},
                                {"containerPort": 80, "protocol": "UDP"},
                            ],
                            "args": ["--fast", "--safe"],
                        },
                        {"name": "side", "image": "side:1"},
                    ],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                }
            },
            **spec,
        },
    }


def into(body: Object, target: Object) -> Object:
    """Turn one object into the other by its differences."""
    result = deepcopy(body)
    found = compare.changes(body, target)
    for path, _, new in found:
        if new is ABSENT:
            compare.drop(result, path)
    for path, _, new in found:
        if new is not ABSENT:
            compare.put(result, path, new)
    compare.arrange(result, target)
    return result


def test_what_the_server_writes_is_no_desired_state() -> None:
    body = deployment()
    body["status"] = {"replicas": 3}
    body["metadata"] |= {
        "uid": "1",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{}],
        "selfLink": "/x",
        "annotations": {
            "deployment.kubernetes.io/revision": "4",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        },
    }
    before = deepcopy(body)
    assert compare.clean(body) == deployment()
    assert body == before
    body["metadata"]["annotations"]["team"] = "a"
    assert compare.clean(body)["metadata"]["annotations"] == {"team": "a"}


def test_entries_of_a_list_are_found_by_their_key_wherever_they_stand() -> None:
    found = compare.leaves(deployment())
    containers = ("spec", "template", "spec", "containers")
    assert found[(*containers, WEB, "image")] == "shop:1"
    assert found[(*containers, WEB, "env", (("name", "B"),), "value")] == "2"
    assert found[(*containers, WEB, "ports", (("containerPort", 80), ("protocol", "UDP")), "protocol")] == "UDP"
    assert found[(*containers, WEB, "args")] == ["--fast", "--safe"]
    assert found[("spec", "template", "spec", "volumes", (("name", "tmp"),), "emptyDir")] == {}
    turned = deployment()
    turned["spec"]["template"]["spec"]["containers"].reverse()
    assert compare.changes(deployment(), turned) == []


def test_a_port_without_a_protocol_is_a_tcp_port() -> None:
    service = {"spec": {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}}
    tcp = (("port", 80), ("protocol", "TCP"))
    assert ("spec", "ports", tcp, "port") in compare.leaves(service)
    compare.put(service, ("spec", "ports", tcp, "targetPort"), 8080)
    assert service["spec"]["ports"][0] == {"port": 80, "targetPort": 8080}


@pytest.mark.parametrize(
    "entries", [[{"name": "a"}, {"name": "a"}], [{"name": "a"}, {"x": 1}], [1, 2], [{"name": "a"}, 3]]
)
def test_a_list_whose_entries_have_no_key_of_their_own_is_one_value(entries: list[Any]) -> None:
    assert compare.leaves({"spec": {"things": entries}}) == {("spec", "things"): entries}


def test_every_value_can_be_read_by_its_path() -> None:
    body = deployment()
    for path, value in compare.leaves(body).items():
        assert compare.get(body, path) == value
    assert compare.get(body, ("spec", "nothing", "here"), "default") == "default"
    assert compare.get(body, ("spec", "replicas", "deeper"), ABSENT) is ABSENT


def changed() -> Object:
    body = deployment(replicas=5, paused=True)
    pod = body["spec"]["template"]["spec"]
    pod["containers"] = [
        {"name": "init", "image": "new:1"},
        {"name": "web", "image": "shop:2", "env": [{"name": "C", "value": "3"}, {"name": "A", "value": "1"}]},
    ]
    pod["volumes"][0]["emptyDir"] = {"medium": "Memory"}
    body["metadata"]["labels"] = {"team": "a"}
    return body


@pytest.mark.parametrize(("one", "other"), [(deployment(), changed()), (changed(), deployment())])
def test_its_differences_turn_one_object_into_the_other(one: Object, other: Object) -> None:
    assert into(one, other) == other


def test_without_its_name_an_entry_goes_with_all_that_others_put_into_it() -> None:
    body = deployment()
    compare.drop(body, ("spec", "template", "spec", "containers", WEB, "name"))
    assert [one["name"] for one in body["spec"]["template"]["spec"]["containers"]] == ["side"]


def test_dropping_what_is_not_there_changes_nothing() -> None:
    body = deployment()
    compare.drop(body, ("spec", "template", "metadata", "labels", "x"))
    compare.drop(body, ("spec", "template", "spec", "containers", (("name", "none"),), "image"))
    assert body == deployment()


def test_a_mapping_that_becomes_empty_goes_and_one_with_more_in_it_stays() -> None:
    body = {"metadata": {"name": "a", "annotations": {"x": "1"}, "labels": {"x": "1", "y": "2"}}}
    compare.drop(body, ("metadata", "annotations", "x"))
    compare.drop(body, ("metadata", "labels", "x"))
    assert body == {"metadata": {"name": "a", "labels": {"y": "2"}}}


def test_an_empty_mapping_that_is_put_keeps_what_others_have_in_it() -> None:
    body = {"emptyDir": {"medium": "Memory"}, "env": [{"name": "A"}], "args": ["x"]}
    for name in body:
        compare.put(body, (name,), {} if name == "emptyDir" else [])
    assert body == {"emptyDir": {"medium": "Memory"}, "env": [{"name": "A"}], "args": []}


def test_the_diff_names_each_field_with_its_old_and_new_value() -> None:
    assert compare.diff(deployment(), changed()).splitlines() == [
        "+ metadata.labels.team: a",
        "+ spec.paused: true",
        "- spec.replicas: 3",
        "+ spec.replicas: 5",
        "+ spec.template.spec.containers[init].image: new:1",
        "+ spec.template.spec.containers[init].name: init",
        "- spec.template.spec.containers[side].image: side:1",
        "- spec.template.spec.containers[side].name: side",
        '- spec.template.spec.containers[web].args: ["--fast", "--safe"]',
        "- spec.template.spec.containers[web].env[B].name: B",
        '- spec.template.spec.containers[web].env[B].value: "2"',
        "+ spec.template.spec.containers[web].env[C].name: C",
        '+ spec.template.spec.containers[web].env[C].value: "3"',
        "- spec.template.spec.containers[web].image: shop:1",
        "+ spec.template.spec.containers[web].image: shop:2",
        "- spec.template.spec.containers[web].ports[80/TCP].containerPort: 80",
        "- spec.template.spec.containers[web].ports[80/TCP].protocol: TCP",
        "- spec.template.spec.containers[web].ports[80/UDP].containerPort: 80",
        "- spec.template.spec.containers[web].ports[80/UDP].protocol: UDP",
        "- spec.template.spec.volumes[tmp].emptyDir: {}",
        "+ spec.template.spec.volumes[tmp].emptyDir.medium: Memory",
    ]


def test_a_new_object_shows_what_is_in_it_and_the_headline_its_name() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"app.conf": "a\nb\n", "n": "5"},
    }
    assert compare.diff(None, body).splitlines() == ['+ data["app.conf"]: |', "+   a", "+   b", '+ data.n: "5"']
    assert compare.diff(body, None).splitlines() == ['- data["app.conf"]: |', "-   a", "-   b", '- data.n: "5"']


def test_a_text_of_several_lines_is_compared_line_by_line() -> None:
    old = "\n".join(["listen 80", "-- comment", *"abcdefghij", "end"])
    new = old.replace("listen 80", "listen 81").replace("-- comment\n", "").replace("end", "END")
    before, after = ({"kind": "ConfigMap", "data": {"conf": text}} for text in (old, new))
    assert compare.diff(before, after).splitlines() == [
        "@ data.conf",
        "-   listen 80",
        "-   -- comment",
        "+   listen 81",
        "    a",
        "    b",
        "  …",
        "    i",
        "    j",
        "-   end",
        "+   END",
    ]
    assert compare.diff({"data": {"conf": "a\n"}}, {"data": {"conf": "a\n\n"}}) == "@ data.conf\n    a\n+   "
    assert compare.diff({"data": {"conf": "a\n"}}, {"data": {"conf": "a"}}) == "@ data.conf: other ends of lines"


def test_of_long_values_the_place_is_shown_where_they_differ() -> None:
    before, after = ({"data": {"json": "x" * 500 + end + "y" * 500}} for end in ("old", "new"))
    lines = compare.diff(before, after).splitlines()
    assert "old" in lines[0]
    assert "new" in lines[1]
    assert max(map(len, lines)) < 250


def test_another_order_of_the_same_entries_is_a_difference_that_is_said() -> None:
    turned = deployment()
    turned["spec"]["template"]["spec"]["containers"].reverse()
    assert compare.diff(deployment(), turned) == "  the same entries, in another order"
    assert compare.diff(deployment(), deployment()) == ""


def secret(**data: str) -> Object:
    coded = {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque", "data": coded}


def test_the_values_of_a_secret_never_show() -> None:
    old, new = secret(a="hunter2", b="same", c="gone"), secret(a="hunter3", b="same", d="fresh")
    new["stringData"] = {"e": "clear"}
    assert compare.diff(old, new).splitlines() == [
        "+ data.a: (secret value, changed)",
        "- data.c: (secret value)",
        "+ data.d: (secret value, new)",
        "+ stringData.e: (secret value, new)",
    ]
    assert compare.diff(None, secret(a="x")).splitlines() == ["+ data.a: (secret value, new)", "+ type: Opaque"]


def test_an_annotation_that_copies_a_secret_does_not_show_it_either() -> None:
    one = secret(a="hunter2")
    one["metadata"]["annotations"] = {"copy": 'x={"a":"' + one["data"]["a"] + '"}', "team": "a"}
    assert compare.diff(None, one).splitlines() == [
        "+ metadata.annotations.copy: (secret value, new)",
        "+ metadata.annotations.team: a",
        "+ data.a: (secret value, new)",
        "+ type: Opaque",
    ]


def test_a_masked_secret_keeps_the_names_of_its_entries_only() -> None:
    one = secret(a="hunter2")
    one["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "copy": one["data"]["a"],
        "team": "a",
    }
    before = deepcopy(one)
    hidden = compare.masked(one)
    assert one == before
    assert one["data"]["a"] not in str(hidden)
    assert list(hidden["data"]) == ["a"]
    assert hidden["metadata"]["annotations"]["team"] == "a"
    other = {"kind": "ConfigMap", "data": {"a": "b"}}
    assert compare.masked(other) is other


def test_binary_data_shows_its_size_only() -> None:
    before = {"kind": "ConfigMap", "binaryData": {"logo": base64.b64encode(b"\0" * 300).decode()}}
    after = {"kind": "ConfigMap", "binaryData": {"logo": base64.b64encode(b"\1" * 5000).decode()}}
    assert compare.diff(before, after).splitlines() == [
        "- binaryData.logo: (binary, 300 bytes)",
        "+ binaryData.logo: (binary, 5,000 bytes)",
    ]
