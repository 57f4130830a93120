"""The `sensorhub` command. It parses, calls a room and prints; it holds no logic of its own."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sensorhub import __version__, channels, processes
from sensorhub import settings as settings_module
from sensorhub.errors import SensorhubError
from sensorhub.processes import make_data_dir
from sensorhub.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
log_app = typer.Typer(no_args_is_help=True, help="The transparency log.")
nodes_app = typer.Typer(no_args_is_help=True, help="Nodes: who may send, and with which key.")
rebuild_app = typer.Typer(no_args_is_help=True, help="Projections, made anew from the log.")
chain_app = typer.Typer(no_args_is_help=True, help="The anchoring contract.")
app.add_typer(log_app, name="log")
app.add_typer(nodes_app, name="nodes")
app.add_typer(rebuild_app, name="rebuild")
app.add_typer(chain_app, name="chain")

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of the terminal.")]


class NodeKind(StrEnum):
    """The kinds of node there are."""

    weather = "weather"
    air = "air"
    camera = "camera"
    bench = "bench"


class _Context:
    """What the options before the command said."""

    config: Path | None = None

    def settings(self) -> Settings:
        return settings_module.load(self.config, os.environ)


context = _Context()


@app.callback()
def _options(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file; default is sensorhub.toml here.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more in the log output.")] = False,
) -> None:
    context.config = config
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("web3", "urllib3", "asyncio", "eth", "amqtt", "transitions"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        out.write_text(text, encoding="utf-8")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for callbacks of the form (done, in all)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int], None]]:
    """The same for callbacks of the form (what, done, in all), a bar for each `what`."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what)
            progress.update(tasks[what], completed=done, total=total)

        yield show


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command("settings")
def settings_command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the reference instead of the values.")
    ] = False,
) -> None:
    """Print every setting with its value; secrets are not among them."""
    if markdown:
        typer.echo(settings_module.document(), nl=False)
        return
    values = context.settings()
    for field in settings_module.fields():
        section, name = field.key.split(".")
        value = getattr(getattr(values, section), name)
        if field.key in settings_module.MAY_HOLD_SECRETS and value:
            value = settings_module.without_secrets(value)
        typer.echo(f"{field.key} = {json.dumps(value)}")


@app.command("channels")
def channels_command(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference as Markdown.")] = False,
) -> None:
    """Print the channel table."""
    if markdown:
        typer.echo(channels.document(), nl=False)
        return
    for channel in channels.CHANNELS:
        typer.echo(f"{channel.name:16} {channel.unit:6} {channel.title}")


@app.command()
def run(
    process: Annotated[str, typer.Argument(help="One process: ingest, quality, store, chain or web.")] = "",
) -> None:
    """Run the gateway until Ctrl-C: all processes under a supervisor, or one of them."""
    values = context.settings()
    if process:
        if process not in processes.PROCESSES:
            raise SensorhubError(
                f"there is no process {process!r}; there are {', '.join(processes.PROCESSES)}"
            )
        processes.run(process, values, os.environ)
        return
    from sensorhub.status import StatusFile
    from sensorhub.supervisor import Supervisor

    make_data_dir(values.data_dir)
    status = StatusFile(values.data_dir, "supervisor")
    supervisor = Supervisor(processes.commands(values, context.config), status.write)
    with processes.stop_on_signal() as stop:
        processes.call_when(stop, supervisor.stop)
        supervisor.run()


@app.command()
def status() -> None:
    """Show how each process is doing."""
    from rich.console import Console
    from rich.table import Table

    from sensorhub.status import read_all

    table = Table(box=None, header_style="dim")
    for title in ("process", "age", "cursor", "says"):
        table.add_column(title)
    found = read_all(context.settings().data_dir)
    if not found:
        raise SensorhubError(
            "no process has written a status yet: is the gateway running here? See gateway.data_dir"
        )
    for name, record in found.items():
        age = time.time() - record.get("updated_ms", 0) / 1000
        told = record.get("error") or "; ".join(record.get("warnings", ())) or record.get("url", "")
        table.add_row(name, f"{age:.0f} s", str(record.get("cursor", "")), str(told))
    Console().print(table)


@app.command()
def devnet(
    port: Annotated[int, typer.Option(help="TCP port; 0 chooses a free one.")] = 8545,
    fund: Annotated[list[str] | None, typer.Option(help="Address that gets money; may be repeated.")] = None,
) -> None:
    """Run a development chain in memory, with the contract deployed."""
    from sensorhub.chain.devnet import main as devnet_main

    sys.argv = [
        "devnet",
        "--port",
        str(port),
        *(word for address in fund or () for word in ("--fund", address)),
    ]
    raise typer.Exit(devnet_main())


