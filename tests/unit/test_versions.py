from __future__ import annotations

import random

import pytest

from deploy_guard.printable import one_line, shortened
from deploy_guard.probes.versions import Versions, is_pre_release, is_tag_name, order

SEMVER = [
    "v1.0.0-alpha",
    "v1.0.0-alpha.1",
    "v1.0.0-alpha.beta",
    "v1.0.0-beta",
    "v1.0.0-beta.2",
    "v1.0.0-beta.11",
    "v1.0.0-rc.1",
    "v1.0.0",
    "v1.0.1",
    "v1.2.0",
    "v1.10.0",
    "v2.0.0-0",
    "v2.0.0",
]


def test_versions_are_ordered_as_semver_says() -> None:
    mixed = random.Random(4).sample(SEMVER, len(SEMVER))
    assert sorted(mixed, key=lambda version: order(version) or ()) == SEMVER


def test_calendar_versions_compare_and_words_do_not() -> None:
    earlier, later = order("2026.1.31"), order("2026.11")
    assert earlier is not None
    assert later is not None
    assert earlier < later
    assert order("blue") is None
    assert order("v1.2.3+build.7") == order("v1.2.3")
    assert [is_pre_release(v) for v in ("v1.0.0-rc.1", "v1.0.0", "blue")] == [True, False, False]


@pytest.mark.parametrize(
    "version", ["v1.2", "1.2.3", "v1.2.3.4", "v01.2.3", "v1.2.3-rc.1", "v1.2.3\n", "vv1.2.3", "", "v1.2.x", "v٣.1.1"]
)
def test_only_three_numbers_after_a_v_are_well_formed(version: str) -> None:
    assert not Versions().is_well_formed(version)


@pytest.mark.parametrize(
    ("version", "good"),
    [("v1.2.3", True), ("v1.2.3-rc.1", True), ("v1.2.3-rc.01", False), ("v1.2.3-", False), ("v1.2.3-a..b", False)],
)
def test_pre_releases_are_well_formed_where_they_are_allowed(version: str, good: bool) -> None:
    assert Versions(pre_releases=True).is_well_formed(version) is good


def test_a_pattern_replaces_the_form_and_takes_a_suffix_only_where_allowed() -> None:
    calendar = Versions(pattern=r"\d{4}\.\d+|next")
    assert calendar.is_well_formed("2026.7")
    assert not calendar.is_well_formed("2026.7-rc.1")
    assert not calendar.is_well_formed("v1.2.3")
    assert Versions(pattern=r"\d{4}\.\d+|next", pre_releases=True).is_well_formed("2026.7-rc.1")
    assert not Versions(pattern=".*").is_well_formed("a..b"), "git must accept the tag"


def test_the_tags_of_a_monorepo_belong_to_one_service_each() -> None:
    shop = Versions("shop/{version}")
    assert shop.tag_of("v1.2.3") == "shop/v1.2.3"
    assert shop.version_of("shop/v1.2.3") == "v1.2.3"
    for other in ("v1.2.3", "web/v1.2.3", "shop/v1.2.3-rc.1", "shop/", "workshop/v1.2.3", "shop/x/v1.2.3"):
        assert shop.version_of(other) is None
    assert Versions("rel-{version}-shop").version_of("rel-v1.0.0-shop") == "v1.0.0"


@pytest.mark.parametrize(
    "name", ["-x", "a b", "a..b", "a@{b", "a.lock", "a/", "/a", "a//b", ".a", "a/.b", "a.", "@", "a~"]
)
def test_names_that_git_does_not_take_are_known(name: str) -> None:
    assert not is_tag_name(name)
    assert is_tag_name("shop/v1.2.3")


def test_text_from_outside_stays_on_its_line() -> None:
    assert one_line("a\x1b[31mb\nc\td\u202ee\u2028f\ud800") == "a�[31mb�c d�e�f�"
    assert one_line("grün 日本 👩‍💻 a\u00a0b") == "grün 日本 👩‍💻 a\u00a0b"
    assert shortened([str(n) for n in range(12)]) == [*map(str, range(10)), "and 2 more"]
    assert shortened(["a"]) == ["a"]
