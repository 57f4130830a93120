"""What Home Assistant is told of a node by MQTT discovery: which sensors it has, and their newest values.

Nodes publish signed CBOR, which Home Assistant cannot read. So the gateway publishes, retained,

    homeassistant/device/sensorhub_<site>_<node>/config   what the node has, JSON (device discovery)
    sensorhub/v1/<site>/<node>/state                      newest value of every channel, JSON

The state is a convenience for a home, not evidence: it is not signed, and judged values are in the store. Formats:
home-assistant.io/integrations/mqtt, "Device discovery payload"; units and classes:
developers.home-assistant.io/docs/core/entity/sensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sensorhub import __version__
from sensorhub.channels import Channel
from sensorhub.control.connection import Publication
from sensorhub.wire import topic

PREFIX: Final = "homeassistant"
BIRTH: Final = "status"
"""Below the prefix: where Home Assistant says `online` once it has started."""

#: SenML units as Home Assistant writes them; others are the same in both.
_UNITS: Final[Mapping[str, str]] = {
    "Cel": "°C",
    "%RH": "%",
    "ug/m3": "µg/m³",
    "deg": "°",
    "/": "",
    "count": "",
}

#: Device classes of Home Assistant's sensors that take the channel's unit as it is. CO has none here: most releases
#: take ppm only.
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
    "wind_direction": "wind_direction",
    "illuminance": "illuminance",
    "battery_voltage": "voltage",
    "solar_voltage": "voltage",
    "rssi": "signal_strength",
}
#: State classes that are not `measurement`; a wind direction must have its own, so that north is not averaged to south.
_STATES: Final[Mapping[str, str]] = {
    "wind_direction": "measurement_angle",
    "spool_dropped": "total_increasing",
    "sensor_errors": "total_increasing",
}
_DIAGNOSTIC: Final = frozenset({"battery_voltage", "solar_voltage", "rssi", "spool_dropped", "sensor_errors"})


def config_topic(site: str, node: str, prefix: str = PREFIX) -> str:
    """Topic by which Home Assistant learns of a node."""
    return f"{prefix}/device/{_identity(site, node)}/config"


def discovery(
    site: str, node: str, kind: str, channels: Iterable[Channel], prefix: str = PREFIX
) -> Publication:
    """What Home Assistant needs to know of a node and its channels."""
    identity = _identity(site, node)
    components = {channel.name: _sensor(site, node, channel) for channel in channels}
    components["last_measured"] = {
        "platform": "sensor",
        "name": "Last measured",
        "unique_id": f"{identity}_last_measured",
        "default_entity_id": f"sensor.{_slug(node)}_last_measured",
        "value_template": "{{ value_json.time }}",
        "device_class": "timestamp",
        "entity_category": "diagnostic",
    }
    components["doubted"] = {
        "platform": "binary_sensor",
        "name": "Doubted readings",
        "unique_id": f"{identity}_doubted",
        "default_entity_id": f"binary_sensor.{_slug(node)}_doubted",
        "value_template": "{{ 'ON' if value_json.doubted else 'OFF' }}",
        "device_class": "problem",
        "entity_category": "diagnostic",
    }
    payload = {
        "device": {
            "identifiers": [identity],
            "name": node,
            "model": f"{kind or 'sensor'} node",
            "manufacturer": "sensorhub",
        },
        "origin": {"name": "sensorhub", "sw_version": __version__},
        "components": components,
        "state_topic": topic(site, node, "state"),
        "availability_topic": topic(site, node, "status"),
        # a node that is asleep is well
        "availability_template": "{{ 'offline' if value_json.state == 'offline' else 'online' }}",
        "qos": 1,
    }
    return Publication(config_topic(site, node, prefix), _json(payload))


def state(
    site: str,
    node: str,
    values: Mapping[str, float],
    doubts: Mapping[str, Sequence[str]],
    muted: Mapping[str, float],
    time: float,
) -> Publication:
    """The newest values of a node.

    Args:
        site: name of the site.
        node: name of the node.
        values: channel to value.
        doubts: of the channels whose newest judged reading is not trusted, the names of the flags.
        muted: of the channels about which somebody wants no alarm, until when, Unix s. Their doubts are told like others
            but do not make the node doubted.
        time: when the newest of the values was measured, Unix s.
    """
    return Publication(
        topic(site, node, "state"),
        _json(
            {
                **values,
                "time": _iso(time),
                "doubts": {name: list(flags) for name, flags in doubts.items()},
                "muted": {name: _iso(until) for name, until in muted.items()},
                "doubted": bool(doubts.keys() - muted.keys()),
            }
        ),
    )


def _sensor(site: str, node: str, channel: Channel) -> dict[str, Any]:
    name = channel.name
    sensor: dict[str, Any] = {
        "platform": "sensor",
        "name": channel.title,
        "unique_id": f"{_identity(site, node)}_{name}",
        "default_entity_id": f"sensor.{_slug(node)}_{name}",
        "value_template": f"{{{{ value_json['{name}'] }}}}",
        "state_class": _STATES.get(name, "measurement"),
        "suggested_display_precision": channel.decimals,
        "json_attributes_topic": topic(site, node, "state"),
        "json_attributes_template": (
            f"{{{{ {{'trusted': '{name}' not in value_json.doubts, "
            f"'doubts': value_json.doubts.get('{name}', []), "
            f"'muted_until': value_json.muted.get('{name}')}} | tojson }}}}"
        ),
    }
    unit = _UNITS.get(channel.unit, channel.unit)
    if unit:
        sensor["unit_of_measurement"] = unit
    if name in _CLASSES:
        sensor["device_class"] = _CLASSES[name]
    if name in _DIAGNOSTIC:
        sensor["entity_category"] = "diagnostic"
    return sensor


def _identity(site: str, node: str) -> str:
    return f"sensorhub_{site}_{node}"


def _iso(time: float) -> str:
    return datetime.fromtimestamp(round(time), UTC).isoformat()


def _slug(node: str) -> str:
    """A node's name as a part of an entity id, which has no hyphens."""
    return node.replace("-", "_")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
