"""What a node is configured with: `node.json` in its file system, and its credentials in NVS.

Nothing in `node.json` is secret. Networks, MQTT login and the one-time claim are blobs of the NVS namespace `credentials`, from
where the firmware adds them (firmware/sensornode/config.py, `complete`).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flashing.application import FIRMWARE, PACKAGE
from flashing.exits import Exit, FlashError
from flashing.hardware import Hardware
from flashing.settings import Broker

FILE: Final = "node.json"
CA_FILE: Final = "ca.pem"
SPOOL_MOST: Final = 1 << 20
SPOOL_STEP: Final = 1 << 16
SPOOL_LEAST: Final = 1 << 16
CREDENTIAL_MOST: Final = 1024
"""Bytes that the firmware reads of one credential (firmware/sensornode/board.py)."""
RESERVE: Final = 128 << 10
"""Flash left free for an update's configuration, the ends of blocks and directories."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the node will be, and its secrets.

    Attributes:
        site: name of the site.
        name: name of the node.
        claim: one-time claim, 16 bytes; None for a node that is enrolled already.
        user: MQTT user.
        password: MQTT password; may be empty.
    """

    site: str
    name: str
    claim: bytes | None = field(repr=False, default=None)
    user: str = ""
    password: str = field(repr=False, default="")


def spool_bytes(vfs_bytes: int, application_bytes: int) -> int:
    """Size of the spool: as much flash as is left beside two applications (an update needs the second), at most 1 MB.

    Raises:
        FlashError: not even the smallest spool has room.
    """
    left = vfs_bytes - 2 * application_bytes - RESERVE
    if left < SPOOL_LEAST:
        raise FlashError(
            Exit.NO_ROOM,
            f"{vfs_bytes // 1024} kB of file system leave no room for a spool beside two applications of "
            f"{application_bytes // 1024} kB",
        )
    return min(SPOOL_MOST, left // SPOOL_STEP * SPOOL_STEP)


def credentials(identity: Identity, wifi: tuple[str, str]) -> dict[str, bytes]:
    """What goes into the NVS namespace `credentials`: key to blob.

    Args:
        identity: the node's MQTT login and claim.
        wifi: network name and password, the password empty for an open network.

    Raises:
        FlashError: something is longer than the firmware reads.
    """
    network = {"ssid": wifi[0]}
    if wifi[1]:
        network["password"] = wifi[1]
    login = {"user": identity.user or identity.name}
    if identity.password:
        login["password"] = identity.password
    found = {"wifi": _compact([network]), "mqtt": _compact(login)}
    if identity.claim is not None:
        found["claim"] = identity.claim
    for name, blob in found.items():
        if len(blob) > CREDENTIAL_MOST:
            raise FlashError(
                Exit.SETTINGS,
                f"the {name} credentials have {len(blob)} bytes; {CREDENTIAL_MOST} is the most",
                "Shorten them.",
            )
    return found


def _compact(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


def compose(
    hardware: Hardware,
    identity: Identity,
    broker: Broker,
    secrets: Mapping[str, bytes],
    *,
    interval: int,
    publish: int,
    spool: int,
    ntp: tuple[str, ...] = (),
    keys: Mapping[str, str] | None = None,
    sensors: tuple[Mapping[str, Any], ...] | None = None,
) -> bytes:
    """The file's content, checked by the firmware's own code.

    Args:
        hardware: the kind of node.
        identity: the names; its secrets are left out.
        broker: as the node reaches it.
        secrets: what `credentials` has made; looked at with the file, and not put into it.
        interval: seconds between samples.
        publish: seconds between messages.
        spool: bytes of flash for unsent messages.
        ntp: time servers; empty for the firmware's own.
        keys: public keys of the site and of releases, hexadecimal.
        sensors: another sensor table than the hardware's.

    Raises:
        FlashError: the firmware would refuse it.
    """
    link: dict[str, Any] = {"host": broker.host, "port": broker.port}
    if broker.ca:
        link["ca"] = CA_FILE
    data: dict[str, Any] = {
        "site": identity.site,
        "node": identity.name,
        "kind": hardware.kind,
        "hardware": hardware.board,
        "interval": interval,
        "publish": publish,
        "broker": link,
        "sensors": list(hardware.sensors if sensors is None else sensors),
        "spool": {"bytes": spool},
    }
    if hardware.led is not None:
        data["led"] = dict(hardware.led)
    if ntp:
        data["ntp"] = list(ntp)
    if keys:
        data["keys"] = dict(keys)
    check(data, secrets)
    return encode(data)


def encode(data: Mapping[str, Any]) -> bytes:
    """The bytes of the file; the same for the same settings."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def check(data: Mapping[str, Any], secrets: Mapping[str, bytes], firmware: Path = FIRMWARE) -> None:
    """Has the firmware's own code look at a configuration and the credentials that complete it.

    Raises:
        FlashError: it would stop the node's start.
    """
    spec = importlib.util.spec_from_file_location(
        "sensornode_config", firmware / PACKAGE / "config.py", submodule_search_locations=[]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.check(module.complete(json.loads(json.dumps(data)), secrets), FILE)
    except module.ConfigError as error:
        raise FlashError(
            Exit.SETTINGS, f"the node would refuse its configuration: {error}", "Correct that setting."
        ) from None
