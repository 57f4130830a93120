"""`sensorhub prove` and `sensorhub export`: readings with what proves them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sensorhub import processes
from sensorhub.cli.terminal import Out, context, log_path, open_log, progress_bars
from sensorhub.errors import SensorhubError
from sensorhub.times import parse_time


def prove(
    index: Annotated[int, typer.Argument(help="Index of the message's log entry.")],
    tlog: Annotated[
        bool, typer.Option("--tlog", help="Write a C2SP tlog-proof: that it is logged, and no more.")
    ] = False,
    out: Out = None,
) -> None:
    """Write the proof of one message; check it with tools/verify."""
    log_path()
    proof = processes.prove(context.settings().data_dir, index, tlog=tlog)
    if out is None:
        sys.stdout.buffer.write(proof)
    else:
        out.write_bytes(proof)
        typer.echo(f"{len(proof)} bytes written to {out}")


def _second(option: str, text: str) -> int | None:
    """The whole second that was given, which is what a dataset's manifest can say; None for nothing."""
    if not text:
        return None
    seconds = parse_time(text)
    if not seconds.is_integer():
        raise SensorhubError(f"{option} {text} is within a second: give a whole one")
    return int(seconds)


def export(
    directory: Annotated[Path, typer.Argument(help="Directory to make; it must not exist.")],
    node: Annotated[list[str] | None, typer.Option(help="Only this node; may be repeated.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Only this channel; may be repeated.")] = None,
    start: Annotated[
        str, typer.Option(help="Only readings from this time on; ISO 8601 or Unix seconds, whole ones.")
    ] = "",
    end: Annotated[str, typer.Option(help="Only readings before this time.")] = "",
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

    first, stop = _second("--start", start), _second("--end", end)
    if first is not None and stop is not None and first >= stop:
        raise SensorhubError(f"--start {start} is not before --end {end}")
    values = context.settings()
    reader = open_log()
    gateway = f"{values.gateway.site}.{values.gateway.name}"
    about = About(
        title=title or f"Readings of {gateway}",
        description=f"Signed readings logged by the gateway {gateway}, with the evidence to check every row.",
        creator=creator or gateway,
        licence=licence,
        attribution=attribution,
        created_ms=time.time_ns() // 1_000_000,
    )
    selection = Selection(
        nodes=tuple(sorted(node)) if node else None,
        channels=tuple(sorted(channel)) if channel else None,
        start=first,
        stop=stop,
        judged=not unjudged,
    )
    heads = read_heads(values.data_dir / "chain.sqlite", identity(reader))
    with progress_bars() as progress:
        made = export_dataset(
            reader,
            directory,
            selection=selection,
            about=about,
            heads=heads,
            interval_s=values.chain.interval_s,
            progress=progress,
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
