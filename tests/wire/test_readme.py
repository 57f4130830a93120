"""The published format says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sensorhub.wire
from sensorhub.wire import MAX_MESSAGE_BYTES, MAX_RECORDS, NAME_PATTERN, Reason
from sensorhub.wire.topics import LEAVES

README = (Path(sensorhub.wire.__file__).parent / "README.md").read_text()


def test_the_example_is_the_first_vector(vectors: Any) -> None:
    block = re.search(r"```hex\n(.*?)```", README, re.DOTALL)
    assert block is not None
    shown = "".join(re.sub(r"#.*", "", line) for line in block[1].splitlines())
    vector = vectors("messages")["vectors"][0]
    assert re.sub(r"\s", "", shown) == vector["message"]
    assert f"in bytes, {len(vector['message']) // 2} of them" in README
    for name in ("private_key", "digest", "kid", "prev"):
        assert vector[name] in README


def test_the_reasons_are_listed_in_order() -> None:
    section = README.split("## Refusal")[1].split("## Example")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE) == [reason.value for reason in Reason]


def test_names_leaves_and_limits() -> None:
    assert NAME_PATTERN.pattern in README
    section = README.split("## Topics")[1].split("## Signed")[0]
    assert set(re.findall(r"^\| `([a-z]+)` \|", section, re.MULTILINE)) == LEAVES
    assert f"**{MAX_MESSAGE_BYTES:,} bytes**" in README
    assert f"1 to {MAX_RECORDS} records" in README
