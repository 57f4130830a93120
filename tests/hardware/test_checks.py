"""The nodes are sound on paper, and each check tells when something is not."""

import msgspec
import pytest

from hardware_build import checks, enclosure, power, schema
from hardware_build.checks import check
from hardware_build.schema import Role

replace = msgspec.structs.replace


def test_nothing_is_wrong(node, board):
    assert check(node, board, [piece.name for piece in enclosure.PIECES]) == []


def test_a_part_is_the_same_in_every_node(nodes):
    assert checks.check_prices(nodes.values()) == []


def pin(node, name, **changes):
    return replace(node, pins=[replace(p, **changes) if p.name == name else p for p in node.pins])


def part(node, ref, /, **changes):
    return replace(node, parts=[replace(p, **changes) if p.ref == ref else p for p in node.parts])


def rail(node, name, **changes):
    return replace(node, rails=[replace(r, **changes) if r.name == name else r for r in node.rails])


def bus(node, **changes):
    return replace(node, buses=[replace(node.buses[0], **changes)])


def spare(gpio, role):
    return schema.Pin(name="spare", gpio=gpio, role=role)


@pytest.mark.parametrize(
    ("gpio", "role", "why"),
    [
        (22, Role.INPUT, "GPIO22 is there 2 times"),
        (12, Role.INPUT, "is a strapping pin"),
        (9, Role.INPUT, "belongs to the flash"),
        (1, Role.OUTPUT, "belongs to the serial console"),
        (0, Role.INPUT, "Boot button"),
        (34, Role.OUTPUT, "can only be an input, not output"),
        (36, Role.UART_TX, "can only be an input, not uart_tx"),
        (27, Role.ADC, "is on ADC2, which Wi-Fi takes over"),
        (23, Role.ADC, "has no analogue input"),
        (24, Role.INPUT, "does not exist on esp32"),
        (37, Role.INPUT, "is on no header"),
        (32, Role.INPUT, "pin spare is wired to nothing"),
    ],
)
def test_pins(bench, devkit, gpio, role, why):
    found = check(replace(bench, pins=[*bench.pins, spare(gpio, role)]), devkit)
    assert any(why in text for text in found), found


def test_psram_pins_belong_to_the_psram(bench, nodes):
    cam = schema.board_of(nodes["camera"])
    found = check(pin(bench, "i2c_scl", gpio=16), cam)
    assert any("GPIO16) belongs to the PSRAM" in text for text in found), found


def test_adc2_is_free_without_wifi(bench, devkit):
    quiet = replace(bench, node=replace(bench.node, wifi=False), pins=[*bench.pins, spare(27, Role.ADC)])
    assert not any("ADC2" in text for text in check(quiet, devkit))


def test_s3_rules_differ():
    chip = schema.load_board(schema.HARDWARE / "boards" / "esp32-devkitc-v4.toml")
    s3 = replace(chip, chip="esp32s3", psram="octal")
    found = {
        text
        for gpio in (3, 35, 15)
        for text in checks._unfit(spare(gpio, Role.ADC), checks.CHIPS["esp32s3"], s3, True)
    }
    assert found == {
        "is a strapping pin",
        "belongs to the PSRAM",
        "has no analogue input",
        "is on ADC2, which Wi-Fi takes over",
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pullup_ohm": 0}, "pull-ups make inf ohms"),
        ({"pullup_ohm": 330}, "pull-ups make 330 ohms"),
        ({"hertz": 400_000, "capacitance_pf": 400.0}, "work at 400000 Hz"),
        ({"scl": "nothing"}, "which is no pin"),
        ({"scl": "i2c_sda"}, "whose role is i2c_sda"),
        ({"number": 2}, "there are I2C 0 and 1"),
    ],
)
def test_buses(bench, devkit, changes, why):
    found = check(bus(bench, **changes), devkit)
    assert any(why in text for text in found), found


def test_addresses_are_unique_on_their_bus(bench, devkit):
    twin = replace(bench.part("U2"), ref="U3")
    found = check(replace(bench, parts=[*bench.parts, twin]), devkit)
    assert "address 0x48 on i2c0 is there 2 times" in found


def sensor(node, **changes):
    return part(node, "U2", sensors=[replace(node.part("U2").sensors[0], **changes)])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"address": 0x77}, "address is 0x77; allowed: 0x48"),
        ({"driver": "tmp1050"}, "tmp1050.py does not exist"),
        ({"bus": "i2c7"}, "bus is 'i2c7'"),
        ({"address": None}, "a part on I2C has an address"),
        ({"pin": "nowhere"}, "pin is 'nowhere'"),
    ],
)
def test_sensors(bench, devkit, changes, why):
    found = check(sensor(bench, **changes), devkit)
    assert any(why in text for text in found), found


