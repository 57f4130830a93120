"""Bill of materials and connector table."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from .schema import Board, Node, Part

AMOUNTS: Final = (1, 10, 100)


def unit_price(part: Part, nodes: int) -> float:
    """Price of one, when the parts for that many nodes are bought together."""
    many = part.price_100 is not None and nodes * part.quantity >= 100
    return part.price_100 if many and part.price_100 is not None else part.price


def line(part: Part, nodes: int) -> float:
    """Price of a line of the bill for that many nodes."""
    return round(unit_price(part, nodes) * part.quantity * nodes, 2)


def totals(node: Node) -> dict[str, dict[int, float]]:
    """Sum of the bill by currency and number of nodes."""
    sums: dict[str, dict[int, float]] = defaultdict(lambda: dict.fromkeys(AMOUNTS, 0.0))
    for part in node.parts:
        for nodes in AMOUNTS:
            sums[part.currency][nodes] = round(sums[part.currency][nodes] + line(part, nodes), 2)
    return dict(sums)


def bom_csv(node: Node) -> str:
    """bom.csv: a line for each part, then the sums."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(
        [
            "ref",
            "what",
            "maker",
            "mpn",
            "mpn_from",
            "quantity",
            "supplier_1",
            "supplier_2",
            "price",
            "price_100",
            "currency",
            "price_kind",
            "dated",
            *(f"for_{nodes}" for nodes in AMOUNTS),
            "note",
        ]
    )
    for part in node.parts:
        hundred = "" if part.price_100 is None else f"{part.price_100:.2f}"
        write(
            [
                part.ref,
                part.what,
                part.maker,
                part.mpn,
                part.mpn_from,
                f"{part.quantity:g}",
                *part.suppliers[:2],
            ]
            + [f"{part.price:.2f}", hundred, part.currency, part.price_kind, part.dated]
            + [f"{line(part, nodes):.2f}" for nodes in AMOUNTS]
            + [part.note]
        )
    for currency, sums in totals(node).items():
        write(
            [
                "",
                "sum",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                currency,
                "",
                "",
                *(f"{sums[n]:.2f}" for n in AMOUNTS),
                "",
            ]
        )
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Connection:
    """One wire: from a header pin of the board, or a part's pin, to a part's pin."""

    place: str
    net: str
    name: str
    ref: str
    part: str
    pin: str
    note: str


def connections(node: Node, board: Board) -> list[Connection]:
    """Every wire of a node, in the order of the parts."""
    pins = {pin.name: pin for pin in node.pins}
    found = []
    for part in node.parts:
        for wire in part.wires:
            if wire.to in pins:
                net = f"GPIO{pins[wire.to].gpio}"
                place, name = board.net(net), wire.to
            elif ":" in wire.to:
                place, net, name = wire.to.replace(":", " "), "", ""
            else:
                place, net, name = board.net(wire.to), wire.to, wire.to
            found.append(Connection(place, net, name, part.ref, part.what, wire.pin, wire.note))
    return found


def connectors_csv(node: Node, board: Board) -> str:
    """connectors.csv: every wire with header position and GPIO number."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["from", "gpio_or_rail", "name", "to", "part", "pin", "note"])
    for wire in connections(node, board):
        write([wire.place, wire.net, wire.name, wire.ref, wire.part, wire.pin, wire.note])
    return out.getvalue()
