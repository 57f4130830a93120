"""The bench node on Espressif ESP32-DevKitC V4. Made by tools/hardware from node.toml: change that."""

NODE = "bench"
KIND = "bench"
BOARD = "Espressif ESP32-DevKitC V4"
INTERVAL = 10  # seconds
PUBLISH = 10  # seconds

I2C_SCL = 22  # J3-3
I2C_SDA = 21  # J3-6
STATUS_LED = 23  # J3-2, 1 kOhm to the LED, lit when high

LED = {"pin": 23, "low": False}  # `led` in node.json: LED1

# rows for `sensors` in node.json
SENSORS = ({"driver": "tmp105", "scl": 22, "sda": 21, "address": "0x48"},)
