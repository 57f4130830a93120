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
