"""`sensorhub nodes`: who may send, and with which key."""

from __future__ import annotations

import json
import os
import secrets
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sensorhub.cli.terminal import Out, context, open_log
from sensorhub.errors import SensorhubError
from sensorhub.processes import make_data_dir

app = typer.Typer(no_args_is_help=True, help="Nodes: who may send, and with which key.")


class NodeKind(StrEnum):
    """The kinds of node there are."""

    weather = "weather"
    air = "air"
    camera = "camera"
    bench = "bench"


@app.command("list")
def nodes_list() -> None:
    """List the enrolled nodes with their key ids."""
    from rich.console import Console
    from rich.table import Table

    from sensorhub.nodes.registry import Registry

    registry = Registry.replay(open_log())
    table = Table(box=None, header_style="dim")
    for title in ("node", "kind", "place", "key"):
        table.add_column(title)
    for node in registry.nodes():
        key = registry.key(node.kids[-1])
        assert key is not None
        table.add_row(
            node.name, key.kind, key.geohash or "-", node.current.hex() if node.current else "revoked"
        )
    if not table.row_count:
        typer.echo("no node is enrolled yet; `sensorhub nodes add NAME` makes a claim for one", err=True)
        return
    Console().print(table)


def _address(text: str) -> bytes | None:
    if not text:
        return None
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise SensorhubError(
            f"owner {text!r} is not an account address: 0x and 40 hex digits for 20 bytes"
        ) from None


@app.command("add")
def nodes_add(
    name: Annotated[str, typer.Argument(help="Node name: a-z, 0-9 and hyphens.")],
    kind: Annotated[NodeKind, typer.Option(help="What the node is.")] = NodeKind.weather,
    owner: Annotated[str, typer.Option(help="Owner's account address on the chain, 0x...")] = "",
    place: Annotated[str, typer.Option(help="Coarse place as a 5-character geohash.")] = "",
    replace: Annotated[
        bool, typer.Option(help="A new claim and password for a node that has some already.")
    ] = False,
    out: Out = None,
) -> None:
    """Make a one-time claim and an MQTT password for a new node, written to a new file of mode 0600."""
    from sensorhub.control.keys import node_keys
    from sensorhub.ingest.admission import Admissions
    from sensorhub.nodes.claims import CLAIM_BYTES

    values = context.settings()
    make_data_dir(values.data_dir)
    admissions = Admissions(values.data_dir, embedded=values.mqtt.embedded != "off")
    if admissions.knows(name) and not replace:
        raise SensorhubError(
            f"node {name!r} is known already; --replace makes a new claim and a new password, with which the old password ends"
        )
    owner_bytes = _address(owner)
    claim, password = secrets.token_bytes(CLAIM_BYTES), secrets.token_urlsafe(16)
    path = out or Path(f"{name}.claim.json")
    # the file comes first: a claim or password that could not be handed over would be lost
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        keys = node_keys(values.data_dir)
        admissions.admit(
            name, kind.value, claim=claim, password=password, owner=owner_bytes, place=place, replace=replace
        )
        record: dict[str, object] = {
            "site": values.gateway.site,
            "node": name,
            "kind": kind.value,
            "claim": claim.hex(),
            "keys": keys,
        }
        if admissions.makes_users:
            record |= {"mqtt_user": name, "mqtt_password": password}
    except BaseException:
        os.close(descriptor)
        path.unlink()
        raise
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    typer.echo(f"claim for {name} written to {path}; it works once")


@app.command("revoke")
def nodes_revoke(name: Annotated[str, typer.Argument(help="Node name.")]) -> None:
    """Revoke a node's key: from now on its messages are refused. What is logged stays."""
    from sensorhub.log.appender import LogClient
    from sensorhub.log.entries import NodeEntry, NodeEvent, encode_entry
    from sensorhub.nodes.registry import Registry

    values = context.settings()
    key = Registry.replay(open_log()).current(name)
    if key is None:
        raise SensorhubError(f"node {name!r} has no key in force; see: sensorhub nodes list")
    entry = NodeEntry(
        time.time_ns() // 1_000_000,
        NodeEvent.REVOKE,
        name,
        key.kind,
        key.public_key,
        key.owner,
        key.geohash,
        b"",
    )
    client = LogClient(values.data_dir / "run" / "log.sock")
    index = client.append([encode_entry(entry)])
    client.close()
    if values.mqtt.embedded != "off":
        from sensorhub.ingest.users import Users

        Users.of(values.data_dir).remove(name)
    typer.echo(f"key {key.kid.hex()} of {name} revoked in entry {index}; its MQTT password ends too")
