"""What SENSORS.md says is true of the drivers, and the drivers keep to the gateway's channel table."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensorhub.channels import BY_NAME

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SENSORS = PROJECT / "firmware" / "sensornode" / "sensors"
TEXT = (PROJECT / "firmware" / "SENSORS.md").read_text(encoding="utf-8")
DRIVERS = sorted(path.stem for path in SENSORS.glob("[a-z]*.py"))
PARTS = [
    driver for driver in DRIVERS if driver not in ("camera", "replay")
]  # these two tell about themselves
ROWS = [line.split("|")[1:-1] for line in TEXT.splitlines() if re.match(r"\| `[a-z0-9_]+` \|", line)]
EXAMPLE = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def firmware(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `assembly`, with the firmware on the import path for as long as the test runs."""
    before = set(sys.modules)
    monkeypatch.setenv("PROJECT", str(PROJECT))
    monkeypatch.setattr(
        sys,
        "path",
        [str(PROJECT / "firmware"), str(HERE), str(PROJECT / "firmware" / "sim" / "cpython"), *sys.path],
    )
    yield importlib.import_module("assembly")
    for name in set(sys.modules) - before:
        del sys.modules[name]


def table_row(driver: str) -> list[str]:
    [row] = [row for row in ROWS if row[0].strip() == f"`{driver}`"]
    return row


def test_every_driver_has_a_row() -> None:
    assert sorted(row[0].strip().strip("`") for row in ROWS) == DRIVERS


@pytest.mark.parametrize("driver", PARTS)
def test_every_option_is_in_its_row(driver: str) -> None:
    tree = ast.parse((SENSORS / f"{driver}.py").read_text(encoding="utf-8"))
    asked = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("number", "whole", "flag", "choice", "take")
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    for option in asked:
        assert f"`{option}`" in table_row(driver)[4], option


def test_no_driver_can_hold_up_the_others() -> None:
    for path in SENSORS.glob("*.py"):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not names & {"time", "utime", "machine"}, path.name


async def test_the_example_works_and_its_channels_are_the_gateways(firmware: Any) -> None:
    assert EXAMPLE
    rows = json.loads(EXAMPLE[1])["sensors"]
    furnish = importlib.import_module("devices.furnish").furnish
    node = firmware.Node(interval=60)
    furnish(node.bench, rows)
    sensors = [firmware.load(row, node) for row in rows]
    assert {row["driver"] for row in rows} > {"sht4x", "rain", "pms5003"}
    seen: dict[str, float] = {}
    for _ in range(4):
        for values in await asyncio.gather(*[sensor.read() for sensor in sensors]):
            seen.update(values)
        await node.clock.sleep_ms(60_000)
    assert set(seen) == {name for sensor in sensors for name, _ in sensor.channels}
    for name, value in seen.items():
        assert BY_NAME[name].low <= value <= BY_NAME[name].high, name
    for sensor in sensors:
        sensor.close()


@pytest.mark.parametrize("driver", PARTS)
def test_channels_are_those_of_the_row_and_of_the_gateway(driver: str, firmware: Any) -> None:
    rows = {
        "wind_speed": [{"pin": 26, "factor": 1}],
        "wind_vane": [{"pin": 35}],
        "rain": [{"pin": 27, "mm": 1}],
        "voltage": [
            {"pin": 34, "top": 1, "bottom": 1, "channel": "battery_voltage"},
            {"pin": 36, "top": 1, "bottom": 1, "channel": "solar_voltage"},
        ],
        "pms5003": [{"tx": 17, "rx": 16}],
    }.get(driver, [firmware.I2C])
    node = firmware.Node()
    sensors = [node.sensor(driver, **row) for row in rows]
    channels = [pair for sensor in sensors for pair in sensor.channels]
    assert [f"`{name}` {unit}" for name, unit in channels] == re.findall(
        r"`[a-z0-9_]+` [^ ,]+", table_row(driver)[3]
    )
    for sensor in sensors:
        for name, unit in sensor.channels:
            assert BY_NAME[name].unit == unit
            low, high = sensor.limits[name]
            assert low < high


async def test_the_driver_that_is_shown_as_an_example_works(
    firmware: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [source] = [
        block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "class Sensor" in block
    ]
    (tmp_path / "sht3x.py").write_text(source, encoding="utf-8")
    package = importlib.import_module("sensornode.sensors")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    part = importlib.import_module("devices.part")

    class SHT3x(part.CommandPart):  # type: ignore[name-defined, misc]
        address = 0x44

        def obey(self, code: int, arguments: list[int]) -> tuple[float, list[int] | None] | None:
            return {0x30A2: (1.5, None), 0x2400: (15.5, [0x6666, 0x8000])}.get(code)

    node = firmware.Node()
    sensor = node.i2c("sht3x", SHT3x())
    values = await sensor.read()
    assert values["temperature"] == pytest.approx(25, abs=0.01)
    assert values["humidity"] == pytest.approx(50, abs=0.01)


async def test_any_row_of_the_table_can_be_furnished(firmware: Any) -> None:
    furnish = importlib.import_module("devices.furnish").furnish
    for driver in ("bme280", "bme680", "sht4x", "tmp105", "bh1750", "sps30", "sen55", "scd4x", "sgp41"):
        node = firmware.Node()
        [part] = furnish(node.bench, [{"driver": driver}])
        sensor = node.sensor(driver, **firmware.I2C)
        await sensor.read()
        assert part.heard
        sensor.close()
    node = firmware.Node()
    furnish(node.bench, [{"driver": "tmp105", "part": "lm75", "address": "0x4a"}, {"driver": "replay"}])
    assert await node.sensor("tmp105", part="lm75", address="0x4a", **firmware.I2C).read() == {
        "temperature": 21.5
    }
