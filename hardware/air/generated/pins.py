"""The air quality node on Espressif ESP32-DevKitC V4. Made by tools/hardware from node.toml: change that."""

NODE = "air"
KIND = "air"
BOARD = "Espressif ESP32-DevKitC V4"
INTERVAL = 120  # seconds
PUBLISH = 600  # seconds

I2C_SCL = 22  # J3-3
I2C_SDA = 21  # J3-6
PM_TX = 17  # J3-11, to the sensor's RX
PM_RX = 16  # J3-12, from the sensor's TX
STATUS_LED = 23  # J3-2, 1 kOhm to the LED, lit when high

LED = {"pin": 23, "low": False}  # `led` in node.json: LED1

# rows for `sensors` in node.json
SENSORS = (
    {"driver": "bme280", "scl": 22, "sda": 21, "address": "0x77"},
    {"driver": "scd4x", "scl": 22, "sda": 21, "address": "0x62", "channels": ["co2"]},
    {"driver": "sgp41", "scl": 22, "sda": 21, "address": "0x59"},
    {"driver": "pms5003", "uart": 1, "tx": 17, "rx": 16},
)