def test_a_sensor_is_wired_to_its_bus(bench, devkit):
    wires = [wire for wire in bench.part("U2").wires if wire.to != "i2c_scl"]
    found = check(part(bench, "U2", wires=wires), devkit)
    assert "U2, driver tmp105: no wire of U2 goes to i2c_scl" in found


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("3V3", {"limit_ma": 100}, "rail 3V3: 392 mA at most, and it delivers 100 mA"),
        ("3V3", {"source": "9V"}, "source '9V' is no rail"),
        ("5V", {"source": "3V3"}, "is made from it"),
        ("3V3", {"volts": 6.0}, "cannot make 6.0 V from 5.0 V"),
        ("3V3", {"switch": "i2c_scl"}, "which is no output pin"),
        ("5V", {"kind": "linear"}, "an input has no source"),
    ],
)
def test_rails(bench, devkit, name, changes, why):
    found = check(rail(bench, name, **changes), devkit)
    assert any(why in text for text in found), found


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"suppliers": ["DigiKey", "DigiKey"]}, "two different suppliers"),
        ({"price": 0}, "has no price"),
        ({"price_100": 99.0}, "dearer by the hundred"),
        ({"rail": "12V"}, "rail is '12V'"),
        ({"chained_to": "U9"}, "hangs on 'U9'"),
        ({"ref": "R1"}, "reference R1 is there 2 times"),
    ],
)
def test_the_bill_is_complete(bench, devkit, changes, why):
    found = check(part(bench, "U2", **changes), devkit)
    assert any(why in text for text in found), found


def test_currents_say_for_how_long(bench, devkit):
    both = [replace(bench.part("U2").currents[0], share=0.5), *bench.part("U2").currents[1:]]
    assert any(
        "one of seconds_per_interval" in text for text in check(part(bench, "U2", currents=both), devkit)
    )
    long = [replace(bench.part("U2").currents[0], seconds_per_interval=11), *bench.part("U2").currents[1:]]
    assert any("take 1.10 of the time" in text for text in check(part(bench, "U2", currents=long), devkit))


def test_a_datasheet_is_named_with_its_page(bench, devkit):
    vague = [replace(bench.part("U2").currents[0], where="TMP75 datasheet"), *bench.part("U2").currents[1:]]
    found = check(part(bench, "U2", currents=vague), devkit)
    assert any("U2, measuring: source is 'datasheet', and where names no page" in text for text in found), (
        found
    )


@pytest.mark.parametrize(
    ("led", "why"),
    [
        (schema.Led(gpio=22, what="x"), "led.gpio is 22; allowed: an output pin"),
        (schema.Led(gpio=33, low=True, what="x"), "led.gpio is 33; allowed: an output pin"),
    ],
)
def test_the_led_is_an_output(bench, devkit, led, why):
    found = check(replace(bench, led=led), devkit)
    assert any(why in text for text in found), found


def test_the_boards_own_led_lights_as_the_board_says(nodes):
    camera = nodes["camera"]
    high = replace(camera, led=replace(camera.led, low=False))
    found = check(high, schema.board_of(camera))
    assert found == ["led.low is False, and the LED of ESP32-CAM is lit when low"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"chip": "esp32s3"}, "flash.chip is 'esp32s3'"),
        ({"psram_bytes": 1 << 22}, "psram_bytes"),
        ({"vfs_bytes": 0x210000}, "ends at 0x410000"),
        ({"vfs_offset": 0x200001}, "multiples of 4096"),
    ],
)
def test_flash(bench, devkit, changes, why):
    found = check(replace(bench, flash=replace(bench.flash, **changes)), devkit)
    assert any(why in text for text in found), found


def test_publishing_follows_sampling(bench, devkit):
    odd = replace(bench, node=replace(bench.node, publish_s=15))
    assert "node.publish_s must be a multiple of interval_s" in check(odd, devkit)


def test_a_solar_node_lasts_through_its_worst_month(nodes):
    weather = nodes["weather"]
    north = replace(weather, power=replace(weather.power, site=replace(weather.power.site, latitude=62)))
    assert any("SP1: " in text and "are needed" in text for text in check(north, schema.board_of(weather)))
    long = replace(weather, power=replace(weather.power, site=replace(weather.power.site, autonomy_days=14)))
    assert any("BT1: " in text for text in check(long, schema.board_of(weather)))


def test_wires_end_somewhere(bench, devkit):
    lost = [replace(bench.part("R1").wires[0], to="12V"), *bench.part("R1").wires[1:]]
    assert any("goes to '12V'; allowed: " in text for text in check(part(bench, "R1", wires=lost), devkit))


def test_enclosures_exist(bench, devkit):
    odd = replace(bench, mounting=replace(bench.mounting, enclosure=["hat"]))
    assert any("mounting.enclosure names 'hat'" in text for text in check(odd, devkit, ["box_body"]))


def test_prices_of_the_same_part_agree(bench, nodes):
    dear = part(bench, "U1", price=99.0)
    assert any(
        "ESP32-DevKitC-32E has another price" in text for text in checks.check_prices([nodes["air"], dear])
    )


def test_peaks_are_told_for_every_rail(node):
    assert set(power.rail_loads(node)) == {rail.name for rail in node.rails}
