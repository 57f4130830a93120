"""node.toml, firmware and flash tool mean the same."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

from fleet import micropython
from hardware_build.firmware import sensor_rows
from hardware_build.schema import HARDWARE, ROOT

HERE = Path(__file__).parent
FIRMWARE = ROOT / "firmware"


def pins_of(node):
    path = HARDWARE / node.name / "generated" / "pins.py"
    spec = importlib.util.spec_from_file_location(f"pins_{node.name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pins_module_says_what_node_toml_says(node):
    pins = pins_of(node)
    assert {pin.name: getattr(pins, pin.name.upper()) for pin in node.pins} == {
        pin.name: pin.gpio for pin in node.pins
    }
    assert (
        node.node.kind,
        node.node.interval_s,
        node.node.publish_s,
    ) == (pins.KIND, pins.INTERVAL, pins.PUBLISH)
    assert list(pins.SENSORS) == sensor_rows(node)
    assert {"pin": node.led.gpio, "low": node.led.low} == pins.LED


@pytest.mark.parametrize("name", ["air", "bench", "weather"])
def test_drivers_read_every_channel_on_these_pins(name, nodes):
    node = nodes[name]
    generated = HARDWARE / name / "generated"
    done = subprocess.run(
        [micropython(), HERE / "read_rows.py", FIRMWARE, generated],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    page = (HARDWARE / name / "README.md").read_text()
    for driver, channels in seen.items():
        assert channels, driver
        for channel in channels:
            assert re.search(rf"\| `{driver}` \|.*\b{channel}\b", page), (driver, channel)
    assert set(seen) == {row["driver"] for row in sensor_rows(node)}


def test_camera_rows_are_the_boards_wiring(nodes):
    from hardware_build.schema import board_of

    node = nodes["camera"]
    board = board_of(node)
    wired = {
        pin.why.removeprefix("camera ").split(";")[0]: pin.gpio
        for pin in board.fixed
        if pin.why.startswith("camera ")
    }
    [row] = sensor_rows(node)
    assert row["data"] == [wired[f"D{bit}"] for bit in range(8)]
    keys = {
        "pclk": "PCLK",
        "vsync": "VSYNC",
        "href": "HREF",
        "sda": "SIOD",
        "scl": "SIOC",
        "xclk": "XCLK",
        "powerdown": "PWDN",
    }
    assert {key: row[key] for key in keys} == {key: wired[name] for key, name in keys.items()}


def test_bench_is_what_the_emulator_offers(nodes):
    bench = nodes["bench"]
    assert (bench.flash.chip, bench.flash.flash_bytes, bench.flash.firmware) == (
        "esp32",
        4 << 20,
        "ESP32_GENERIC",
    )
    assert (bench.flash.vfs_offset, bench.flash.vfs_bytes, bench.flash.ota_slots) == (
        0x200000,
        2 << 20,
        False,
    )
    assert sensor_rows(bench) == [{"driver": "tmp105", "scl": 22, "sda": 21, "address": "0x48"}]


def plain(row):
    """A row without its defaults, addresses as numbers."""
    address = row.get("address")
    made = {**row, "address": int(address, 16) if isinstance(address, str) else address}
    for key, default in (("bus", 0), ("hertz", 100_000), ("address", None)):
        if made.get(key) == default:
            made.pop(key, None)
    return made


def test_flash_tool_reads_the_same(node):
    hardware = pytest.importorskip("flashing.hardware").load(node.name)
    assert [plain(row) for row in hardware.sensors] == [plain(row) for row in sensor_rows(node)]
    flash = node.flash
    assert (hardware.chip, hardware.flash_bytes, hardware.psram_bytes) == (
        flash.chip,
        flash.flash_bytes,
        flash.psram_bytes,
    )
    assert hardware.vfs == (flash.vfs_offset, flash.vfs_bytes)
    assert (hardware.kind, hardware.interval, hardware.publish) == (
        node.node.kind,
        node.node.interval_s,
        node.node.publish_s,
    )


def test_the_page_names_the_channels_of_every_driver(node):
    page = (HARDWARE / node.name / "README.md").read_text()
    for sensor in (sensor for part in node.parts for sensor in part.sensors):
        assert re.search(rf"\| `{sensor.driver}` \|[^|]*\| \w+", page), sensor.driver


def test_an_image_of_our_own_choice_is_given_to_the_flash_tool(nodes):
    page = (HARDWARE / "camera" / "README.md").read_text()
    said = subprocess.run(
        [ROOT / "tools" / "flash", "camera", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in re.findall(r"tools/flash camera (.*) --site", page)[0].split():
        assert not option.startswith("--") or option in said, option
    assert nodes["camera"].flash.firmware in page
