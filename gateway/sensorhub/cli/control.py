"""What nodes are told and what they show: orders, releases, sealed pictures, Home Assistant's user.

`configure` and `update` are commands of `sensorhub nodes`, `site-key` one of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sensorhub.addresses import dial_host, listens_everywhere
from sensorhub.cli.terminal import Out, context, log_path, open_log
from sensorhub.errors import SensorhubError
from sensorhub.processes import make_data_dir
from sensorhub.settings import Settings

NOT_YET = 3
"""Exit code when an order was left but the node has not said yet that it is in effect."""
DAY_S = 86_400

release = typer.Typer(
    no_args_is_help=True, help="Releases of the nodes' firmware: sign, and whom to believe."
)
snapshots = typer.Typer(no_args_is_help=True, help="Sealed pictures of cameras.")
home_assistant = typer.Typer(no_args_is_help=True, help="Home Assistant's access to the broker.")

NodeName = Annotated[str, typer.Argument(help="Node name.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the node's word; 0 for not at all.", min=0)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be signed and sent, and stop.")]
Expires = Annotated[
    int, typer.Option(help="Days after which a node does not begin it any more; 0 for never.", min=0)
]


def _enrolled(node: str) -> None:
    from sensorhub.nodes.registry import Registry

    if Registry.replay(open_log()).current(node) is None:
        raise SensorhubError(f"node {node!r} has no key in force; see: sensorhub nodes list")


def _expiry(days: int) -> int | None:
    return int(time.time()) + days * DAY_S if days else None


def _send(
    values: Settings,
    node: str,
    leaf: Literal["config", "update"],
    order: bytes,
    what: str,
    done: Callable[[Mapping[str, Any]], bool],
    seconds: float,
) -> None:
    """Leaves an order, waits for the node's word, and says how it went; a refused order is taken back."""
    from rich.console import Console
    from rich.markup import escape

    from sensorhub.control.acknowledgement import RefusedError, heard, wait
    from sensorhub.control.outbox import Outbox
    from sensorhub.control.service import ORDERS

    outbox = Outbox(values.data_dir / ORDERS)
    before = outbox.get(node, leaf)
    known = heard(values.data_dir, node).get("refused", "")
    since_ms = time.time_ns() // 1_000_000
    outbox.put(node, leaf, order)
    if not seconds:
        typer.echo(f"{what} left for {node}; it goes out as soon as gateway and node are connected")
        return
    console = Console(stderr=True)
    with console.status("") as line:

        def show(said: Mapping[str, Any]) -> None:
            if said:
                now = f"is {said.get('state', '?')}, firmware {said.get('fw', '?')}, configuration {said.get('config', '?')}"
            else:
                now = "has said nothing of itself"
            line.update(escape(f"waiting for {what}: {node} {now}"))

        try:
            taken = wait(
                values.data_dir,
                node,
                done,
                leaf=leaf,
                since_ms=since_ms,
                known=known,
                seconds=seconds,
                show=show,
            )
        except RefusedError:
            outbox.put(node, leaf, before)
            raise
    if taken:
        typer.echo(f"{what} is in effect on {node}")
        return
    typer.echo(
        f"{node} has not said within {seconds:g} s that {what} is in effect. It stays at the broker: a node that is away "
        "takes it when it comes back; one that refuses it goes on as before."
        + (f" Of an order before, it said {known!r}." if known.startswith(f"{leaf}:") else ""),
        err=True,
    )
    raise typer.Exit(NOT_YET)


def configure(
    node: NodeName,
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value: interval, publish, ntp, sleep, sensors, broker.host ... May be repeated.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(help="A key that goes back to the node's own file. May be repeated.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="JSON file with the complete set of remote settings.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The site's secret key; default is keys/site.key in the data directory."),
    ] = None,
    firmware: Annotated[str, typer.Option(help="Lowest firmware version it is for.")] = "0.0.0",
    expires_days: Expires = 0,
    wait: Wait = 120,
    dry_run: DryRun = False,
) -> None:
    """Send a node signed settings, on top of the last ones sent or, with --file, in their place.

    Without options: show the last ones sent.
    """
    from sensorhub.control.keys import SITE_KEY, load_key, load_or_create_key
    from sensorhub.control.orders import CONFIG_TYPE, OrderError, change_settings, open_order, sign_config
    from sensorhub.control.outbox import Outbox
    from sensorhub.control.service import ORDERS
    from sensorhub.wire import public_key_of

    values = context.settings()
    _enrolled(node)
    secret = load_key(key) if key else load_or_create_key(values.data_dir / SITE_KEY)
    last: Mapping[int, Any] = {}
    if found := Outbox(values.data_dir / ORDERS).get(node, "config"):
        try:
            last = open_order(found, public_key_of(secret)).content
        except OrderError as error:
            if not file:
                raise SensorhubError(
                    f"the last settings of {node} cannot be built on: {error}; give all with --file"
                ) from None
    if not (assign or unset or file):
        typer.echo(json.dumps(last.get(3, {}), indent=1))
        return
    before: dict[str, Any] = {}
    if file:
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SensorhubError(f"{file} is not JSON: {error}") from None
        if not isinstance(before, dict):
            raise SensorhubError(f"{file} must hold a JSON object of settings")
    elif last:
        before = dict(last[3])
    settings = change_settings(before, assign or (), unset or ())
    version = max(int(time.time()), last.get(1, 0) + 1)
    order = sign_config(
        secret,
        site=values.gateway.site,
        node=node,
        version=version,
        settings=settings,
        firmware=firmware,
        expires=_expiry(expires_days),
    )
    if dry_run:
        shown = {
            "for": node,
            "version": version,
            "settings": settings,
            "type": CONFIG_TYPE,
            "bytes": len(order),
        }
        typer.echo(json.dumps(shown, indent=1))
        return
    what = f"configuration {version}"
    _send(values, node, "config", order, what, lambda said: said.get("config") == version, wait)


