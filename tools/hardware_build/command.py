"""The command line of tools/hardware."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import build, enclosure, schematic
from .checks import check, check_prices
from .errors import HardwareError
from .power import budget
from .schema import board_of, nodes


def on_paper() -> list[str]:
    """Everything wrong with the nodes as node.toml describes them."""
    pieces = [piece.name for piece in enclosure.PIECES]
    every = nodes()
    found = [
        f"{name}: {text}" for name, node in every.items() for text in check(node, board_of(node), pieces)
    ]
    return found + check_prices(every.values())


def problems() -> list[str]:
    """Everything wrong with the nodes, the carrier and the printed pieces, and what is stale.

    Of a node that is wrong on paper nothing can be made, so that nothing else is looked at then.
    """
    if found := on_paper():
        return found
    found += [f"carrier: {text}" for text in schematic.problems()]
    meshes = {}
    for piece in enclosure.PIECES:
        path = build.STL / f"{piece.name}.stl"
        if path.exists():
            meshes[piece.name] = enclosure.load(path)
    found += [f"{name} {text}" for name, mesh in meshes.items() for text in enclosure.problems(mesh)]
    if len(meshes) == len(enclosure.PIECES):
        found += enclosure.misfits(nodes(), meshes)
    return found + build.stale()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 fine, 1 something is wrong, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="tools/hardware", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("build", help="make what is stale from hardware/*/node.toml")
    maker.add_argument("--force", action="store_true", help="make everything")
    commands.add_parser("check", help="say what is wrong or stale")
    reckoner = commands.add_parser("power", help="battery and panel of a node at a latitude")
    reckoner.add_argument("node")
    reckoner.add_argument("--latitude", type=float)
    given = parser.parse_args(arguments)
    try:
        if given.command == "build":
            if wrong := on_paper():
                raise HardwareError("nothing was made:\n" + "\n".join(wrong))
            build.build(print, force=given.force)
        elif given.command == "check":
            found = problems()
            print("\n".join(found) or "nothing is wrong, nothing is stale")
            return bool(found)
        else:
            every = nodes()
            if given.node not in every:
                raise HardwareError(f"there is no node {given.node!r}; there are {', '.join(every)}")
            if given.latitude is not None and abs(given.latitude) > 66:
                raise HardwareError(
                    "beyond 66 degrees the sun does not rise in the worst month: no panel is enough"
                )
            made = budget(every[given.node], given.latitude)
            print(f"{made.average_ma:.1f} mA, {made.daily_wh:.1f} Wh a day; worst month {made.month}")
            print(f"panel {made.panel_w:.1f} W, battery {made.battery_wh:.0f} Wh")
    except HardwareError as error:
        print(f"tools/hardware: {error}", file=sys.stderr)
        return 1
    return 0
