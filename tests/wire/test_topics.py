"""Topics and base names."""

from __future__ import annotations

import pytest

from sensorhub.wire import NAME_PATTERN, split_topic, topic
from sensorhub.wire.topics import LEAVES, base_name, split_base_name


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_topics_are_built_and_split(leaf: str) -> None:
    text = topic("beijing", "aoti-2", leaf)
    assert text == f"sensorhub/v1/beijing/aoti-2/{leaf}"
    assert split_topic(text) == ("beijing", "aoti-2", leaf)


@pytest.mark.parametrize(
    "text",
    [
        "", "sensorhub/v1/a/b", "sensorhub/v1/a/b/data/x", "sensorhub/v2/a/b/data", "/sensorhub/v1/a/b/data",
        "sensorhub/v1/A/b/data", "sensorhub/v1/-a/b/data", "sensorhub/v1//b/data", "sensorhub/v1/a/b/data\n",
        "sensorhub/v1/a/+/data", "sensorhub/v1/a/#", "sensorhub/v1/a/b/unknown", "sensorhub/v1/" + "a" * 33 + "/b/data",
        "sensorhub/v1/a/b\0/data", "sensorhub/v1/\u00e4/b/data", "sensorhub/v1/\u0663/b/data",
    ],
)  # fmt: skip
def test_other_topics_are_none(text: str) -> None:
    assert split_topic(text) is None


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a" * 33, "a\n", "+", "#", "a/b", "\u0663"])
def test_names_that_are_not_permitted(name: str) -> None:
    assert not NAME_PATTERN.fullmatch(name)
    with pytest.raises(ValueError, match="must match"):
        topic(name, "b", "data")
    with pytest.raises(ValueError, match="must match"):
        base_name("a", name)
    assert split_base_name(f"urn:dev:sensorhub:a:{name}:") is None


def test_an_unknown_leaf_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be one of announce, config, data"):
        topic("a", "b", "dat")


def test_base_names() -> None:
    assert base_name("beijing", "aoti") == "urn:dev:sensorhub:beijing:aoti:"
    assert split_base_name("urn:dev:sensorhub:beijing:aoti:") == ("beijing", "aoti")
