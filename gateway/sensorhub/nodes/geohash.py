"""Coarse location: a geohash of five characters, a cell of about 4.9 km x 4.9 km at the equator.

A node's exact place never enters the log; five characters say which town it stands in and no more.
Geohash as described by G. Niemeyer (2008): longitude and latitude bits interleaved, longitude first,
five bits a character.
"""

from __future__ import annotations

import math
from typing import Final

from sensorhub.errors import SensorhubError

PRECISION: Final = 5
ALPHABET: Final = "0123456789bcdefghjkmnpqrstuvwxyz"


def encode(latitude: float, longitude: float, precision: int = PRECISION) -> str:
    """The geohash of a point.

    Args:
        latitude: degrees, -90 to 90, WGS 84.
        longitude: degrees, -180 to 180, WGS 84.
        precision: characters, five bits each.

    Raises:
        SensorhubError: a coordinate is not a number or out of range.
    """
    if not (math.isfinite(latitude) and -90 <= latitude <= 90):
        raise SensorhubError(f"latitude {latitude} is not between -90 and 90 degrees")
    if not (math.isfinite(longitude) and -180 <= longitude <= 180):
        raise SensorhubError(f"longitude {longitude} is not between -180 and 180 degrees")
    spans = [[-180.0, 180.0], [-90.0, 90.0]]
    point = (longitude, latitude)
    text = []
    for character in range(precision):
        value = 0
        for bit in range(5):
            axis = (character * 5 + bit) & 1
            span = spans[axis]
            middle = (span[0] + span[1]) / 2
            upper = point[axis] >= middle
            span[0 if upper else 1] = middle
            value = value << 1 | upper
        text.append(ALPHABET[value])
    return "".join(text)


def decode(text: str) -> tuple[float, float]:
    """The middle (latitude, longitude) of a geohash cell, in degrees.

    Raises:
        SensorhubError: a character is not of the geohash alphabet.
    """
    spans = [[-180.0, 180.0], [-90.0, 90.0]]
    for position, character in enumerate(text):
        value = ALPHABET.find(character)
        if value < 0:
            raise SensorhubError(f"{text!r} is not a geohash: {character!r} is not one of {ALPHABET}")
        for bit in range(5):
            span = spans[(position * 5 + bit) & 1]
            span[0 if value >> (4 - bit) & 1 else 1] = (span[0] + span[1]) / 2
    return (spans[1][0] + spans[1][1]) / 2, (spans[0][0] + spans[0][1]) / 2


def is_valid(text: str) -> bool:
    """Whether `text` is a geohash of exactly the precision the log keeps."""
    return len(text) == PRECISION and all(character in ALPHABET for character in text)
