"""Coarse places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.errors import SensorhubError
from sensorhub.nodes.geohash import decode, encode, is_valid


@pytest.mark.parametrize(
    ("latitude", "longitude", "precision", "text"),
    [
        (57.64911, 10.40744, 11, "u4pruydqqvj"),
        (42.6, -5.6, 5, "ezs42"),
        (39.92324, 116.3906, 8, "wx4g0ec1"),
        (-90, -180, 5, "00000"),
        (90, 180, 5, "zzzzz"),
        (0, 0, 5, "s0000"),
    ],
)
def test_known_places(latitude: float, longitude: float, precision: int, text: str) -> None:
    assert encode(latitude, longitude, precision) == text


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_a_cell_holds_its_point(latitude: float, longitude: float) -> None:
    text = encode(latitude, longitude)
    assert is_valid(text)
    middle = decode(text)
    assert abs(middle[0] - latitude) <= 180 / 2**12 / 2 * 1.0001
    assert abs(middle[1] - longitude) <= 360 / 2**13 / 2 * 1.0001
    assert encode(*middle) == text


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, 181), (float("nan"), 0), (0, float("inf"))])
def test_impossible_places_are_named(latitude: float, longitude: float) -> None:
    with pytest.raises(SensorhubError, match="is not between"):
        encode(latitude, longitude)


def test_a_stray_character_is_named() -> None:
    with pytest.raises(SensorhubError, match="'a' is not one of"):
        decode("u33da")
    assert not is_valid("u33da")
    assert not is_valid("u33d")
