"""Everything that can be wrong with a node on paper."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from .chips import CHIPS, Chip
from .firmware import driver_addresses, driver_file
from .power import budget, count, rail_loads, share_of
from .schema import OUTPUTS, Board, Bus, Node, Pin, Role

GND: Final = "GND"
SINK_MA: Final = 3.0
LOW_VOLTS: Final = 0.4
RISE_NS: Final = {100_000: 1000.0, 400_000: 300.0}
"""UM10204 rev. 7, table 10: longest rise time in standard and fast mode; every driver sinks 3 mA at 0.4 V."""
FLASH_SECTOR: Final = 4096


def check(node: Node, board: Board, enclosures: Iterable[str] | None = None) -> list[str]:
    """What is wrong with a node, one sentence each; empty when nothing is."""
    found = [
        *_pins(node, board),
        *_led(node, board),
        *_buses(node),
        *_wires(node, board),
        *_rails(node),
        *_flash(node, board),
        *_bill(node),
        *_sensors(node),
        *_times(node),
    ]
    if not found:
        found += _supply(node)
    if enclosures is not None:
        known = set(enclosures)
        found += [
            f"mounting.enclosure names {piece!r}; there are {', '.join(sorted(known))}"
            for piece in node.mounting.enclosure
            if piece not in known
        ]
    return found


def check_prices(nodes: Iterable[Node]) -> list[str]:
    """Parts that two nodes describe differently."""
    seen: dict[tuple[str, str], tuple[str, tuple[object, ...]]] = {}
    found = []
    for node in nodes:
        for part in node.parts:
            what = (part.price, part.price_100, part.currency, part.dated, tuple(part.suppliers))
            where, before = seen.setdefault((part.maker, part.mpn), (node.name, what))
            if before != what:
                found.append(
                    f"{part.maker} {part.mpn} has another price or supplier in {where} than in {node.name}"
                )
    return found


def _twice(names: Iterable[object], what: str) -> Iterator[str]:
    yield from (
        f"{what} {name} is there {times} times" for name, times in Counter(names).items() if times > 1
    )


def _pins(node: Node, board: Board) -> Iterator[str]:
    chip = CHIPS[board.chip]
    yield from _twice((pin.name for pin in node.pins), "pin name")
    yield from _twice((f"GPIO{pin.gpio}" for pin in node.pins), "pin")
    fixed = {pin.gpio: pin.why for pin in board.fixed}
    for pin in node.pins:
        where = f"pin {pin.name} (GPIO{pin.gpio})"
        for reason in _unfit(pin, chip, board, node.node.wifi):
            yield f"{where} {reason}"
        if pin.gpio in fixed:
            yield f"{where} is taken by the board: {fixed[pin.gpio]}"
        if not board.where(pin.gpio):
            yield f"{where} is on no header of {board.name}"


def _unfit(pin: Pin, chip: Chip, board: Board, wifi: bool) -> Iterator[str]:
    if pin.gpio not in chip.gpios:
        yield f"does not exist on {board.chip}"
    if pin.gpio in chip.strapping:
        yield "is a strapping pin"
    if pin.gpio in chip.flash:
        yield "belongs to the flash"
    if pin.gpio in chip.psram[board.psram]:
        yield "belongs to the PSRAM"
    if pin.gpio in chip.console:
        yield "belongs to the serial console"
    if pin.gpio in chip.input_only and pin.role in OUTPUTS:
        yield f"can only be an input, not {pin.role.value}"
    if pin.role is Role.ADC:
        if pin.gpio in chip.adc2 and wifi:
            yield "is on ADC2, which Wi-Fi takes over"
        elif pin.gpio not in chip.adc1 | chip.adc2:
            yield "has no analogue input"


def _led(node: Node, board: Board) -> Iterator[str]:
    led = node.led
    if led is None:
        return
    if board.led and board.led.gpio == led.gpio:
        if board.led.low != led.low:
            yield f"led.low is {led.low}, and the LED of {board.name} is lit when {'low' if board.led.low else 'high'}"
    elif not any(pin.gpio == led.gpio and pin.role is Role.OUTPUT for pin in node.pins):
        yield f"led.gpio is {led.gpio}; allowed: an output pin of the node, or the LED of {board.name}, if it has one"


_BUS_PINS: Final = {
    "i2c": (("scl", Role.I2C_SCL), ("sda", Role.I2C_SDA)),
    "uart": (("tx", Role.UART_TX), ("rx", Role.UART_RX)),
}


def _buses(node: Node) -> Iterator[str]:
    yield from _twice((bus.name for bus in node.buses), "bus name")
    yield from _twice((f"{bus.kind} {bus.number}" for bus in node.buses), "bus")
    pins = {pin.name: pin for pin in node.pins}
    for bus in node.buses:
        for key, role in _BUS_PINS[bus.kind]:
            name = getattr(bus, key)
            if name not in pins:
                yield f"bus {bus.name}: {key} is {name!r}, which is no pin; there are {', '.join(pins)}"
            elif pins[name].role is not role:
                yield f"bus {bus.name}: {key} is {name}, whose role is {pins[name].role.value} and not {role.value}"
        if bus.kind == "i2c":
            if bus.number > 1:
                yield f"bus {bus.name}: there are I2C 0 and 1"
            yield from _addresses(node, bus)
            yield from _pullups(node, bus)
        elif not bus.number:
            yield f"bus {bus.name}: UART 0 is the console"


def _addresses(node: Node, bus: Bus) -> Iterator[str]:
    there = [sensor.address for part in node.parts for sensor in part.sensors if sensor.bus == bus.name]
    yield from _twice(
        (f"0x{address:02x} on {bus.name}" for address in there if address is not None), "address"
    )


def pullup(node: Node, bus: Bus) -> float:
    """Pull-up of an I2C line in ohms, all that hang on it in parallel; infinite when there is none."""
    ohms = [bus.pullup_ohm] if bus.pullup_ohm else []
    ohms += [
        part.pullup_ohm
        for part in node.parts
        if part.pullup_ohm and any(sensor.bus == bus.name for sensor in part.sensors)
    ]
    return 1 / sum(1 / ohm for ohm in ohms) if ohms else math.inf


def pullup_limits(bus: Bus, volts: float = 3.3) -> tuple[float, float]:
    """Smallest and largest pull-up in ohms (UM10204 rev. 7, section 7.1)."""
    rise = RISE_NS[100_000 if bus.hertz <= 100_000 else 400_000]
    return (volts - LOW_VOLTS) / SINK_MA * 1000, rise / 0.8473 / bus.capacitance_pf * 1000


def _pullups(node: Node, bus: Bus) -> Iterator[str]:
    low, high = pullup_limits(bus)
    ohms = pullup(node, bus)
    if not low <= ohms <= high:
        yield f"bus {bus.name}: pull-ups make {ohms:.0f} ohms; {low:.0f} to {high:.0f} work at {bus.hertz} Hz"


def targets(node: Node) -> set[str]:
    """Pins of parts that wires of other parts end at, as `U6:BATT +`."""
    return {wire.to for part in node.parts for wire in part.wires if ":" in wire.to}


def _wires(node: Node, board: Board) -> Iterator[str]:
    yield from _twice((part.ref for part in node.parts), "reference")
    pins = {pin.name for pin in node.pins}
    rails = {rail.name for rail in node.rails}
    refs = {part.ref for part in node.parts}
    reached = set()
    for part in node.parts:
        if part.chained_to and part.chained_to not in refs:
            yield f"{part.ref} hangs on {part.chained_to!r}, which is no part"
        for wire in part.wires:
            reached.add(wire.to)
            if ":" in wire.to:
                if wire.to.split(":")[0] not in refs:
                    yield f"{part.ref} {wire.pin}: goes to {wire.to!r}, and there is no such part"
            elif wire.to not in pins | rails | {GND}:
                allowed = ", ".join([*sorted(pins), *sorted(rails), GND])
                yield f"{part.ref} {wire.pin}: goes to {wire.to!r}; allowed: {allowed}"
            elif wire.to not in pins and not board.net(wire.to):
                yield f"{part.ref} {wire.pin}: {wire.to} is on no header of {board.name}"
        if part.rail and part.rail not in rails:
            yield f"{part.ref}: rail is {part.rail!r}; there are {', '.join(sorted(rails))}"
    yield from (f"pin {name} is wired to nothing" for name in sorted(pins - reached))


def _rails(node: Node) -> Iterator[str]:
    yield from _twice((rail.name for rail in node.rails), "rail")
    rails = {rail.name: rail for rail in node.rails}
    wrong = False
    for rail in node.rails:
        seen = [rail.name]
        while rails[seen[-1]].source:
            source = rails[seen[-1]].source
            if source not in rails or source in seen:
                wrong = True
                yield f"rail {rail.name}: its source {source!r} {'is made from it' if source in seen else 'is no rail'}"
                break
            seen.append(source)
        if (rail.kind == "input") == bool(rail.source):
            yield f"rail {rail.name}: an input has no source, and every other rail has one"
        if rail.switch:
            switches = [pin for pin in node.pins if pin.name == rail.switch]
            if not switches or switches[0].role is not Role.OUTPUT:
                yield f"rail {rail.name}: switch is {rail.switch!r}, which is no output pin"
            if not rail.switch_default:
                yield f"rail {rail.name}: switch_default says what it is while the node starts; allowed: on, off"
        source_rail = rails.get(rail.source)
        if rail.kind == "linear" and source_rail and source_rail.volts <= rail.volts:
            yield f"rail {rail.name}: a linear regulator cannot make {rail.volts} V from {source_rail.volts} V"
    if wrong:
        return
    if node.power.rail not in rails or rails[node.power.rail].kind != "input":
        yield f"power.rail is {node.power.rail!r}; allowed: a rail of kind input"
    for name, load in rail_loads(node).items():
        if load.peak_ma > rails[name].limit_ma:
            yield f"rail {name}: {load.peak_ma:.0f} mA at most, and it delivers {rails[name].limit_ma:.0f} mA"


def _flash(node: Node, board: Board) -> Iterator[str]:
    flash = node.flash
    if flash.chip != board.chip:
        yield f"flash.chip is {flash.chip!r}, and {board.name} has {board.chip}"
    if bool(flash.psram_bytes) != (board.psram != "none"):
        yield f"flash.psram_bytes is {flash.psram_bytes}, and {board.name} has PSRAM {board.psram!r}"
    if flash.vfs_offset % FLASH_SECTOR or flash.vfs_bytes % FLASH_SECTOR:
        yield "flash.vfs_offset and vfs_bytes must be multiples of 4096"
    if flash.vfs_offset + flash.vfs_bytes > flash.flash_bytes:
        yield f"flash.vfs ends at 0x{flash.vfs_offset + flash.vfs_bytes:x}, the flash at 0x{flash.flash_bytes:x}"


def _bill(node: Node) -> Iterator[str]:
    board = [part for part in node.parts if part.ref == "U1"]
    if not board:
        yield "part U1, the board, is missing"
    for part in node.parts:
        if len(set(part.suppliers)) < 2:
            yield f"{part.ref}: two different suppliers"
        if not part.price:
            yield f"{part.ref}: has no price"
        if part.price_100 is not None and part.price_100 > part.price:
            yield f"{part.ref}: dearer by the hundred"
        kinds = [
            sum(map(bool, (c.seconds_per_interval, c.seconds_per_publish, c.share, c.rest)))
            for c in part.currents
        ]
        if any(kind != 1 for kind in kinds):
            yield f"{part.ref}: each current has one of seconds_per_interval, seconds_per_publish, share, rest"
        yield from (
            f"{part.ref}, {current.state}: source is 'datasheet', and where names no page; what was not looked up is 'recalled'"
            for current in part.currents
            if current.source == "datasheet" and not re.search(r"\bpage \d", current.where)
        )
        shares = [share_of(current, node) for current in part.currents]
        if any(current.rest for current in part.currents) and sum(shares) > 1 + 1e-9:
            yield f"{part.ref}: its states take {sum(shares):.2f} of the time"
        if bool(part.currents) != bool(part.rail) and not any(c.rest or c.share for c in part.currents):
            yield f"{part.ref}: a part on a rail has currents"


def _sensors(node: Node) -> Iterator[str]:
    buses = {bus.name: bus for bus in node.buses}
    pins = {pin.name for pin in node.pins}
    for part in node.parts:
        wired = {wire.to for wire in part.wires}
        for sensor in part.sensors:
            where = f"{part.ref}, driver {sensor.driver}"
            if not driver_file(sensor.driver).exists():
                yield f"{where}: firmware/sensornode/sensors/{sensor.driver}.py does not exist"
                continue
            if sensor.pin and sensor.pin not in pins:
                yield f"{where}: pin is {sensor.pin!r}; there are {', '.join(sorted(pins))}"
            elif sensor.pin and sensor.pin not in wired:
                yield f"{where}: no wire of {part.ref} goes to {sensor.pin}"
            if sensor.bus and sensor.bus not in buses:
                yield f"{where}: bus is {sensor.bus!r}; there are {', '.join(buses)}"
            elif sensor.bus:
                bus = buses[sensor.bus]
                for key, _ in _BUS_PINS[bus.kind]:
                    if getattr(bus, key) not in wired:
                        yield f"{where}: no wire of {part.ref} goes to {getattr(bus, key)}"
                if (bus.kind == "i2c") != (sensor.address is not None):
                    yield f"{where}: a part on I2C has an address, and no other"
                possible = driver_addresses(sensor.driver)
                if sensor.address is not None and sensor.address not in possible:
                    allowed = ", ".join(f"0x{address:02x}" for address in possible)
                    yield f"{where}: address is 0x{sensor.address:02x}; allowed: {allowed}"


def _times(node: Node) -> Iterator[str]:
    if node.node.publish_s % node.node.interval_s:
        yield "node.publish_s must be a multiple of interval_s"


def _supply(node: Node) -> Iterator[str]:
    if node.power.supply != "solar":
        return
    needed = budget(node)
    site = node.power.site
    for ref, have, want in (
        (node.power.battery.ref, count(node, node.power.battery.ref), needed.packs),
        (node.power.panel.ref, count(node, node.power.panel.ref), needed.panels),
    ):
        if have < want:
            yield f"{ref}: {want} are needed for {site.what} (latitude {site.latitude:g}), and there are {have:g}"
