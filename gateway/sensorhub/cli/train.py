"""`sensorhub train`: a model from tables of clean readings, or for one site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sensorhub.cli.terminal import context, open_log
from sensorhub.errors import SensorhubError

if TYPE_CHECKING:
    from sensorhub.log.reader import LogReader


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
            help="Learn from the gateway's own log too, and take the model only if it does better there.",
        ),
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
    paths = list(source or ())
    console = Console(stderr=True)
    told = dict(zip(paths, zip(_padded(citation, paths), _padded(licence, paths), strict=True), strict=True))
    sources = [Source(path, *told[path]) for path in paths]
    if site:
        from sensorhub.quality.training.promotion import write_site

        out.mkdir(parents=True, exist_ok=True)
        count = write_site(open_log(), out / "site.csv")
        console.print(f"{count:,} trusted readings of the log")
        sources.append(
            Source(out / "site.csv", "trusted readings of this gateway's own log", "not published")
        )
    plan = {"rounds": rounds, "epochs": epochs, "leave_out_epochs": 0 if quick else None}
    with console.status("reading the tables") as status:

        def tell(line: str) -> None:
            console.print(line)
            status.update("training")

        card = learn(
            sources,
            out,
            Plan(
                seed=seed,
                unlearnt=tuple(unlearnt or ()),
                **{name: n for name, n in plan.items() if n is not None},
            ),
            tell=tell,
        )
        model = out / "anomaly.tflite"
        typer.echo(f"{model} and its card anomaly.md; SHA-256 {card['sha256']}")
        if site:
            status.update("comparing it with the model in use")
            _promote(open_log(), model, card["sha256"])


def _padded(words: list[str] | None, paths: list[Path]) -> list[str]:
    given = words or []
    if len(given) > len(paths):
        raise SensorhubError(f"{given[len(paths)]!r} belongs to no source: there are {len(paths)}")
    return [*given, *[""] * (len(paths) - len(given))]


def _promote(reader: LogReader, model: Path, sha256: str) -> None:
    """Puts a model into the data directory when it beats the one in use on held-back days of the site."""
    from sensorhub.log.appender import AppendError, LogClient
    from sensorhub.quality.model import ModelFile, shipped
    from sensorhub.quality.training.promotion import promote, record

    values = context.settings()
    quality = values.quality
    old = ModelFile(Path(quality.model), quality.model_sha256) if quality.model else shipped()
    found = promote(reader, ModelFile(model, sha256), old, values.data_dir / "models")
    typer.echo(f"{'fault':12} {'in use':>8} {'new':>8}   average precision on held-back days of this site")
    for name, before in found.gate.old.items():
        typer.echo(f"{name:12} {before:8.3f} {found.gate.new[name]:8.3f}")
    if found.labels:
        before, after = found.agreed
        typer.echo(
            f"of {found.labels} readings that people judged it agrees on {after}, the one in use on {before}"
        )
    if found.kept is None:
        typer.echo("the new model is not better here; the one in use stays")
        raise typer.Exit(1)
    client = LogClient(values.data_dir / "run" / "log.sock")
    try:
        typer.echo(f"recorded in log entry {record(found, client.append)}")
    except AppendError as error:
        typer.echo(f"not recorded in the log: {error}", err=True)
    finally:
        client.close()
    typer.echo("the new model is better here. To put it to use, set and restart the gateway:\n")
    typer.echo(
        f'[quality]\njudge = "model"\nmodel = {json.dumps(str(found.kept))}\nmodel_sha256 = "{sha256}"'
    )
