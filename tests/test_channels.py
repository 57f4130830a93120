"""The channel table holds together and its reference is up to date."""

import re
from pathlib import Path

import pytest

from sensorhub import channels
from sensorhub.channels import BY_NAME, CHANNELS


def test_the_reference_names_every_channel_and_is_up_to_date():
    text = (Path(__file__).parents[1] / "gateway" / "CHANNELS.md").read_text()
    assert text == channels.document(), "run: sensorhub channels --markdown > gateway/CHANNELS.md"
    assert all(f"`{channel.name}`" in text for channel in CHANNELS)


def test_names_are_unique():
    assert len(BY_NAME) == len(CHANNELS)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.name)
def test_a_channel_is_consistent(channel):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", channel.name)
    assert channel.title
    if channel.kind == "data":
        assert channel.unit == ""
    else:
        assert channel.unit
        assert channel.low < channel.high
        assert channel.step is None or 0 < channel.step <= channel.high - channel.low
    assert channel.projections <= {channels.STORE, channels.DASHBOARD}


def test_values_are_written_with_decimals_and_units_for_people():
    def shown(value, name, **how):
        return channels.written(value, BY_NAME[name], **how)

    assert shown(11.300000190734863, "pm2_5") == "11.3 µg/m³"
    assert shown(11.300000190734863, "pm2_5", plain=True) == "11.3 ug/m3"
    assert shown(-0.26, "temperature") == "-0.3 °C"
    assert shown(225.0, "wind_direction") == "225°"
    assert shown(3, "objects") == "3"
    assert shown(1e300, "co2") == "1e+300 ppm"


def test_units_for_people_are_those_of_the_page():
    page = Path(__file__).parents[1] / "gateway" / "sensorhub" / "web" / "static" / "format.js"
    (table,) = re.findall(r"^const UNITS = \{(.*)\};$", page.read_text(), re.M)
    assert dict(re.findall(r'"(\S+?)": "(.*?)"', table)) == {
        unit: text.strip() for unit, text in channels._UNITS.items()
    }
