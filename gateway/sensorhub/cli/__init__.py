"""The gateway of a sensor network whose data can be believed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sensorhub import __version__, channels, processes
from sensorhub import settings as settings_module
from sensorhub.cli import chain, control, dataset, log, nodes, quality, train
from sensorhub.cli.terminal import context
from sensorhub.errors import SensorhubError
from sensorhub.processes import make_data_dir

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(log.app, name="log")
app.add_typer(log.rebuild, name="rebuild")
app.add_typer(nodes.app, name="nodes")
nodes.app.command("configure")(control.configure)
nodes.app.command("update")(control.update)
app.add_typer(control.release, name="release")
app.add_typer(control.snapshots, name="snapshots")
app.add_typer(control.home_assistant, name="home-assistant")
app.command("site-key")(control.site_key)
app.add_typer(chain.app, name="chain")
app.add_typer(quality.app, name="quality")
app.command()(train.train)
app.command()(dataset.prove)
app.command()(dataset.export)


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
    process: Annotated[str, typer.Argument(help=f"One process: {', '.join(processes.PROCESSES)}.")] = "",
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
    with processes.only_one(values.data_dir, "supervisor"), processes.stop_on_signal() as stop:
        status = StatusFile(values.data_dir, "supervisor")
        supervisor = Supervisor(processes.commands(values, context.config), status.write)
        processes.call_when(stop, supervisor.stop)
        supervisor.run()


@app.command()
def status() -> None:
    """Show how each process is doing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sensorhub.status import SILENT_MS, read_all

    table = Table(box=None, header_style="dim")
    for title in ("process", "age", "cursor", "says"):
        table.add_column(title)
    found = read_all(context.settings().data_dir)
    if not found:
        raise SensorhubError(
            "no process has written a status yet: is the gateway running here? See gateway.data_dir"
        )
    now = time.time()
    for name, record in found.items():
        age = now - record.get("updated_ms", 0) / 1000
        told = "no sign of life: it has stopped, or hangs" if age * 1000 > SILENT_MS else _says(name, record)
        table.add_row(name, f"{age:.0f} s", str(record.get("cursor", "")), escape(told))
    Console().print(table)
    for line in _muted(context.settings().data_dir):
        typer.echo(line)


def _says(name: str, record: Mapping[str, Any]) -> str:
    """What is wrong with a process, and otherwise what it does."""
    troubles = [record["error"]] if record.get("error") else record.get("warnings")
    if troubles:
        return "; ".join(map(str, troubles))
    match name:
        case "supervisor":
            children = record.get("children", {}).items()
            again = [f"{child} {said['restarts']} times" for child, said in children if said["restarts"]]
            return f"started again: {', '.join(again)}" if again else f"{len(children)} processes"
        case "ingest" if "address" in record:
            rates = f"{record['rate_messages']:g} messages/s, {record['rate_readings']:g} readings/s"
            return f"{record['broker']} broker at {record['address']}, {rates}"
        case "store" if "readings" in record:
            return f"{record['readings']:,} readings of {record['nodes']:,} nodes"
        case "quality":
            return _judging(record)
        case "chain" if "posted" in record:
            return f"{record['lag']:,} entries not anchored yet; posts so far: {record['posted']:,}"
        case "web":
            return str(record.get("url", ""))
        case _:
            return ""


def _judging(record: Mapping[str, Any]) -> str:
    """With what the quality process judges."""
    if record.get("model_error"):
        return f"{record['judge']}, without the model: {record['model_error']}"
    model = record.get("model")
    return f"{record['judge']} with model {model[:12]}" if model else str(record.get("judge", ""))


def _muted(data_dir: Path) -> Iterator[str]:
    """The series that people muted, as far as the store has followed the log."""
    from datetime import UTC, datetime

    from sensorhub.log.reader import LogReader
    from sensorhub.quality.reviews import WHAT, mutes, said_in
    from sensorhub.store import SqliteReader, StoreError

    try:
        with (
            contextlib.closing(SqliteReader(data_dir / "store.sqlite")) as store,
            LogReader(data_dir / "log") as reader,
        ):
            found = mutes(said_in(reader, store.artefacts(WHAT)), time.time())
    except StoreError:
        return
    for (node, channel), each in sorted(found.items()):
        until = datetime.fromtimestamp(each.review.until or 0, UTC).strftime("%Y-%m-%d %H:%M")
        yield f"{node} {channel} muted until {until} by {each.review.by}: {each.review.reason}"


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
