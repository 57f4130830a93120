"""MQTT topics: `sensorhub/v1/<site>/<node>/<leaf>`, and the SenML base name made of the same two names."""

from __future__ import annotations

import re
from typing import Final

NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""What a site or node may be called; use with `fullmatch`."""

PREFIX: Final = "sensorhub/v1"
LEAVES: Final = frozenset({"announce", "data", "status", "snapshot", "receipt", "config", "update", "state"})
BASE_NAME_PREFIX: Final = "urn:dev:sensorhub:"

_NAME: Final = NAME_PATTERN.pattern
_TOPIC: Final = re.compile(rf"{PREFIX}/({_NAME})/({_NAME})/({'|'.join(sorted(LEAVES))})")
_BASE_NAME: Final = re.compile(rf"{BASE_NAME_PREFIX}({_NAME}):({_NAME}):")


def check_name(name: str, what: str = "name") -> str:
    """Return `name`; ValueError when it cannot be a site or node name."""
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"{what} {name!r} must match {_NAME}")
    return name


def topic(site: str, node: str, leaf: str) -> str:
    """Return the topic of a node's leaf; ValueError when a part is not permitted."""
    if leaf not in LEAVES:
        raise ValueError(f"leaf {leaf!r} must be one of {', '.join(sorted(LEAVES))}")
    return f"{PREFIX}/{check_name(site, 'site')}/{check_name(node, 'node')}/{leaf}"


def split_topic(topic: str) -> tuple[str, str, str] | None:
    """Return (site, node, leaf), or None when `topic` is not one of ours."""
    match = _TOPIC.fullmatch(topic)
    return (match[1], match[2], match[3]) if match else None


def base_name(site: str, node: str) -> str:
    """Return the SenML base name `urn:dev:sensorhub:<site>:<node>:`."""
    return f"{BASE_NAME_PREFIX}{check_name(site, 'site')}:{check_name(node, 'node')}:"


def split_base_name(name: str) -> tuple[str, str] | None:
    """Return (site, node), or None when `name` is not a base name of ours."""
    match = _BASE_NAME.fullmatch(name)
    return (match[1], match[2]) if match else None