# -- the log


def _log_path() -> Path:
    path = context.settings().data_dir / "log"
    if not (path / "head").exists():
        raise SensorhubError(f"there is no log at {path}: start the gateway first, or set gateway.data_dir")
    return path


def _reader() -> Any:
    from sensorhub.log.reader import LogReader

    return LogReader(_log_path())


@log_app.command("head")
def log_head() -> None:
    """Print size, root and the last signed checkpoint."""
    reader = _reader()
    typer.echo(f"size {reader.size()}\nroot {reader.root().hex()}")
    note = reader.checkpoint()
    if note:
        typer.echo("\n" + note.decode(), nl=False)


@log_app.command("show")
def log_show(index: Annotated[int, typer.Argument(help="Index of the entry.")]) -> None:
    """Print one entry in words."""
    from sensorhub.log.entries import MessageEntry, decode_entry
    from sensorhub.wire import parse_pack, parse_signed

    entry = decode_entry(_reader().entry(index))
    if not isinstance(entry, MessageEntry):
        typer.echo(type(entry).__name__)
        for field in dataclasses.fields(entry):
            value = getattr(entry, field.name)
            typer.echo(f"  {field.name} = {value.hex() if isinstance(value, bytes) else value}")
    else:
        received = datetime.fromtimestamp(entry.received_ms / 1000, UTC).isoformat(timespec="milliseconds")
        typer.echo(f"message of {len(entry.message)} bytes, received {received}")
        signed = parse_signed(entry.message)
        pack = parse_pack(signed.payload, tq=signed.tq)
        typer.echo(
            f"node {pack.node} at {pack.site}, boot {signed.boot}, seq {signed.seq}, key {signed.kid.hex()}"
        )
        for name, offset, value in zip(pack.names, pack.times, pack.values, strict=True):
            when = (
                "undated"
                if pack.base_time is None
                else datetime.fromtimestamp(pack.base_time + offset, UTC).isoformat()
            )
            shown = value.hex() if isinstance(value, bytes) else f"{value:g} {channels.BY_NAME[name].unit}"
            typer.echo(f"  {when}  {name} = {shown}")


@log_app.command("fsck")
def log_fsck() -> None:
    """Read the whole log again and name everything that is damaged; exit 1 if anything is."""
    from sensorhub.log.fsck import fsck

    path = _log_path()
    with _progress("checking") as progress:
        report = fsck(path, progress)
    root = "unknown, because of the damage" if report.root is None else report.root.hex()
    typer.echo(f"{report.path}: {report.size:,} entries, {report.tiles:,} tiles compared\nroot {root}")
    for note in report.notes:
        typer.echo(f"note: {note}")
    for damage in report.damages:
        typer.echo(f"DAMAGED {damage}")
    typer.echo(
        "the log is whole"
        if report.ok
        else f"{len(report.damages)} places are damaged: restore them from a backup"
    )
    raise typer.Exit(0 if report.ok else 1)


# -- projections


@rebuild_app.command("store")
def rebuild_store() -> None:
    """Make the SQLite store anew from the log. Stop the store process first."""
    from sensorhub.store import rebuild

    values = context.settings()
    reader = _reader()
    began = time.monotonic()
    with _progress("rebuilding the store") as progress:
        count = rebuild(
            reader,
            values.data_dir / "store.sqlite",
            progress,
            raw_days=values.store.raw_days,
            five_minute_days=values.store.five_minute_days,
            hourly_days=values.store.hourly_days,
        )
    typer.echo(f"{count} entries read in {time.monotonic() - began:.1f} s")


# -- nodes


@nodes_app.command("list")
def nodes_list() -> None:
    """List the enrolled nodes with their key ids."""
    from sensorhub.nodes.registry import Registry

    for node in Registry.replay(_reader()).nodes():
        typer.echo(f"{node.name:24} {node.current.hex() if node.current else 'revoked':16}")


def _address(text: str) -> bytes | None:
    if not text:
        return None
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise SensorhubError(
            f"owner {text!r} is not an account address: 0x and 40 hex digits for 20 bytes"
        ) from None


