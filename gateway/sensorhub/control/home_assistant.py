"""What Home Assistant is told of a node by MQTT discovery: which sensors it has, and their newest values.

Nodes publish signed CBOR, which Home Assistant cannot read. So the gateway publishes, retained,

    homeassistant/sensor/<site>_<node>_<channel>/config   what the sensor is, JSON
    sensorhub/v1/<site>/<node>/state                      newest value of every channel, JSON

The state is a convenience for a home, not evidence: it is not signed, and judged values are in the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sensorhub.channels import Channel

PREFIX: Final = "homeassistant"

#: SenML units as Home Assistant writes them; others are the same in both.
_UNITS: Final[Mapping[str, str]] = {
    "Cel": "°C",
    "%RH": "%",
    "ug/m3": "µg/m³",
    "deg": "°",
    "/": "",
    "count": "",
}

#: Device classes of Home Assistant's sensor integration that take the channel's unit as it is. CO has none for µg/m³
#: in releases of before 2025, wind direction none before 2025.1.
_CLASSES: Final[Mapping[str, str]] = {
    "pm1": "pm1",
    "pm2_5": "pm25",
    "pm10": "pm10",
    "so2": "sulphur_dioxide",
    "no2": "nitrogen_dioxide",
    "o3": "ozone",
    "co2": "carbon_dioxide",
    "temperature": "temperature",
    "dew_point": "temperature",
    "humidity": "humidity",
    "pressure": "atmospheric_pressure",
    "rain": "precipitation",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_speed",
    "illuminance": "illuminance",
    "battery_voltage": "voltage",
    "solar_voltage": "voltage",
    "rssi": "signal_strength",
}
_DIAGNOSTIC: Final = frozenset({"battery_voltage", "solar_voltage", "rssi", "spool_dropped", "sensor_errors"})


@dataclass(frozen=True, slots=True)
class Publication:
    """One retained MQTT message; an empty payload takes an earlier one back."""

    topic: str
    payload: bytes


def state_topic(site: str, node: str) -> str:
    """Topic of the newest values of a node."""
    return f"sensorhub/v1/{site}/{node}/state"


def config_topic(site: str, node: str, channel: str, prefix: str = PREFIX) -> str:
    """Topic by which Home Assistant learns of one sensor."""
    return f"{prefix}/sensor/{site}_{node}_{channel}/config"


def discovery(site: str, node: str, kind: str, channel: Channel, prefix: str = PREFIX) -> Publication:
    """What Home Assistant needs to know of one channel of a node."""
    payload: dict[str, Any] = {
        "name": channel.title,
        "unique_id": f"sensorhub_{site}_{node}_{channel.name}",
        "object_id": f"{node}_{channel.name}",
        "state_topic": state_topic(site, node),
        "value_template": f"{{{{ value_json['{channel.name}'] }}}}",
        "availability_topic": f"sensorhub/v1/{site}/{node}/status",
        "availability_template": "{{ value_json.state }}",
        "state_class": "measurement",
        "suggested_display_precision": channel.decimals,
        "device": {
            "identifiers": [f"sensorhub_{site}_{node}"],
            "name": node,
            "model": f"{kind or 'sensor'} node",
            "manufacturer": "sensorhub",
        },
        "origin": {"name": "sensorhub"},
    }
    unit = _UNITS.get(channel.unit, channel.unit)
    if unit:
        payload["unit_of_measurement"] = unit
    if channel.name in _CLASSES:
        payload["device_class"] = _CLASSES[channel.name]
    if channel.name in _DIAGNOSTIC:
        payload["entity_category"] = "diagnostic"
    return Publication(config_topic(site, node, channel.name, prefix), _json(payload))


def state(site: str, node: str, values: Mapping[str, float], time: float) -> Publication:
    """The newest values of a node; `time` is when the newest of them was measured, Unix s."""
    return Publication(state_topic(site, node), _json({**values, "time": round(time)}))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
