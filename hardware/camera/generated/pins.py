"""The camera node on Ai-Thinker ESP32-CAM. Made by tools/hardware from node.toml: change that."""

NODE = "camera"
KIND = "camera"
BOARD = "Ai-Thinker ESP32-CAM"
INTERVAL = 60  # seconds
PUBLISH = 300  # seconds

LED = {"pin": 33, "low": True}  # `led` in node.json: red LED on the back of the board

# rows for `sensors` in node.json
SENSORS = (
    {
        "driver": "camera",
        "data": [5, 18, 19, 21, 36, 39, 34, 35],
        "pclk": 22,
        "vsync": 25,
        "href": 23,
        "sda": 26,
        "scl": 27,
        "xclk": 0,
        "powerdown": 32,
    },
)
