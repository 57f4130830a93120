"""`sensorhub quality`: what readings are worth, why, and what people say of it."""

from __future__ import annotations

import contextlib
import getpass
import json
import math
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sensorhub.channels import BY_NAME
from sensorhub.cli.terminal import context, open_log, progress_bar, progress_bars
from sensorhub.errors import SensorhubError
from sensorhub.times import LATEST, parse_time

app = typer.Typer(no_args_is_help=True, help="What readings are worth, and why.")
review = typer.Typer(
    no_args_is_help=True, help="What a person says of a verdict; each is an entry of the log."
)
app.add_typer(review, name="review")

Node = Annotated[str, typer.Argument(help="Name of the node.")]
Channel = Annotated[str, typer.Argument(help="Name of the channel, such as pm2_5.")]
When = Annotated[
    str, typer.Argument(metavar="TIME", help="ISO 8601 (UTC unless it says otherwise) or Unix seconds.")
]
Reason = Annotated[str, typer.Option(help="Why; public, as all of the log.")]
By = Annotated[str, typer.Option(help="Who says so; your user name unless given.")]
ModelPath = Annotated[
    Path | None, typer.Option("--model", help="A .tflite file instead of the model in use.")
]


def _model(path: Path | None, *, settings: bool = True) -> Any:
    """The model that a command asks: a file, the one of the settings, or the packaged one."""
    from sensorhub.quality.model import Model, ModelFile, shipped

    if path is not None:
        try:
            return Model(path.read_bytes(), str(path))
        except OSError as error:
            raise SensorhubError(f"the model {path} cannot be read: {error.strerror}") from error
    quality = context.settings().quality
    if settings and quality.model:
        return Model.load(ModelFile(Path(quality.model), quality.model_sha256))
    return Model.load(shipped())


def _located(node: str, channel: str, at: float, within: float) -> tuple[int, int] | None:
    """Message and record of the reading nearest to a time, as the store knows it; None without a store."""
    from sensorhub.store import SqliteReader, StoreError

    if channel not in BY_NAME:
        raise SensorhubError(f"{channel!r} is no channel; see: sensorhub channels")
    path = context.settings().data_dir / "store.sqlite"
    with contextlib.suppress(StoreError), contextlib.closing(SqliteReader(path)) as store:
        found = store.locate(node, channel, at)
        if found is not None and abs(found["time"] - at) <= within:
            return found["message"], found["record"]
    return None


@app.command("score")
def quality_score(
    source: Annotated[
        Path, typer.Argument(help="CSV: node_id, sensor, timestamp (Unix s), value, lat, lon.")
    ],
    target: Annotated[Path, typer.Argument(help="CSV to write: a column `score`, a line for each line.")],
    model: ModelPath = None,
    without_model: Annotated[bool, typer.Option("--no-model", help="Neighbours and rules alone.")] = False,
) -> None:
    """Score a table of readings: how likely each is faulty, 0 to 1; 0.5 and more would be an alarm. Rows see what is not later than they are.

    A node without neighbours gets the odds of its own past: in a gateway its verdicts would lie between 0.4 and 0.6.
    """
    from sensorhub.quality.table import score_file

    lines = score_file(source, target, model=None if without_model else _model(model))
    typer.echo(f"{lines:,} lines scored into {target}", err=True)


