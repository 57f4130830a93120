"""Parts for the rows of a node.json: what a bench needs for the node's drivers to find all they ask for."""

from .bosch import BME280, BME680
from .light_and_heat import BH1750, TMP105
from .plantower import PMS5003
from .sensirion import SGP41, SPS30, SCD4x, SEN5x, SHT4x

_I2C = {
    "bh1750": BH1750,
    "bme280": BME280,
    "bme680": BME680,
    "scd4x": SCD4x,
    "sen55": SEN5x,
    "sgp41": SGP41,
    "sht4x": SHT4x,
    "sps30": SPS30,
}
_BITS = {"lm75": 9, "lm75a": 11}


def furnish(bench, rows):
    """Plug in the part of each row; gives them in the order of the rows, None where there is nothing to plug in.

    Rows of other drivers are passed over. Analogue inputs get half a volt and more, which is a direction and a voltage.
    """
    pins = {}
    return [_furnish(bench, row, pins) for row in rows]


def _furnish(bench, row, pins):
    driver = row["driver"]
    if driver == "pms5003":
        return bench.serial(PMS5003(), row.get("uart", 1))
    if driver in ("voltage", "wind_vane"):
        bench.signal(row["pin"]).microvolts = 1_850_000
        return None
    if driver == "tmp105":
        bits = _BITS.get(row.get("part"))
        part = TMP105(bits=bits, single=False) if bits else TMP105()
    elif driver in _I2C:
        part = _I2C[driver]()
    else:
        return None
    bus = row.get("bus", 0)
    pins[bus] = row.get("scl", pins.get(bus, (22, 21))[0]), row.get("sda", pins.get(bus, (22, 21))[1])
    address = row.get("address")
    if driver == "bme680" and address is None:
        address = 0x76  # the driver's first
    if address is not None:
        part.address = int(address, 16) if isinstance(address, str) else address
    return bench.plug(part, *pins[bus])
