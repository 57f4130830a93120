"""The weather station on Espressif ESP32-DevKitC V4. Made by tools/hardware from node.toml: change that."""

NODE = "weather"
KIND = "weather"
BOARD = "Espressif ESP32-DevKitC V4"
INTERVAL = 60  # seconds
PUBLISH = 300  # seconds

I2C_SCL = 22  # J3-3
I2C_SDA = 21  # J3-6
WIND_SPEED = 26  # J2-10, reed contact to GND, 10 kOhm to 3V3 and 100 nF
RAIN = 27  # J2-11, reed contact to GND, 10 kOhm to 3V3 and 100 nF
WIND_VANE = 35  # J2-6, vane to GND, 10 kOhm to 3V3
BATTERY = 34  # J2-5, divider 100 kOhm / 100 kOhm
SOLAR = 33  # J2-8, divider 300 kOhm / 100 kOhm
STATUS_LED = 23  # J3-2, 1 kOhm to the LED, lit when high

LED = {"pin": 23, "low": False}  # `led` in node.json: LED1

# rows for `sensors` in node.json
SENSORS = (
    {"driver": "bme280", "scl": 22, "sda": 21, "address": "0x77", "channels": ["pressure"]},
    {"driver": "sht4x", "scl": 22, "sda": 21, "address": "0x44"},
    {"driver": "bh1750", "scl": 22, "sda": 21, "address": "0x23"},
    {"driver": "wind_speed", "pin": 26, "factor": 0.667, "pull": False},
    {"driver": "wind_vane", "pin": 35, "pullup": 10000, "supply": 3300},
    {"driver": "rain", "pin": 27, "mm": 0.2794, "pull": False},
    {"driver": "voltage", "pin": 34, "channel": "battery_voltage", "top": 100000, "bottom": 100000},
    {"driver": "voltage", "pin": 33, "channel": "solar_voltage", "top": 300000, "bottom": 100000},
)
