"""A table tells all that is wrong with it, each with its place; what a driver's author may write for one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct

from deploy_guard import Table
from deploy_guard.tables import Check, Reads, read


def _even(value: int) -> None:
    if value % 2:
        raise ValueError("write an even number")


class Node(Table, frozen=True):
    port_number: Annotated[int, Meta(ge=1), Check(_even)]
    weight: float = 1.0


class Cluster(Table, frozen=True):
    nodes: dict[str, Node]
    main: Node
    spare: tuple[Node, ...] = ()
    labels: list[Annotated[str, Meta(max_length=3)]] = msgspec.field(default_factory=list)
    folder: Path | None = None
    speed: Literal["fast"] | None = None
    limit: int | str = 0
    words: Annotated[tuple[str, ...], Reads(lambda value: value.split() if isinstance(value, str) else value)] = ()
    maker: complex = 1j

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("name a node")


class Plain(Struct):
    level: int
    inner_name: str = ""


class Ssh(Struct, tag="ssh"):
    host: str


class Way(Table, frozen=True):
    by: Ssh


GOOD: dict[str, Any] = {"nodes": {"a": {"port-number": 2}}, "main": {"port-number": 4}}


def problems(**raw: Any) -> dict[str, str]:
    return {".".join(problem.location): problem.text for problem in read(Cluster, {**GOOD, **raw})[1]}


def test_a_table_holds_what_its_types_say() -> None:
    raw = {**GOOD, "spare": [{"port-number": 8, "weight": 2}], "folder": "x/y", "words": "a b", "limit": "none"}
    cluster, found = read(Cluster, raw)
    assert (cluster, found) == (
        Cluster(
            nodes={"a": Node(port_number=2)},
            main=Node(port_number=4),
            spare=(Node(port_number=8, weight=2.0),),
            folder=Path("x/y"),
            limit="none",
            words=("a", "b"),
        ),
        [],
    )
    with pytest.raises(AttributeError):
        cluster.limit = 3  # type: ignore[union-attr, misc]


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    said = problems(
        nodes={"a": {"port-number": 0}, "b": 5, "c": {"port_number": 2}},
        main={"port-number": 3, "weight": True},
        spare=[{}],
        labels=["abc", "abcd"],
        folder=7,
        speed="slow",
        limit=1.5,
        maker="me",
        lables=[],
    )
    assert said == {
        "lables": "there is no such key",
        "nodes.a.port-number": "write a whole number: at least 1",
        "nodes.b": "write a table",
        "nodes.c.port_number": "there is no such key",
        "nodes.c.port-number": "is missing: write it",
        "main.port-number": "write an even number",
        "main.weight": "write a number",
        "spare.0.port-number": "is missing: write it",
        "labels.1": "write a string: at most 3 long",
        "folder": "write a path",
        "speed": "write 'fast'",
        "limit": "Expected `int | str`, got `float`",
        "maker": "this is no complex",
    }


def test_the_table_as_a_whole_is_looked_at_when_all_in_it_is_right() -> None:
    assert problems(nodes={}) == {"": "name a node"}
    assert problems(nodes={}, limit=1.5).keys() == {"limit"}


def test_a_missing_key_has_no_value_and_an_unknown_one_names_those_that_there_are() -> None:
    found = read(Node, {"prot-number": 1}, ("main",))[1]
    assert [(problem.location, problem.value, problem.known) for problem in found] == [
        (("main", "prot-number"), 1, ("port-number", "weight")),
        (("main", "port-number"), UNSET, ()),
    ]


@pytest.mark.parametrize("raw", [3, [], "x", None])
def test_what_is_no_table_is_told(raw: object) -> None:
    assert [problem.text for problem in read(Node, raw)[1]] == ["write a table"]


def test_a_plain_struct_will_do_and_lets_unknown_keys_pass_as_it_says_itself() -> None:
    assert read(Plain, {"level": 3, "more": 1, "inner_name": "x"}) == (Plain(3, "x"), [])


def test_structs_that_are_told_apart_by_a_tag_are_read_by_it() -> None:
    assert read(Way, {"by": {"type": "ssh", "host": "h"}}) == (Way(by=Ssh("h")), [])
    assert read(Way, {"by": {"type": "ftp", "host": "h"}})[1][0].text == "Invalid value 'ftp' - at `$.type`"
