"""The compiled contract as the package ships it; gateway/contracts/compile.py writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract: ABI, creation bytecode, compiler version, SHA-256 (hex) of the source text."""

    abi: list[dict[str, Any]]
    bytecode: bytes
    compiler: str
    source_sha256: str


@cache
def gateway_log() -> Artifact:
    """The shipped `GatewayLog`."""
    raw = json.loads(files("sensorhub.chain").joinpath("GatewayLog.json").read_text(encoding="utf-8"))
    return Artifact(
        raw["abi"], bytes.fromhex(raw["bytecode"].removeprefix("0x")), raw["compiler"], raw["source_sha256"]
    )
