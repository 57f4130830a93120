"""The vector files, and what several tests of the wire need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(scope="session")
def vectors() -> Any:
    """Return a function that loads a vector file by its stem."""

    def load(name: str) -> Any:
        return json.loads((VECTORS / f"{name}.json").read_text())

    return load


@pytest.fixture(scope="session")
def from_json() -> Any:
    """Return a function that turns the JSON form of a value back: {"hex"}, {"map"} and lists."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            if "hex" in value:
                return bytes.fromhex(value["hex"])
            return {convert(key): convert(item) for key, item in value["map"]}
        return [convert(item) for item in value] if isinstance(value, list) else value

    return convert
