"""hardware/<node>/README.md, made from node.toml."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .checks import pullup
from .enclosure import BY_NAME
from .firmware import driver_channels, row
from .picture import VIEWS
from .power import average_ma, budget, count, rail_loads, share_of, winter_tilt
from .schema import Board, Current, Node
from .tables import AMOUNTS, connections, line, totals

MARKS = {"seen": "", "memory": " (?)", "standard": ""}
LATITUDES = (0, 20, 35, 45, 50, 55, 60)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in made] for made in rows]
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(made) + " |" for made in cells),
        "",
    ]


def page(node: Node, board: Board) -> str:
    """The whole page."""
    lines = [
        f"# {node.node.title}",
        "",
        "<!-- Made by tools/hardware from node.toml: change that. -->",
        "",
        node.node.summary,
        "",
    ]
    if node.node.built == "untested":
        lines += [
            (
                "**Nobody has built this one yet.** Pins, currents and fits come from data sheets and drawings and are checked by"
                " the tests; nothing here was measured on hardware."
            ),
            "",
        ]
    shown = [
        name
        for name, view in VIEWS.items()
        if set(view.pieces) <= set(node.mounting.enclosure) and view.node in ("", node.name)
    ]
    lines += [f"![{VIEWS[name].says}](../enclosure/png/{name}.png)\n" for name in shown[:1]]
    return "\n".join(
        [
            *lines,
            *_board(node, board),
            *_wiring(node, board),
            *_bill(node),
            *_power(node),
            *_mounting(node, shown),
            *_bring_up(node),
            "",
        ]
    )


def _board(node: Node, board: Board) -> list[str]:
    flash = node.flash
    psram = f", {flash.psram_bytes >> 20} MB PSRAM" if flash.psram_bytes else ", no PSRAM"
    slots = "with OTA slots" if flash.ota_slots else "without OTA slots"
    lines = [
        "## Board and sensors",
        "",
        (
            f"[{board.maker} {board.name}]({board.url}) with {flash.module}: {flash.flash_bytes >> 20} MB flash{psram}. MicroPython image"
            f" `{flash.firmware}`; file system of {flash.vfs_bytes >> 20} MB at 0x{flash.vfs_offset:x}, {slots}."
        ),
        f"It samples every {node.node.interval_s} s and sends every {node.node.publish_s} s.",
        "",
    ]
    if flash.firmware_from:
        lines += [f"The image: {flash.firmware_from}.", ""]
    rows = []
    for part in node.parts:
        for sensor in part.sensors:
            made = row(node, sensor)
            where = (
                node.bus(sensor.bus).name
                if sensor.bus
                else f"GPIO{node.pin(sensor.pin).gpio}"
                if sensor.pin
                else "on the board"
            )
            if sensor.address is not None:
                where += f", 0x{sensor.address:02x}"
            named = made.get("channels") or (
                [made["channel"]] if "channel" in made else driver_channels(sensor.driver)
            )
            rows.append([f"{part.ref} {part.what}", f"`{sensor.driver}`", where, ", ".join(named)])
    lines += table(["part", "driver", "where", "channels"], rows)
    for bus in node.buses:
        if bus.kind == "i2c":
            lines += [
                (
                    f"I2C {bus.number} runs at {bus.hertz // 1000} kHz; pull-ups make {pullup(node, bus):.0f} Ohm together"
                    f" for about {bus.capacitance_pf:.0f} pF."
                ),
                "",
            ]
    if node.led:
        lit = "low" if node.led.low else "high"
        told = "[firmware/README.md](../../firmware/README.md) says what it tells"
        lines += [f"LED: GPIO{node.led.gpio}, {node.led.what}, lit when {lit}; {told}.", ""]
    lines += [f"{what.replace('_', ' ').capitalize()}: {why}." for what, why in node.unused.items()]
    return [*lines, ""] if node.unused else lines


def _wiring(node: Node, board: Board) -> list[str]:
    rows = [
        [
            wire.place,
            wire.net,
            f"`{wire.name}`" if wire.name else "",
            f"{wire.ref} {wire.part}",
            wire.pin,
            wire.note,
        ]
        for wire in connections(node, board)
    ]
    fixed = [f"GPIO{pin.gpio} {pin.why}" for pin in board.fixed]
    return [
        "## Wiring",
        "",
        "![Wiring diagram](generated/wiring.svg)",
        "",
        *table(["from", "GPIO or rail", "name", "to", "pin", "note"], rows),
        "Taken by the board itself or needed at the chip's start: " + "; ".join(fixed) + ".",
        "",
    ]


def _bill(node: Node) -> list[str]:
    rows = [
        [
            part.ref,
            part.what,
            f"{part.maker} {part.mpn}{MARKS[part.mpn_from]}",
            f"{part.quantity:g}",
            ", ".join(part.suppliers),
            f"{line(part, 1):.2f} {part.currency}",
            part.note,
        ]
        for part in node.parts
    ]
    dates = sorted({part.dated for part in node.parts})
    estimates = all(part.price_kind == "estimate" for part in node.parts)
    sums = [
        [currency, *(f"{sums[amount]:.2f} ({sums[amount] / amount:.2f} each)" for amount in AMOUNTS)]
        for currency, sums in totals(node).items()
    ]
    kind = "estimates, not offers" if estimates else "partly estimates: see bom.csv"
    return [
        "## Parts",
        "",
        *table(["ref", "what", "maker and part number", "amount", "suppliers", "price", "note"], rows),
        *table(["sum", *(f"{amount} node{'s' if amount > 1 else ''}" for amount in AMOUNTS)], sums),
        f"Prices of {' and '.join(dates)}, without tax and shipping; {kind}. As a file: [bom.csv](generated/bom.csv).",
        (
            "Numbers marked (?) are from memory: look them up before you order. The others were found in public sources that name"
            " the part, not in a shop of today."
        ),
        "",
    ]


def _how_long(current: Current, node: Node) -> str:
    if current.rest:
        return "the rest"
    if current.seconds_per_interval:
        return f"{current.seconds_per_interval:g} s of {node.node.interval_s}"
    if current.seconds_per_publish:
        return f"{current.seconds_per_publish:g} s of {node.node.publish_s}"
    return f"{share_of(current, node):.0%}"


def _power(node: Node) -> list[str]:
    needed = budget(node)
    rows = [
        [
            part.ref,
            current.state,
            f"{current.typical_ma:.5f}".rstrip("0").rstrip("."),
            _how_long(current, node),
            current.source,
            current.where,
        ]
        for part in node.parts
        for current in part.currents
    ]
    rails = [
        [
            rail.name,
            f"{rail.volts:g} V",
            rail.what,
            f"{load.average_ma:.1f}",
            f"{load.peak_ma:.0f}",
            f"{rail.limit_ma:.0f} ({rail.where})",
        ]
        for rail in node.rails
        for load in (rail_loads(node)[rail.name],)
    ]
    site, battery, panel = node.power.site, node.power.battery, node.power.panel
    packs, panels = count(node, battery.ref), count(node, panel.ref)
    lines = [
        "## Power",
        "",
        node.power.note,
        "",
        *table(["part", "state", "mA", "time", "source", "where"], rows),
        "`datasheet` was read on the page named, `recalled` is a data sheet's figure from memory, `estimate` is ours. None is measured."
        if not any(current.source == "measured" for part in node.parts for current in part.currents)
        else "`measured` is ours; `datasheet` was read on the page named, `recalled` is a data sheet's figure from memory.",
        "",
        *table(["rail", "", "what", "mean mA", "peak mA", "limit mA"], rails),
        f"Mean: {needed.average_ma:.1f} mA at {node.rail(node.power.rail).name}, {needed.daily_wh:.1f} Wh a day from a battery.",
        "",
    ]
    dear = [(part, average_ma(part, node)) for part in node.parts if part.currents]
    first = max(dear, key=lambda pair: pair[1])[0]
    lines += [f"Most of it is {first.ref}, {first.what[0].lower()}{first.what[1:]}.", ""]
    have = (
        f"The node has {packs:g} and {panels:g}."
        if battery.ref
        else "The node has none: these are the sizes it would need."
    )
    lines += [
        (
            f"Without sun, {packs:g} pack{'s' if packs > 1 else ''} of {battery.volts * battery.amp_hours:.1f} Wh, of which"
            f" {battery.usable:.0%} may be used, last {needed.hours / 24:.1f} days."
        ),
        (
            f"For {site.what} (latitude {site.latitude:g} degrees, clearness {site.clearness:g}, {site.autonomy_days:g} days without sun):"
            f" battery {needed.battery_wh:.0f} Wh ({needed.packs} packs), panel {needed.panel_w:.1f} W ({needed.panels} of {panel.watts:g} W)"
            f" tilted {panel.tilt_deg:g} degrees; worst month {needed.month} with {needed.sun_wh / 1000:.2f} kWh/m2 a day. {have}"
        ),
        "",
    ]
    others = [(latitude, budget(node, latitude)) for latitude in LATITUDES]
    lines += table(
        ["latitude", "tilt", "worst month", "kWh/m2 a day", "panel W", "panels"],
        [
            [
                f"{latitude}",
                f"{winter_tilt(latitude):g}",
                other.month,
                f"{other.sun_wh / 1000:.2f}",
                f"{other.panel_w:.1f}",
                f"{other.panels}",
            ]
            for latitude, other in others
        ],
    )
    return [
        *lines,
        (
            f"The same clearness everywhere; how it is reckoned: [../README.md](../README.md#sun-and-battery). Performance ratio"
            f" {panel.performance_ratio:g}, charging {battery.charge_efficiency:.0%}."
        ),
        "",
    ]


def _mounting(node: Node, shown: Sequence[str]) -> list[str]:
    lines = ["## Mounting", "", f"Height {node.mounting.height_m:g} m; {node.mounting.where}.", ""]
    lines += [f"- {note}" for note in node.mounting.notes]
    lines.append("")
    if node.mounting.enclosure:
        lines += ["Print these, each as it comes out of the file, without support:", ""]
        lines += table(
            ["piece", "what", "lies", "amount", "file", "picture"],
            [
                [
                    name,
                    BY_NAME[name].what,
                    BY_NAME[name].lies,
                    f"{BY_NAME[name].amount}",
                    f"[{name}.stl](../enclosure/stl/{name}.stl)",
                    f"[png](../enclosure/png/{name}.png)",
                ]
                for name in node.mounting.enclosure
            ],
        )
        lines += [f"![{VIEWS[name].says}](../enclosure/png/{name}.png)\n" for name in shown[1:]]
    return lines


def _bring_up(node: Node) -> list[str]:
    lines = ["## First start", ""]
    own = " --firmware firmware.bin --sha256 SUM" if node.flash.firmware_from else ""
    for bus in node.buses:
        addresses = sorted(
            sensor.address
            for part in node.parts
            for sensor in part.sensors
            if sensor.bus == bus.name and sensor.address is not None
        )
        if bus.kind == "i2c":
            lines += [
                "On the MicroPython prompt, before the application is on the board, all parts of the bus answer:",
                "",
                "    >>> from machine import I2C, Pin",
                f"    >>> [hex(a) for a in I2C({bus.number}, scl=Pin({node.pin(bus.scl).gpio}), sda=Pin({node.pin(bus.sda).gpio})).scan()]",
                f"    {[hex(address) for address in addresses]}",
                "",
            ]
    return [
        *lines,
        (
            f"Then `tools/flash {node.node.kind}{own} --site SITE --name {node.node.name}-01`. What the serial console shows, siting, calibration and"
            " upkeep: [../README.md](../README.md)."
        ),
    ]