def update(
    node: NodeName,
    manifest: Annotated[Path, typer.Argument(help="The signed manifest, from `sensorhub release sign`.")],
    image: Annotated[
        Path | None, typer.Option(help="The image, to be served by this gateway under /releases/.")
    ] = None,
    fetch: Annotated[
        bool, typer.Option(help="First fetch the image from its URL as the node will, and compare.")
    ] = True,
    wait: Wait = 300,
    dry_run: DryRun = False,
) -> None:
    """Have a node update itself with a signed release."""
    from sensorhub.control import release as releases
    from sensorhub.control.keys import release_key

    values = context.settings()
    _enrolled(node)
    public = release_key(values.data_dir)
    if public is None:
        raise SensorhubError(
            "no release key is known here; tell its public half: sensorhub release trust KEY"
        )
    found = releases.read_manifest(manifest.read_bytes(), public)
    if not found.is_for(values.gateway.site, node):
        raise SensorhubError(f"this manifest is for {found.audience}, not for {node}")
    if found.expires is not None and found.expires < time.time():
        raise SensorhubError("this manifest has expired: sign a new one")
    if dry_run:
        shown = {
            "for": node,
            "audience": found.audience,
            "version": found.version,
            "url": found.url,
            "size": found.size,
            "sha256": found.sha256.hex(),
        }
        typer.echo(json.dumps(shown, indent=1))
        return
    if image:
        releases.keep_image(values.data_dir, found, image.read_bytes())
    if fetch:
        releases.fetch_image(found)
    what = f"version {found.version}"
    _send(values, node, "update", found.raw, what, lambda said: said.get("fw") == found.version, wait)


def site_key(
    as_json: Annotated[
        bool, typer.Option("--json", help="All keys that nodes are given, as in `keys` of node.json.")
    ] = False,
) -> None:
    """Print the public key of the site, which nodes obey and seal pictures to; made on first use."""
    from sensorhub.control.keys import node_keys

    values = context.settings()
    make_data_dir(values.data_dir)
    keys = node_keys(values.data_dir)
    typer.echo(json.dumps(keys) if as_json else keys["site"])


@release.command("keygen")
def release_keygen(path: Annotated[Path, typer.Argument(help="New file for the secret key.")]) -> None:
    """Make a release key. Do this where releases are made, not on a gateway: it can put any program on any node."""
    from sensorhub.control.keys import load_or_create_key
    from sensorhub.wire import public_key_of

    if path.exists():
        raise SensorhubError(f"{path} exists already; a release key is made once and kept")
    typer.echo(public_key_of(load_or_create_key(path)).hex())


@release.command("trust")
def release_trust(
    key: Annotated[
        str, typer.Argument(help="The public key, 128 hexadecimal digits, or a file that holds it.")
    ],
) -> None:
    """Have this gateway give a public release key to new nodes, and take manifests of it."""
    from sensorhub.control.keys import parse_public_key, trust_release_key

    values = context.settings()
    make_data_dir(values.data_dir)
    text = Path(key).read_text(encoding="ascii") if len(key) < 128 else key
    path = trust_release_key(values.data_dir, parse_public_key(text))
    typer.echo(f"kept in {path}; nodes that are out already obey the key they were flashed with")


