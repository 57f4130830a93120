"""The packaged sample: four weeks of twelve Beijing stations. README.md says where it comes from."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

CHANNELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PM2.5": "pm2_5",
        "PM10": "pm10",
        "SO2": "so2",
        "NO2": "no2",
        "CO": "co",
        "O3": "o3",
        "TEMP": "temperature",
        "PRES": "pressure",
        "DEWP": "dew_point",
        "RAIN": "rain",
        "wd": "wind_direction",
        "WSPM": "wind_speed",
    }
)
"""Column of the sample to channel; values are in the channel's unit, wind directions are compass points."""

_POINTS: Final = [
    "N",
    "NNE",
    "NE",
    "ENE",
    "E",
    "ESE",
    "SE",
    "SSE",
    "S",
    "SSW",
    "SW",
    "WSW",
    "W",
    "WNW",
    "NW",
    "NNW",
]
_SAMPLE: Final = files("sensorhub").joinpath("data", "beijing-sample")


def rows() -> Iterator[dict[str, str]]:
    """The hours of all stations in order of time: `station`, `timestamp` (Unix seconds) and the columns of `CHANNELS`."""
    yield from csv.DictReader(_SAMPLE.joinpath("stations.csv").read_text("utf-8").splitlines())


def readings(row: Mapping[str, str]) -> dict[str, float]:
    """What a station measured in an hour: channel to value in the channel's unit, in the order of `CHANNELS`; gaps are left out."""
    return {
        channel: _POINTS.index(row[column]) * 22.5 if column == "wd" else float(row[column])
        for column, channel in CHANNELS.items()
        if row[column] not in ("", "NA")
    }


def places() -> dict[str, tuple[float, float]]:
    """Station to degrees north and east."""
    text = _SAMPLE.joinpath("locations.csv").read_text("utf-8")
    return {
        row["station"]: (float(row["lat"]), float(row["lon"])) for row in csv.DictReader(text.splitlines())
    }
