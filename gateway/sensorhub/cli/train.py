"""`sensorhub train`: a model from tables of clean readings, or for one site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorhub.cli.terminal import context, open_log
from sensorhub.errors import SensorhubError

if TYPE_CHECKING:
    from rich.console import Console

    from sensorhub.log.reader import LogReader
    from sensorhub.quality.training.train import Plan, Source


def train(
    source: Annotated[
        list[Path] | None,
        typer.Argument(
            help="CSV of clean readings: node_id, sensor, timestamp, value, lat, lon; may be .gz."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model and its card.")] = Path("model"),
    seed: Annotated[int, typer.Option(help="Decides everything that is drawn.")] = 1,
    citation: Annotated[
        list[str] | None, typer.Option(help="Who made a source, for the card; one for each, in order.")
    ] = None,
    licence: Annotated[
        list[str] | None, typer.Option(help="Under which terms; one for each source, in order.")
    ] = None,
    unlearnt: Annotated[
        list[str] | None,
        typer.Option(
            help="A node to learn nothing from: it sets the threshold of alarms and the card's numbers. Repeat for more."
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="How often each network is varied and broken.", min=1)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often every example is seen.", min=1)] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Without the table of faults left out of training.")
    ] = False,
    site: Annotated[
        bool,
        typer.Option(
            "--site",
            help="Go on from the model in use with the gateway's own log, and take the new one only if it does better there.",
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --site: begin anew, not from the model in use.")
    ] = False,
) -> None:
    """Train a model; needs the extra `train`. Writes the .tflite file and its card; `quality.model` puts it to use."""
    from rich.console import Console

    from sensorhub.quality.training import network

    network.tensorflow()  # before anything long begins
    from sensorhub.quality.training.train import Plan, Source
    from sensorhub.quality.training.train import train as learn

    if not source and not site:
        raise SensorhubError("name tables of clean readings to learn from, or --site to learn from the log")
    if site and unlearnt:
        raise SensorhubError(
            "--unlearnt is for tables alone: with --site the last days of the log are held back"
        )
    if fresh and not site:
        raise SensorhubError("--fresh goes with --site: from tables alone every model begins anew")
    paths = list(source or ())
    told = dict(zip(paths, zip(_padded(citation, paths), _padded(licence, paths), strict=True), strict=True))
    sources = [Source(path, *told[path]) for path in paths]
    if site and epochs is None and not fresh:
        from sensorhub.quality.training.promotion import EPOCHS

        epochs = EPOCHS
    chosen = {"rounds": rounds, "epochs": epochs, "leave_out_epochs": 0 if quick else None}
    plan = Plan(
        seed=seed,
        unlearnt=tuple(unlearnt or ()),
        **{name: n for name, n in chosen.items() if n is not None},
    )
    console = Console(stderr=True)
    if site:
        _for_site(open_log(), sources, out, plan, fresh, console)
        return
    with console.status("reading the tables") as status:

        def tell(line: str) -> None:
            console.print(line)
            status.update("training")

        card = learn(sources, out, plan, tell=tell)
    typer.echo(f"{out / 'anomaly.tflite'} and its card anomaly.md; SHA-256 {card['sha256']}")


def _padded(words: list[str] | None, paths: list[Path]) -> list[str]:
    given = words or []
    if len(given) > len(paths):
        raise SensorhubError(f"{given[len(paths)]!r} belongs to no source: there are {len(paths)}")
    return [*given, *[""] * (len(paths) - len(given))]


def _for_site(
    reader: LogReader, tables: list[Source], out: Path, plan: Plan, fresh: bool, console: Console
) -> None:
    """Learns from the log, and puts the model into the data directory when it passes the gate."""
    from sensorhub.log.appender import AppendError, LogClient
    from sensorhub.quality.model import ModelFile, shipped
    from sensorhub.quality.training.promotion import record, train_site

    values = context.settings()
    quality = values.quality
    old = ModelFile(Path(quality.model), quality.model_sha256) if quality.model else shipped()
    with console.status("loading the model in use") as status:
        found = train_site(
            reader,
            old,
            out,
            values.data_dir / "models",
            plan,
            tables=tables,
            fresh=fresh,
            tell=lambda line: console.print(line, highlight=False, soft_wrap=True),
            progress=lambda what, done, whole: status.update(f"{what}: {done / max(whole, 1):.0%}"),
        )
    typer.echo(f"{out / 'anomaly.tflite'} and its card anomaly.md; SHA-256 {found.sha256}\n")
    typer.echo(f"{'on held-back days of this site':32} {'in use':>8} {'new':>8}")
    for m in found.gate.measures:
        typer.echo(
            f"{m.name:32} {m.old:8.3f} {m.new:8.3f}  {'' if m.outcome == 'same' else m.outcome}".rstrip()
        )
    typer.echo()
    if found.kept is None:
        typer.echo(f"refused, the model in use stays: {found.gate.why}")
        raise typer.Exit(1)
    typer.echo(f"promoted: {found.gate.why}")
    client = LogClient(values.data_dir / "run" / "log.sock")
    try:
        typer.echo(f"recorded in log entry {record(found, client.append)}")
    except AppendError as error:
        typer.echo(f"not recorded in the log: {error}", err=True)
    finally:
        client.close()
    typer.echo("to put it to use, set and restart the gateway:\n")
    typer.echo(
        f'[quality]\njudge = "model"\nmodel = {json.dumps(str(found.kept))}\nmodel_sha256 = "{found.sha256}"'
    )
