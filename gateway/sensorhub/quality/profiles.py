"""What the pipeline knows of a channel beforehand: its scale, how far apart two places still agree, its witnesses.

A channel without a profile (a battery voltage, a camera's sharpness) is judged by the rules alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Profile:
    """How a channel is compared.

    Attributes:
        channel: name in the channel table.
        unit: a deviation that matters, in the channel's unit.
        offset: c of log(x + c), for quantities whose errors and events multiply; 0 leaves values as they are.
        reach: distance at which a neighbour counts half, in km.
        grain: values closer than this are the same for a sensor that hangs, in the channel's unit.
        between: how far two sound nodes may stand apart before anything was learnt, in `unit`.
        witnesses: (channel, sign) that move with it at the same node when an event is real, best first.
        dead: values that sensors send when they measure nothing.
        caution: log odds by which a fault must be likelier than not before it is worth an alarm, at ten minutes and less.
    """

    channel: str
    unit: float
    offset: float
    reach: float
    grain: float
    between: float
    witnesses: tuple[tuple[str, int], ...] = ()
    dead: tuple[float, ...] = ()
    caution: float = 2.5

    @property
    def scale(self) -> float:
        """`unit` after the transform, at a low concentration."""
        return float(np.log1p(self.unit / self.offset)) / 2 if self.offset else self.unit


_PM = (0.0, -1.0, 999.9, 1999.9)
_GAS = (0.0, -1.0, 999.9)

PROFILES: Final[tuple[Profile, ...]] = (
    Profile("pm1", 8, 8, 8, 0.15, 2, (("pm2_5", 1), ("pm10", 1)), _PM),
    Profile("pm2_5", 8, 8, 8, 0.15, 2, (("pm10", 1), ("pm1", 1), ("co", 1), ("no2", 1)), _PM),
    Profile("pm4", 8, 8, 8, 0.15, 2, (("pm2_5", 1), ("pm10", 1)), _PM),
    Profile("pm10", 12, 12, 8, 0.15, 2, (("pm2_5", 1), ("pm4", 1), ("no2", 1)), _PM),
    Profile("so2", 10, 10, 6, 0.15, 2, (("no2", 1), ("co", 1)), _GAS),
    Profile("no2", 10, 10, 5, 0.15, 2, (("o3", -1), ("co", 1), ("pm2_5", 1)), _GAS),
    Profile("co", 400, 400, 6, 0.15, 2, (("no2", 1), ("pm2_5", 1)), _GAS),
    Profile("o3", 12, 12, 10, 0.15, 2, (("no2", -1), ("temperature", 1)), _GAS),
    Profile("co2", 40, 0, 2, 0.5, 3, (), (0.0, 400.0, 65535.0)),
    Profile(
        "temperature",
        1,
        0,
        12,
        0.15,
        3,
        (("humidity", -1), ("dew_point", 1)),
        (0.0, 85.0, -40.0, -127.0),
        3.0,
    ),
    Profile("dew_point", 1, 0, 20, 0.15, 3, (("humidity", 1), ("temperature", 1)), (0.0,)),
    Profile("humidity", 4, 0, 15, 0.15, 3, (("temperature", -1), ("dew_point", 1)), (0.0, 100.0)),
    # single readings a hectopascal off are frequent and no harm
    Profile("pressure", 1, 0, 80, 0.15, 40, (), (0.0, 300.0, 1100.0), 4.5),
)

BY_CHANNEL: Final = MappingProxyType({profile.channel: profile for profile in PROFILES})
NUMBER: Final = MappingProxyType({profile.channel: i for i, profile in enumerate(PROFILES)})

UNIT: Final = np.array([p.unit for p in PROFILES])
OFFSET: Final = np.array([p.offset for p in PROFILES])
SCALE: Final = np.array([p.scale for p in PROFILES])
GRAIN: Final = np.array([p.grain for p in PROFILES])
BETWEEN: Final = np.array([p.between * p.scale for p in PROFILES])
REACH: Final = np.array([p.reach for p in PROFILES])
CAUTION: Final = np.array([p.caution for p in PROFILES])
_MOST_DEAD: Final = max(len(p.dead) for p in PROFILES)
DEAD: Final = np.array([p.dead + (np.nan,) * (_MOST_DEAD - len(p.dead)) for p in PROFILES])


def forward(profile: NDArray[np.intp], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (N,) on the scale on which nodes are compared: log(x + c), or x itself."""
    offset = OFFSET[profile]
    logs = np.log(np.maximum(value + offset, 0.25 * np.maximum(offset, 1.0)))
    return np.where(offset > 0, logs, value)


def backward(profile: NDArray[np.intp], level: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values (N,) that `forward` takes to `level`."""
    offset = OFFSET[profile]
    values = np.exp(np.where(offset > 0, np.minimum(level, 15.0), 0.0)) - offset
    return np.where(offset > 0, values, level)
