"""`sensorhub log` and `sensorhub rebuild`: the transparency log and what is made from it."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sensorhub import channels
from sensorhub.cli.terminal import context, log_path, open_log, progress_bar

if TYPE_CHECKING:
    from sensorhub.log.entries import ArtefactEntry, Genesis, NodeEntry, VerdictEntry

_TITLES: Final = {
    "Genesis": "genesis: whose log this is",
    "NodeEntry": "what happened to a node",
    "VerdictEntry": "verdict on readings",
    "ArtefactEntry": "fingerprint of something outside of the log",
}
#: Bytes of the longest field that is shown whole: a public key. What is longer is evidence.
_MOST_HEX: Final = 64

app = typer.Typer(no_args_is_help=True, help="The transparency log.")
rebuild = typer.Typer(no_args_is_help=True, help="Projections, made anew from the log.")


@app.command("head")
def log_head() -> None:
    """Print size, root and the last signed checkpoint."""
    reader = open_log()
    typer.echo(f"size {reader.size()}\nroot {reader.root().hex()}")
    note = reader.checkpoint()
    if note:
        typer.echo("\n" + note.decode(), nl=False)


@app.command("show")
def log_show(index: Annotated[int, typer.Argument(help="Index of the entry.")]) -> None:
    """Print one entry in words."""
    from sensorhub.log.entries import MessageEntry, decode_entry
    from sensorhub.wire import parse_pack, parse_signed

    entry = decode_entry(open_log().entry(index))
    if not isinstance(entry, MessageEntry):
        _show_fields(entry)
    else:
        typer.echo(f"message of {len(entry.message)} bytes, received {_time(entry.received_ms)}")
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
            shown = (
                value.hex() if isinstance(value, bytes) else channels.written(value, channels.BY_NAME[name])
            )
            typer.echo(f"  {when}  {name} = {shown}")


def _show_fields(entry: Genesis | NodeEntry | VerdictEntry | ArtefactEntry) -> None:
    """An entry that is no message, with a line for each field that says something."""
    from sensorhub.flags import FULL_SCORE, flag_names

    typer.echo(_TITLES[type(entry).__name__])
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if field.name == "verdicts":
            for message, pairs in value:
                typer.echo(f"  message {message}, score and flags of each record:")
                for score, flags in pairs:
                    typer.echo(f"    {score / FULL_SCORE:.2f}  {', '.join(flag_names(flags))}".rstrip())
        elif field.name == "ms":
            typer.echo(f"  time = {_time(value)}")
        elif isinstance(value, bytes) and len(value) > _MOST_HEX:
            typer.echo(f"  {field.name} = {value[:16].hex()}… ({len(value)} bytes)")
        elif value not in (None, "", b""):
            typer.echo(f"  {field.name} = {value.hex() if isinstance(value, bytes) else value}")


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


@app.command("fsck")
def log_fsck() -> None:
    """Read the whole log again and name everything that is damaged; exit 1 if anything is."""
    from sensorhub.log.fsck import fsck

    path = log_path()
    with progress_bar("checking") as progress:
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


@rebuild.command("store")
def rebuild_store() -> None:
    """Make the SQLite store anew from the log. Stop the store process first."""
    from sensorhub.store import rebuild as rebuild_from

    values = context.settings()
    reader = open_log()
    began = time.monotonic()
    with progress_bar("rebuilding the store") as progress:
        count = rebuild_from(
            reader,
            values.data_dir / "store.sqlite",
            progress,
            raw_days=values.store.raw_days,
            five_minute_days=values.store.five_minute_days,
            hourly_days=values.store.hourly_days,
        )
    typer.echo(f"{count} entries read in {time.monotonic() - began:.1f} s")