@nodes_app.command("add")
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
    from sensorhub.ingest.users import Users
    from sensorhub.nodes.claims import Claims

    values = context.settings()
    make_data_dir(values.data_dir)
    embedded = values.mqtt.embedded != "off"
    users = Users.of(values.data_dir)
    if embedded and name in users.names() and not replace:
        raise SensorhubError(
            f"node {name!r} has an MQTT password already; --replace makes a new one, the old one ends"
        )
    owner_bytes = _address(owner)
    path = out or Path(f"{name}.claim.json")
    # the file comes first: a claim or password that could not be handed over would be lost
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        claim = Claims(values.data_dir / "claims.json").add(
            name, kind.value, owner=owner_bytes, geohash=place
        )
        record = {"site": values.gateway.site, "node": name, "kind": kind.value, "claim": claim.hex()}
        if embedded:
            record |= {"mqtt_user": name, "mqtt_password": users.add(name)}
    except BaseException:
        os.close(descriptor)
        path.unlink()
        raise
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1)
    typer.echo(f"claim for {name} written to {path}; it works once")


@nodes_app.command("revoke")
def nodes_revoke(name: Annotated[str, typer.Argument(help="Node name.")]) -> None:
    """Revoke a node's key: from now on its messages are refused. What is logged stays."""
    from sensorhub.log.appender import LogClient
    from sensorhub.log.entries import NodeEntry, NodeEvent, encode_entry
    from sensorhub.nodes.registry import Registry

    values = context.settings()
    key = Registry.replay(_reader()).current(name)
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


# -- proofs and datasets


@app.command()
def prove(
    index: Annotated[int, typer.Argument(help="Index of the message's log entry.")],
    tlog: Annotated[
        bool, typer.Option("--tlog", help="Write a C2SP tlog-proof: that it is logged, and no more.")
    ] = False,
    out: Out = None,
) -> None:
    """Write the proof of one message; check it with tools/verify."""
    _log_path()
    proof = processes.prove(context.settings().data_dir, index, tlog=tlog)
    if out is None:
        sys.stdout.buffer.write(proof)
    else:
        out.write_bytes(proof)
        typer.echo(f"{len(proof)} bytes written to {out}")


@app.command()
def export(
    directory: Annotated[Path, typer.Argument(help="Directory to make; it must not exist.")],
    node: Annotated[list[str] | None, typer.Option(help="Only this node; may be repeated.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Only this channel; may be repeated.")] = None,
    start: Annotated[int | None, typer.Option(help="Only readings from this time on, Unix seconds.")] = None,
    end: Annotated[int | None, typer.Option(help="Only readings before this time, Unix seconds.")] = None,
    unjudged: Annotated[bool, typer.Option(help="Take readings without a verdict as well.")] = False,
    title: Annotated[str, typer.Option(help="Title of the dataset.")] = "",
    creator: Annotated[str, typer.Option(help="Who publishes it.")] = "",
    licence: Annotated[
        str, typer.Option(help="Licence, an SPDX identifier; without one, nobody may use it.")
    ] = "NOASSERTION",
    attribution: Annotated[str, typer.Option(help="Sentence that has to be given with the data.")] = "",
    record: Annotated[
        bool, typer.Option(help="Append the dataset's hash to the log; the gateway must be running.")
    ] = False,
) -> None:
    """Write readings as a dataset: Parquet, with the evidence that proves each row."""
    from sensorhub.dataset.export import export as export_dataset
    from sensorhub.dataset.heads import identity, read_heads
    from sensorhub.verify.manifest import About
    from sensorhub.verify.rows import Selection

    values = context.settings()
    reader = _reader()
    gateway = f"{values.gateway.site}.{values.gateway.name}"
    about = About(
        title=title or f"Readings of {gateway}",
        description=f"Signed readings logged by the gateway {gateway}, with the evidence to check every row.",
        creator=creator or gateway,
        licence=licence,
        attribution=attribution,
        created_ms=time.time_ns() // 1_000_000,
    )
    if start is not None and end is not None and start >= end:
        raise SensorhubError(f"--start {start} is not before --end {end}")
    selection = Selection(
        nodes=tuple(sorted(node)) if node else None,
        channels=tuple(sorted(channel)) if channel else None,
        start=start,
        stop=end,
        judged=not unjudged,
    )
    heads = read_heads(values.data_dir / "chain.sqlite", identity(reader))
    with _stages() as progress:
        made = export_dataset(
            reader, directory, selection=selection, about=about, heads=heads, progress=progress
        )
    counts = made.manifest.counts
    typer.echo(
        f"{counts.rows:,} rows of {counts.nodes} nodes from {counts.messages:,} messages written to {directory}"
    )
    typer.echo(f"SHA-256 of the manifest: {made.sha256.hex()}")
    if record:
        from sensorhub.log.appender import LogClient

        client = LogClient(values.data_dir / "run" / "log.sock")
        typer.echo(f"recorded in log entry {made.enter(client.append)}")
        client.close()