@app.command("explain")
def quality_explain(
    node: Node,
    channel: Channel,
    when: When,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a picture (SVG) to this file.")
    ] = None,
    model: ModelPath = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Judge again from the log's first entry on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Say why a reading was judged as it was; with --out also as a picture."""
    from sensorhub.quality.explain import DAYS, document, explain, picture

    at, reader = parse_time(when), open_log()
    asked = _model(model)
    with progress_bar("judging again") as progress:
        told = explain(
            reader, node, channel, at, model=asked, days=math.inf if whole else DAYS, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(document(told), indent=1))
    else:
        shown = datetime.fromtimestamp(told.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
        typer.echo(f"log entry {told.message}, record {told.record}, {shown} UTC")
        typer.echo("\n".join(told.words))
    if out is not None:
        out.write_text(picture(told), encoding="utf-8")
        typer.echo(f"picture written to {out}", err=True)


def _say(action: str, node: str, channel: str, at: float, reason: str, by: str, **more: Any) -> None:
    from sensorhub.log.appender import LogClient
    from sensorhub.quality.explain import find
    from sensorhub.quality.reviews import Action, Review
    from sensorhub.quality.reviews import review as append

    if not reason.strip():
        raise SensorhubError("a review without a reason helps nobody: give --reason")
    reader = open_log()
    # a mute is about a series: its newest reading stands for it
    within = math.inf if action == "mute" else 3600.0
    message, record = _located(node, channel, at, within) or find(reader, node, channel, at, within=within)
    client = LogClient(context.settings().data_dir / "run" / "log.sock")
    try:
        said = Review(message, record, Action(action), reason, by or getpass.getuser(), **more)
        index = append(reader, client, said)
    finally:
        client.close()
    typer.echo(f"{action} of log entry {message}, record {record}, written to entry {index}")


@review.command("confirm")
def review_confirm(node: Node, channel: Channel, when: When, reason: Reason = "", by: By = "") -> None:
    """Say that the verdict on a reading is right."""
    _say("confirm", node, channel, parse_time(when), reason, by)


class Truth(StrEnum):
    """What a reading is."""

    sound = "sound"
    faulty = "faulty"


@review.command("correct")
def review_correct(
    node: Node,
    channel: Channel,
    when: When,
    truth: Annotated[Truth, typer.Argument(help="What the reading is.")],
    reason: Reason = "",
    by: By = "",
) -> None:
    """Say that the verdict on a reading is wrong; yours is in force from then on, whatever judges say later."""
    _say("correct", node, channel, parse_time(when), reason, by, sound=truth is Truth.sound)


@review.command("mute")
def review_mute(
    node: Node,
    channel: Channel,
    until: Annotated[str, typer.Argument(help="ISO 8601 or Unix seconds; a time that is over ends a mute.")],
    reason: Reason = "",
    by: By = "",
) -> None:
    """Say that what is wrong with a series is known: no alarm until a time. Readings keep their verdicts."""
    _say("mute", node, channel, LATEST, reason, by, until=int(parse_time(until)))


@app.command("reviews")
def quality_reviews(node: Annotated[str, typer.Option(help="Only this node.")] = "") -> None:
    """List what people said of verdicts, oldest first."""
    from sensorhub.quality.reviews import all_said

    found = [each for each in all_said(open_log()) if node in ("", each.node)]
    if not found:
        typer.echo("nobody has said anything of a verdict", err=True)
    for each in found:
        said = each.review
        what = said.action.value
        if said.sound is not None:
            what += " sound" if said.sound else " faulty"
        if said.until is not None:
            what += f" until {_shown(said.until)}"
        typer.echo(f"{each.entry:8} {_shown(each.ms / 1000)}  {each.node} {each.channel} {_shown(each.time)}")
        typer.echo(f"{'':8} {what}, by {said.by}: {said.reason}")


def _shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


@app.command("days")
def quality_days(
    node: Annotated[str, typer.Option(help="Only this node.")] = "",
    channel: Annotated[str, typer.Option(help="Only this channel.")] = "",
    start: Annotated[str, typer.Option(help="From this day on; ISO 8601 or Unix seconds.")] = "",
    end: Annotated[str, typer.Option(help="Until this day.")] = "",
) -> None:
    """Show how readings were judged, by node and day, with the reasons."""
    from rich.console import Console
    from rich.table import Table

    from sensorhub.store import SqliteReader

    path = context.settings().data_dir / "store.sqlite"
    table = Table(box=None, header_style="dim")
    for title in ("node", "day", "readings", "trusted", "score", "flags"):
        table.add_column(title, justify="right" if title in ("readings", "trusted", "score") else "left")
    with contextlib.closing(SqliteReader(path)) as store:
        first, last = parse_time(start) if start else -math.inf, parse_time(end) if end else math.inf
        for row in store.days(node or None, first, last, channel or None, 100_000):
            share, score = row["trusted_share"], row["mean_score"]
            table.add_row(
                row["node"],
                _shown(row["time"])[:10],
                f"{row['readings']:,}",
                "-" if share is None else f"{share:.1%}",
                "-" if score is None else f"{score:.2f}",
                ", ".join(f"{name} {count:,}" for name, count in row["flags"].items()),
            )
    if not table.row_count:
        typer.echo("no reading was stored for that", err=True)
        return
    Console().print(table)


@app.command("model")
def quality_model(model: ModelPath = None) -> None:
    """Show the model in use: its hash, what it learnt from, how well it does."""
    from importlib.resources import files

    from sensorhub.quality.model import Model

    setting = context.settings().quality.model
    path = model or (Path(setting) if setting else None)
    loaded: Model = _model(model)
    card = (
        path.with_suffix(".json") if path else files("sensorhub.quality").joinpath("models", "anomaly.json")
    )
    typer.echo(f"SHA-256   {loaded.sha256.hex()}")
    try:
        facts = json.loads(card.read_text("utf-8"))
    except (OSError, ValueError):
        typer.echo(f"no card   {card} is missing or no JSON")
        return
    if facts.get("sha256") != loaded.sha256.hex():
        raise SensorhubError(f"the card {card} is that of another model, {facts.get('sha256')}")
    typer.echo(f"judge     {facts['judge']}")
    for source in facts["sources"]:
        where = f"{source['nodes']} nodes, every {source['cadence_s'] / 60:g} min"
        typer.echo(f"source    {source['citation']} ({source['licence'] or 'no licence stated'}); {where}")
    typer.echo("measured  average precision on held-back days, at 2 % prevalence")
    for name, value in facts["held_back"]["int8"].items():
        typer.echo(f"  {name:12} {value:.3f}")


@app.command("bench")
def quality_bench(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="CSV: node_id, sensor, timestamp, value, lat, lon, and if known label (clean, spike, ..). Without it, the packaged sample.",
        ),
    ] = None,
    own: Annotated[
        bool, typer.Option("--log", help="Take the trusted readings of the gateway's own log.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides which faults are put where.")] = 1,
    model: ModelPath = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for precision-recall, ROC and heatmap as SVG.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Measure how well faults are told from the rest, by rules, with neighbours, and with the model; and how fast."""
    from sensorhub.quality import benchmark

    if own and source is not None:
        raise SensorhubError("name a file or --log, not both")
    if own:
        case = benchmark.of_log(open_log(), seed)
    else:
        case = benchmark.sample(seed) if source is None else benchmark.of_file(source, seed)
    asked = _model(model)
    with progress_bars() as progress:
        results = benchmark.compare(case, benchmark.judges(asked), progress=progress)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for name, drawn in benchmark.drawn(results).items():
            (pictures / name).write_text(drawn, encoding="utf-8")
    typer.echo(
        json.dumps(benchmark.document(case, results), indent=1)
        if as_json
        else benchmark.markdown(case, results)
    )
