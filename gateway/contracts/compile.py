"""Compiles GatewayLog.vy into the artifact that the package ships: python gateway/contracts/compile.py

Needs the vyper of the dev extra. With --check nothing is written; the exit code says whether the shipped
artifact belongs to the source.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import vyper  # type: ignore[import-untyped,unused-ignore]

SOURCE = Path(__file__).with_name("GatewayLog.vy")
ARTIFACT = Path(__file__).parents[1] / "sensorhub" / "chain" / "GatewayLog.json"


def build() -> dict[str, Any]:
    """The artifact of the source as it stands: abi, creation bytecode (hex), compiler and source hash."""
    source = SOURCE.read_text(encoding="utf-8")
    output = vyper.compile_code(source, contract_path=SOURCE.name, output_formats=["abi", "bytecode"])
    return {
        "contract": "GatewayLog",
        "compiler": f"vyper {vyper.__version__}",
        "source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "abi": output["abi"],
        "bytecode": output["bytecode"],
    }


def render(artifact: dict[str, Any]) -> str:
    """The artifact as the file has it."""
    return json.dumps(artifact, indent=1) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compile GatewayLog.vy into the shipped artifact.")
    parser.add_argument("--check", action="store_true", help="only say whether the artifact is up to date")
    check = parser.parse_args().check
    text = render(build())
    if not check:
        ARTIFACT.write_text(text, encoding="utf-8")
        print(f"wrote {ARTIFACT}")
        return 0
    if ARTIFACT.is_file() and ARTIFACT.read_text(encoding="utf-8") == text:
        return 0
    print(
        f"{ARTIFACT} does not belong to {SOURCE}: run {Path(__file__).name} without --check", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
