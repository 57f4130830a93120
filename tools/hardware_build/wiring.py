"""The wiring diagram: WireViz's description of it, and the SVG that WireViz and GraphViz draw."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from .errors import HardwareError
from .schema import Board, Node, Part

TIMEOUT_S = 300
SECOND = " out"
"""Ends the name of the socket that the next part of a chain hangs on."""


def harness(node: Node, board: Board) -> dict[str, Any]:
    """WireViz's description: what wires start at on the left, parts on the right, wires without colours.

    The second socket of a chained part stands on the left as well: side by side, chains make a picture so wide that
    nobody can read it on a page.

    Colours are left out on purpose: every wire says what it carries, so that a black and white print is enough.
    """
    pins = {pin.name: pin.gpio for pin in node.pins}
    used: dict[str, list[str]] = {"BOARD": []}
    groups: list[tuple[str, Part, list[tuple[str, str, str]]]] = []
    for part in node.parts:
        ends: dict[str, list[tuple[str, str, str]]] = {}
        for wire in part.wires:
            if ":" in wire.to:
                other, there = wire.to.split(":", 1)
                label = there
            else:
                net = f"GPIO{pins[wire.to]}" if wire.to in pins else wire.to
                other, there = "BOARD", f"{board.net(net)} {net}"
                label = wire.to
            if part.chained_to and other == "BOARD":
                other = f"{part.chained_to}{SECOND}"
                there = next(w.pin for w in node.part(part.chained_to).wires if w.to == wire.to)
            ends.setdefault(other, []).append((_shown(there), _shown(wire.pin), label))
        for other, wires in ends.items():
            used.setdefault(other, []).extend(there for there, _, _ in wires)
            used.setdefault(part.ref, []).extend(pin for _, pin, _ in wires)
            groups.append((other, part, wires))
    order = _board_order(board)
    connectors: dict[str, Any] = {}
    for ref, names in used.items():
        unique = list(dict.fromkeys(names))
        if ref == "BOARD":
            unique.sort(key=lambda name: order.get(name.split()[0], 0))
            title = f"{board.maker} {board.name}"
            connectors[ref] = {"type": title, "notes": "only the pins in use", "pins": unique}
        elif ref.endswith(SECOND):
            part = node.part(ref.removesuffix(SECOND))
            connectors[ref] = {
                "type": "its second socket",
                "subtype": part.connector or part.mpn,
                "pins": unique,
            }
        else:
            part = node.part(ref)
            connectors[ref] = {"type": part.what, "subtype": part.connector or part.mpn, "pins": unique}
        connectors[ref] |= {"show_pincount": False, "hide_disconnected_pins": False}
    cables: dict[str, Any] = {}
    links = []
    for index, (other, part, wires) in enumerate(groups, 1):
        cable = f"K{index}"
        cables[cable] = {
            "type": part.cable or "wire",
            "wirecount": len(wires),
            "wirelabels": [label for _, _, label in wires],
            "show_wirenumbers": False,
        }
        links.append(
            [
                {other: [there for there, _, _ in wires]},
                {cable: list(range(1, len(wires) + 1))},
                {part.ref: [pin for _, pin, _ in wires]},
            ]
        )
    return {
        "metadata": {"title": f"Wiring of the {node.node.title.lower()}"},
        "options": {"color_mode": "SHORT", "fontname": "DejaVu Sans", "bgcolor": "WH"},
        "connectors": connectors,
        "cables": cables,
        "connections": links,
    }


def _shown(pin: str) -> str:
    """A pin's name; WireViz takes a bare number for something else."""
    return f"pin {pin}" if pin.isdigit() else pin


def _board_order(board: Board) -> dict[str, int]:
    places = [f"{header.name}-{index + 1}" for header in board.headers for index in range(len(header.pins))]
    return {place: index for index, place in enumerate(places)}


def description(node: Node, board: Board) -> str:
    """wiring.yml."""
    text = yaml.safe_dump(harness(node, board), sort_keys=False, allow_unicode=True, width=110)
    return "# Made by tools/hardware from node.toml: change that.\n" + str(text)


def drawing(text: str) -> str:
    """The SVG of a description.

    Raises:
        HardwareError: WireViz or GraphViz is missing or fails.
    """
    if not shutil.which("dot"):
        raise HardwareError("the wiring diagram needs GraphViz: apt install graphviz")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "wiring.yml"
        source.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", "from wireviz.wv_cli import wireviz; wireviz()", "-f", "s", source],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        made = source.with_suffix(".svg")
        if done.returncode or not made.exists():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise HardwareError(
                f"WireViz drew nothing: {' '.join(last)} (is wireviz installed in {sys.executable}?)"
            )
        svg = made.read_text(encoding="utf-8")
    # versions of the programs would make every machine's picture another one
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    return "\n".join(text_line.rstrip() for text_line in svg.splitlines()) + "\n"
