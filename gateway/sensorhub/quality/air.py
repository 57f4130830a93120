"""What physics says of air and sun: dew point, and how high the sun stands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Coefficients of the Magnus formula over water (Alduchov and Eskridge 1996, eq. 21).
_SLOPE = 17.625
_OFFSET = 243.04
#: Tilt of the earth's axis in degrees, mean length of a year in days, and the day of the year of the summer solstice in the north.
_TILT = 23.44
_YEAR = 365.2425
_SOLSTICE = 171.5


def _growth(temperature: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the vapour pressure of saturated air at temperatures (n,) in °C, over that at 0 °C."""
    result: NDArray[np.float64] = _SLOPE * temperature / (_OFFSET + temperature)
    return result


def dew_point(temperature: NDArray[Any], humidity: NDArray[Any]) -> NDArray[np.float64]:
    """Dew point in °C of temperatures (n,) in °C and relative humidities (n,) in %.

    The vapour pressure behind it is within 0.4 % from -40 to 50 °C (Alduchov and Eskridge, J. Appl. Meteor. 35, 1996). What lies beyond what sensors show is
    taken as their limit (-60 to 85 °C, 1 to 100 %); NaN stays NaN.
    """
    warm = np.clip(temperature.astype(np.float64), -60.0, 85.0)
    share = np.clip(humidity.astype(np.float64), 1.0, 100.0) / 100.0
    exponent = np.log(share) + _growth(warm)
    result: NDArray[np.float64] = _OFFSET * exponent / (_SLOPE - exponent)
    return result


def drier(
    humidity: NDArray[np.float64], temperature: NDArray[np.float64], more: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Relative humidity in % of air that is warmed by `more` °C from `temperature`, its vapour staying the same."""
    before, after = np.exp(_growth(temperature)), np.exp(_growth(temperature + more))
    result: NDArray[np.float64] = humidity * before / after
    return result


def sun(
    time: NDArray[np.float64], latitude: NDArray[np.float64], longitude: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sine of the sun's height (n,), 0 by night and where the place is not known.

    Mean sun and a circular orbit: noon is right within 17 minutes, the declination within 1.5°.

    Args:
        time: Unix seconds.
        latitude: degrees, NaN where it is not known.
        longitude: degrees east, NaN where it is not known.
    """
    day = time / 86_400.0
    declination = np.radians(_TILT) * np.cos(2 * np.pi * (day % _YEAR - _SOLSTICE) / _YEAR)
    hour = 2 * np.pi * (day % 1.0 - 0.5) + np.radians(longitude)
    north = np.radians(latitude)
    height = np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(hour)
    result: NDArray[np.float64] = np.nan_to_num(np.maximum(height, 0.0))
    return result