# -- the chain


@chain_app.command("deploy")
def chain_deploy(
    max_fee_gwei: Annotated[float, typer.Option(help="Never pay more than this per gas, in gwei.")] = 100.0,
) -> None:
    """Deploy the GatewayLog contract with the gateway's key; prints what to set."""
    from sensorhub.chain.contract import GatewayLogContract, connect
    from sensorhub.chain.digest import address
    from sensorhub.chain.key import load_or_create

    values = context.settings()
    if not values.chain.rpc_url:
        raise SensorhubError("chain.rpc_url is not set: which chain should the contract be deployed on?")
    key = load_or_create(processes.chain_key_path(values))
    web3 = connect(values.chain.rpc_url)
    typer.echo(f"deploying from 0x{address(key.public_key).hex()}", err=True)
    contract = GatewayLogContract.deploy(web3, key, max_fee_gwei=max_fee_gwei)
    typer.echo(f'[chain]\ncontract = "0x{contract.address.hex()}"\nchain_id = {contract.chain_id()}')


def _asked(number: int) -> None:
    typer.echo(f"request {number} waits for the chain process; see: sensorhub chain requests")


@chain_app.command("flag")
def chain_flag(
    start: Annotated[int, typer.Argument(help="First log entry.")],
    stop: Annotated[
        int | None, typer.Argument(help="Entry after the last; without it, all that follow.")
    ] = None,
    reason: Annotated[str, typer.Option(help="What is wrong with them; public for ever.")] = "",
) -> None:
    """Flag log entries in the contract, for ever. Nothing is deleted; verifiers report the flag."""
    from sensorhub.chain.requests import FOR_EVER, ask_flag

    if not reason:
        raise SensorhubError("a flag without a reason helps nobody: give --reason")
    _asked(
        ask_flag(
            context.settings().data_dir / "chain.sqlite", start, FOR_EVER if stop is None else stop, reason
        )
    )


@chain_app.command("close")
def chain_close(
    yes: Annotated[bool, typer.Option("--yes", help="Really: no checkpoint can ever follow.")] = False,
) -> None:
    """Close the log in the contract, for ever."""
    from sensorhub.chain.requests import ask_close

    if not yes:
        raise SensorhubError(
            "closing cannot be undone: no checkpoint of this log can follow; add --yes to do it"
        )
    _asked(ask_close(context.settings().data_dir / "chain.sqlite"))


@chain_app.command("rotate")
def chain_rotate(
    key_file: Annotated[Path, typer.Argument(help="File with the new private key; made when missing.")],
) -> None:
    """Hand the log to a new key in the contract; then set chain.key_file to it and restart the chain process."""
    from sensorhub.chain import digest
    from sensorhub.chain.contract import GatewayLogContract, connect
    from sensorhub.chain.key import load_or_create
    from sensorhub.chain.requests import ask_rotate
    from sensorhub.log.merkle import leaf_hash

    values = context.settings()
    reader = _reader()
    if not (values.chain.rpc_url and values.chain.contract):
        raise SensorhubError("chain.rpc_url and chain.contract are not set: there is nothing to rotate")
    contract = GatewayLogContract(connect(values.chain.rpc_url), bytes.fromhex(values.chain.contract[2:]))
    key = load_or_create(key_file)
    address, log_id = digest.address(key.public_key), leaf_hash(reader.entry(0))
    hashed = digest.rotate_hash(log_id, contract.head(log_id).nonce, address)
    proof = digest.sign(digest.typed_digest(hashed, contract.chain_id(), contract.address), key)
    _asked(ask_rotate(values.data_dir / "chain.sqlite", address, proof))


@chain_app.command("requests")
def chain_requests() -> None:
    """List what the chain process was asked to do, and how far it is."""
    from sensorhub.chain.requests import read_requests

    for request in read_requests(context.settings().data_dir / "chain.sqlite"):
        typer.echo(f"{request.id:4} {request.kind:7} {request.state:8} {request.error or ''}")


@chain_app.command("address")
def chain_address() -> None:
    """Print the gateway's account address; it needs money to post."""
    from sensorhub.chain.digest import address
    from sensorhub.chain.key import load_or_create

    typer.echo("0x" + address(load_or_create(processes.chain_key_path(context.settings())).public_key).hex())


def main() -> None:
    """Entry point: errors that a person can act on become one line and exit code 1."""
    try:
        app(standalone_mode=True)
    except SensorhubError as error:
        typer.echo(f"sensorhub: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"sensorhub: {where}{error.strerror or error}", err=True)
        sys.exit(1)
