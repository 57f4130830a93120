"""What the GPIOs of a chip can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Chip:
    """Pins of a chip by what they are good for.

    Attributes:
        gpios: all there are.
        strapping: read at reset to choose boot mode, flash voltage or log output.
        flash: wired to the flash chip inside the module.
        psram: wired to the PSRAM, by its kind.
        input_only: without driver and without pull-up.
        adc1: converter that works beside Wi-Fi.
        adc2: converter that Wi-Fi takes over.
        console: serial console and boot loader.
        source: where all this is written.
    """

    gpios: frozenset[int]
    strapping: frozenset[int]
    flash: frozenset[int]
    psram: dict[str, frozenset[int]]
    input_only: frozenset[int]
    adc1: frozenset[int]
    adc2: frozenset[int]
    console: frozenset[int]
    source: str


CHIPS: Final[dict[Literal["esp32", "esp32s3"], Chip]] = {
    "esp32": Chip(
        gpios=frozenset({*range(20), 21, 22, 23, 25, 26, 27, *range(32, 40)}),
        strapping=frozenset({0, 2, 5, 12, 15}),
        flash=frozenset(range(6, 12)),
        psram={"none": frozenset(), "quad": frozenset({16, 17}), "octal": frozenset()},
        input_only=frozenset(range(34, 40)),
        adc1=frozenset(range(32, 40)),
        adc2=frozenset({0, 2, 4, 12, 13, 14, 15, 25, 26, 27}),
        console=frozenset({1, 3}),
        source="ESP32 Series Datasheet: 'Strapping Pins', 'IO_MUX'; ESP-IDF: 'GPIO & RTC GPIO', 'ADC'",
    ),
    "esp32s3": Chip(
        gpios=frozenset({*range(22), *range(26, 49)}),
        strapping=frozenset({0, 3, 45, 46}),
        flash=frozenset(range(26, 33)),
        psram={"none": frozenset(), "quad": frozenset({26}), "octal": frozenset(range(33, 38))},
        input_only=frozenset(),
        adc1=frozenset(range(1, 11)),
        adc2=frozenset(range(11, 21)),
        console=frozenset({43, 44, 19, 20}),
        source="ESP32-S3 Series Datasheet: 'Strapping Pins', 'Pin Overview'; ESP-IDF: 'GPIO & RTC GPIO', 'ADC'",
    ),
}