@release.command("sign")
def release_sign(
    source: Annotated[
        Path,
        typer.Argument(
            help="Directory with the application (sensornode), a .tar of it, or an ESP32 image (.bin)."
        ),
    ],
    key: Annotated[Path, typer.Option(help="The secret release key.")],
    url: Annotated[
        str,
        typer.Option(help="Where nodes fetch the image; one that ends with / gets the file's name added."),
    ],
    version: Annotated[str, typer.Option(help="Version; default is what the application says.")] = "",
    minimum: Annotated[
        str, typer.Option(help="Once it has proved itself, nodes take nothing below this.")
    ] = "0.0.0",
    board: Annotated[str, typer.Option(help="Beginning of the hardware's name; needed for .bin.")] = "",
    site: Annotated[str, typer.Option(help="For one site only.")] = "",
    node: Annotated[str, typer.Option(help="For one node of that site only.")] = "",
    expires_days: Expires = 90,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for image and manifest.")] = Path(),
) -> None:
    """Sign a release: writes the image and its manifest, which `sensorhub nodes update` takes."""
    from sensorhub.control.keys import load_key
    from sensorhub.control.orders import sign_update
    from sensorhub.control.release import read_image, write_new

    image, found = read_image(source)
    version = version or found or ""
    if not version:
        raise SensorhubError(f"{source} does not say its version: give --version")
    if found and found != version:
        raise SensorhubError(f"the application says it is version {found}, not {version}")
    form = "app" if source.suffix == ".bin" else "files"
    name = f"sensornode-{version}{'-' + board.lower().replace(' ', '-') if board else ''}"
    name += ".bin" if form == "app" else ".tar"
    manifest = sign_update(
        load_key(key),
        site=site or None,
        node=node or None,
        sequence=int(time.time()),
        version=version,
        minimum=minimum,
        form=form,
        image=image,
        url=url + name if url.endswith("/") else url,
        board=board or None,
        expires=_expiry(expires_days),
    )
    write_new(out / name, image)
    write_new(out / f"{name}.manifest", manifest)
    typer.echo(f"{out / name}: {len(image)} bytes\n{out / name}.manifest: for version {version}")


@snapshots.command("list")
def snapshots_list(node: Annotated[str, typer.Argument(help="Node name; default is all.")] = "") -> None:
    """List the sealed pictures that are kept."""
    box = _box()
    found = [(name, kept) for name in ([node] if node else box.nodes()) for kept in box.of(name)]
    if not found:
        typer.echo("no picture is kept", err=True)
    for name, kept in found:
        when = datetime.fromtimestamp(kept.received_ms / 1000, UTC).isoformat(timespec="seconds")
        typer.echo(f"{name:24} {when} {kept.digest.hex()[:16]} {kept.path.stat().st_size:7}")


@snapshots.command("open")
def snapshots_open(
    node: NodeName,
    which: Annotated[str, typer.Argument(help="Beginning of its SHA-256; default is the newest.")] = "",
    key: Annotated[
        Path | None,
        typer.Option(help="The site's secret key; default is keys/site.key in the data directory."),
    ] = None,
    out: Out = None,
) -> None:
    """Open a sealed picture, write it as PNG, and say which signed record of the log names it."""
    from sensorhub.control.keys import SITE_KEY, load_key
    from sensorhub.control.snapshots import find_record, open_snapshot

    values = context.settings()
    log_path()
    found = [kept for kept in _box().of(node) if kept.digest.hex().startswith(which.lower())]
    if not found:
        raise SensorhubError(f"no such picture of {node} is kept; see: sensorhub snapshots list")
    kept = found[-1]
    picture = open_snapshot(kept.path.read_bytes(), load_key(key or values.data_dir / SITE_KEY))
    record = find_record(open_log(), values.gateway.site, node, picture.digest)
    path = out or Path(f"{node}-{kept.digest.hex()[:16]}.png")
    with path.open("xb") as file:
        file.write(picture.png())
    typer.echo(f"{path}: {picture.width} x {picture.height}, SHA-256 {picture.digest.hex()}")
    if record is None:
        typer.echo("NOT in the log: no signed record of this node names this picture", err=True)
        raise typer.Exit(1)
    when = "undated" if record.time is None else datetime.fromtimestamp(record.time, UTC).isoformat()
    typer.echo(f"seen by {node}, {when}: signed record in log entry {record.index}")


def _box() -> Any:
    from sensorhub.control.service import SNAPSHOTS
    from sensorhub.control.snapshots import SnapshotBox

    values = context.settings()
    return SnapshotBox(
        values.data_dir / SNAPSHOTS, days=values.snapshots.days, node_bytes=values.snapshots.node_bytes
    )


@home_assistant.command("user")
def home_assistant_user(out: Out = None) -> None:
    """Make Home Assistant's user at the embedded broker, or a new password for it; written to a new file of mode 0600."""
    from sensorhub.ingest.users import HOME, Users

    values = context.settings()
    if values.mqtt.embedded == "off":
        raise SensorhubError(
            "mqtt.embedded is 'off': make the user `home` at your own broker, with the rules of gateway/mosquitto/acl"
        )
    make_data_dir(values.data_dir)
    path = out or Path("home-assistant.json")
    users = Users.of(values.data_dir)
    record = {"host": dial_host(values.mqtt.host), "port": values.mqtt.port, "username": HOME}
    # the file comes first: a password that could not be handed over would have ended the old one for nothing
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(record | {"password": users.add(HOME)}, file, indent=1)
    typer.echo(f"user {HOME} for Home Assistant's MQTT integration written to {path}")
    if not values.home_assistant.enabled:
        typer.echo("home_assistant.enabled is false: nothing is published for it yet", err=True)
    if values.mqtt.host in ("127.0.0.1", "::1", "localhost"):
        typer.echo(f"mqtt.host is {values.mqtt.host}: only this machine reaches the broker", err=True)
    elif listens_everywhere(values.mqtt.host):
        typer.echo(
            f"the host in it, {record['host']}, is right on this machine; from another one take this machine's name "
            "or address",
            err=True,
        )
