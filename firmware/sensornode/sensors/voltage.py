"""Battery and solar voltage, through a divider on an analogue input.

node.json: {"driver": "voltage", "channel": "battery_voltage", "pin": 34, "top": 100000, "bottom": 100000}

`channel` is battery_voltage or solar_voltage; `top` is the resistor to the battery and `bottom` the one to ground, in ohms;
`scale` (1.0) corrects what a multimeter shows otherwise. On the ESP32 only pins 32 to 39 are read beside Wi-Fi, and
only from about 0.1 V to 2.45 V true to the calibration (ESP32 datasheet, section 4.8.2).
"""

from ._part import Part


class Sensor(Part):
    def __init__(self, options, services):
        super().__init__(options, services)
        row = self.row
        channel = row.choice("channel", ("battery_voltage", "solar_voltage"))
        top = row.number("top", 0, 10_000_000)
        bottom = row.number("bottom", 1, 10_000_000)
        # a factor of its own keeps single precision exact to 1 part in 10 million
        self._ratio = row.number("scale", 0.5, 2, 1) * (top + bottom) / bottom
        self._adc, self.place = services.buses.adc(row)
        row.end()
        self.channels = ((channel, "V"),)
        self.limits = {channel: (0, 3.3 * self._ratio)}

    async def measure(self):
        return {self.channels[0][0]: self._adc.microvolts() * self._ratio / 1_000_000}
