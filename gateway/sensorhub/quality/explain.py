"""Why a reading was judged as it was: the evidence in words, in numbers, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, Final, NamedTuple

import cbor2
import numpy as np
from numpy.typing import NDArray

from sensorhub.channels import BY_NAME, unit_written
from sensorhub.errors import SensorhubError
from sensorhub.flags import FULL_SCORE, flag_names
from sensorhub.log.entries import MESSAGE, NODE, REVIEW, VERDICT, NodeEntry, decode_entry, kind_of, outranks
from sensorhub.log.reader import LogReader
from sensorhub.nodes import geohash
from sensorhub.nodes.registry import NODE_ENTRY_PREFIX, Registry
from sensorhub.quality.camera import LIT, Look, of_camera
from sensorhub.quality.columns import Columns, columns_of, read_messages
from sensorhub.quality.evidence import Neighbour
from sensorhub.quality.judge import Findings, Judge
from sensorhub.quality.model import CLASSES, Model

#: Readings before the explained one that the picture shows at most, and their span in seconds.
HISTORY: Final = 600
SPAN: Final = 48 * 3600.0
#: Size of a residual from which on it is unusual, in usual deviations.
UNUSUAL: Final = 2.0
#: Dew points closer than this are those of the same air, in °C.
SAME_VAPOUR: Final = 1.5
#: Days before a reading from which on the log is judged anew: biases and scales are learnt over ten.
DAYS: Final = 20.0
_BATCH: Final = 2048
_SEARCH: Final = 8192


class Logged(NamedTuple):
    """The verdict in the log that is in force on a reading."""

    entry: int
    """Log index of the verdict entry."""
    score: int
    """0 to 255."""
    flags: int
    """Bits of `Flag`."""
    judge: str
    """The rules version that the entry names; `review/1` is a person."""


class Moment(NamedTuple):
    """One reading of the series before the explained one, with what the neighbours let expect."""

    time: float
    value: float
    expected: float | None
    residual: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The evidence on one reading.

    Attributes:
        node: name of the node.
        channel: name of the channel.
        time: Unix seconds.
        value: in the channel's unit.
        message: log index of its message.
        record: its place in the message.
        score: 0 to 1, as judged anew now.
        flags: names of the flags.
        logged: the verdict of the log; None without.
        expected: what the neighbours let expect, or None.
        residual: distance from that in usual deviations, or None.
        support: how many good neighbours that rests on.
        moving: how far what they let expect moved in the last two hours, in deviations that matter.
        vapour: how far the dew point of the node's temperature and humidity is from what the neighbours let expect, in °C; None
            where that is not known.
        chances: probability of each class of the model; empty when no model took part.
        neighbours: what each of them let expect.
        look: the camera's look at that moment, for a channel of a camera.
        haze: how hazy a camera nearby sees it, for a particle channel; 0 to 1.
        history: the readings before, oldest first, and the reading itself.
        words: sentences that say all of this.
    """

    node: str
    channel: str
    time: float
    value: float
    message: int
    record: int
    score: float
    flags: tuple[str, ...]
    logged: Logged | None
    expected: float | None
    residual: float | None
    support: float
    moving: float
    vapour: float | None
    chances: dict[str, float]
    neighbours: tuple[Neighbour, ...]
    look: Look | None
    haze: float
    history: tuple[Moment, ...]
    words: tuple[str, ...]


def explain(
    reader: LogReader,
    node: str,
    channel: str,
    time: float,
    *,
    model: Model | None,
    message: int | None = None,
    verdict: int | None = None,
    days: float = DAYS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Explanation:
    """The evidence on the reading of a node and channel that is nearest to a time.

    The log is judged again up to that reading, so this takes as long as that does. Beginning some days before is
    enough for the evidence, but not for the last digit: the verdict of the log is that of a judge that saw everything.

    Args:
        reader: the log.
        node: name of the node.
        channel: name of the channel.
        time: Unix seconds.
        model: the model to ask; None asks none.
        message: log index of its message, where that is known; else the log is searched.
        verdict: with `message`, log index of the verdict in force on it; None: there is none.
        days: how many days before the reading judging begins; infinite for the whole log.
        progress: is told how many entries of how many are judged.

    Raises:
        SensorhubError: the log has no dated number of that node and channel within an hour of that time.
    """
    if message is None:
        message, _ = find(reader, node, channel, time)
        verdict = _verdict_on(reader, message)
    elif not 0 <= message < reader.size():
        raise _absent(node, channel)
    start = _begin(reader, message, time - 86_400.0 * days)
    judge, registry = Judge(model), Registry()
    for index, entry in reader.entries(0, start):
        if entry.startswith(NODE_ENTRY_PREFIX):
            _place(judge, registry, index, entry)
    history: list[Moment] = []
    run: list[tuple[int, bytes]] = []
    for index, entry in reader.entries(start, message):
        if kind_of(entry) == NODE:
            _judged(judge, run, node, channel, history)
            run = []
            _place(judge, registry, index, entry)
        elif kind_of(entry) == MESSAGE:
            run.append((index, entry))
        if len(run) >= _BATCH:
            _judged(judge, run, node, channel, history)
            run = []
            progress(index - start, message - start)
    _judged(judge, run, node, channel, history)
    last = _judged(judge, [(message, reader.entry(message))], node, channel, history)
    if last is None or (node, channel) not in judge.rules.numbers.pairs:
        raise _absent(node, channel)
    found, columns = last
    number = judge.rules.numbers.pairs.index((node, channel))
    rows = np.flatnonzero((columns.series == number) & np.isfinite(columns.value) & np.isfinite(columns.time))
    if not rows.size:
        raise _absent(node, channel)
    row = int(rows[np.argmin(np.abs(columns.time[rows] - time))])
    logged = None if verdict is None else _logged(verdict, reader.entry(verdict), message, row)
    return _told(judge, found, columns, row, message, logged, history)


def _absent(node: str, channel: str) -> SensorhubError:
    return SensorhubError(
        f"the log has no {channel} of node {node!r} within an hour of that time; "
        "name a node, channel and time (Unix seconds or ISO 8601) that it has"
    )


def _place(judge: Judge, registry: Registry, index: int, entry: bytes) -> None:
    decoded = decode_entry(entry)
    if isinstance(decoded, NodeEntry) and registry.apply(index, decoded):
        key = registry.current(decoded.node)
        if key is not None and geohash.is_valid(key.geohash):
            judge.place(decoded.node, *geohash.decode(key.geohash))


def _begin(reader: LogReader, message: int, time: float) -> int:
    """Log index from which on the log is judged: messages before it are older than `time`, late ones apart."""
    start = message
    while start > 0 and time > 0:
        start = max(0, start - _SEARCH)
        for _, found in read_messages(reader.entries(start, min(start + 64, message))):
            base = found.pack.base_time
            if base is not None and found.signed.tq >= 2:
                if base < time:
                    return start
                break
    return 0


def find(
    reader: LogReader, node: str, channel: str, time: float, *, within: float = 3600.0
) -> tuple[int, int]:
    """Log index of the message with the reading nearest to a time, and its place in the message.

    Args:
        reader: the log; it is read from its first entry to its last.
        node: name of the node.
        channel: name of the channel.
        time: Unix seconds.
        within: how far from `time` the reading may be, in seconds.

    Raises:
        SensorhubError: there is none.
    """
    best, nearest = None, within
    needle = f":{node}:".encode()
    for index, entry in reader.entries(0):
        if kind_of(entry) != MESSAGE or needle not in entry:
            continue
        for _, message in read_messages([(index, entry)]):
            pack = message.pack
            if pack.node != node or pack.base_time is None or channel not in pack.names:
                continue
            for record, (name, offset) in enumerate(zip(pack.names, pack.times, strict=True)):
                apart = abs(pack.base_time + offset - time)
                if name == channel and isinstance(pack.values[record], (int, float)) and apart <= nearest:
                    best, nearest = (index, record), apart
    if best is None:
        raise _absent(node, channel)
    return best


def _verdict_on(reader: LogReader, message: int) -> int | None:
    """Log index of the verdict entry in force on a message."""
    verdict, rules = None, None
    for index, entry in reader.entries(message):
        if kind_of(entry) == VERDICT:
            _, _, _, judge, verdicts = cbor2.loads(entry)
            if outranks(judge, rules) and any(judged == message for judged, _ in verdicts):
                verdict, rules = index, judge
    return verdict


def _logged(index: int, entry: bytes, message: int, record: int) -> Logged | None:
    if kind_of(entry) == VERDICT:
        _, _, _, judge, verdicts = cbor2.loads(entry)
        for judged, pairs in verdicts:
            if judged == message and record < len(pairs):
                return Logged(index, int(pairs[record][0]), int(pairs[record][1]), str(judge))
    return None


def _judged(
    judge: Judge,
    entries: Sequence[tuple[int, bytes]],
    node: str,
    channel: str,
    history: list[Moment],
) -> tuple[Findings, Columns] | None:
    messages = read_messages(entries)
    if not messages:
        return None
    columns = columns_of(messages, judge.rules.numbers)
    found = judge.judge(columns)
    if (node, channel) in judge.rules.numbers.pairs:
        number = judge.rules.numbers.pairs.index((node, channel))
        evidence = found.evidence
        compared = dict(zip(found.compared.tolist(), range(found.compared.size), strict=True))
        rows = np.flatnonzero(
            (columns.series == number) & np.isfinite(columns.time) & np.isfinite(columns.value)
        )
        for row in rows.tolist():
            k = compared.get(row)
            told = k is not None and evidence.support[k] > 0
            history.append(
                Moment(
                    float(columns.time[row]),
                    float(columns.value[row]),
                    float(evidence.expected[k]) if told else None,
                    float(evidence.residual[k]) if told else None,
                )
            )
        del history[:-HISTORY]
    return found, columns


def _told(
    judge: Judge,
    found: Findings,
    columns: Columns,
    row: int,
    message: int,
    logged: Logged | None,
    history: list[Moment],
) -> Explanation:
    node, channel = judge.rules.numbers.pairs[int(columns.series[row])]
    places = np.flatnonzero(found.compared == row)
    expected = residual = vapour = None
    support, moving, chances = 0.0, 0.0, {}
    neighbours: tuple[Neighbour, ...] = ()
    if places.size:
        k = int(places[0])
        support = float(found.evidence.support[k])
        moving = float(found.evidence.moving[k])
        if np.isfinite(found.evidence.vapour[k]):
            vapour = float(found.evidence.vapour[k])
        if support > 0:
            expected, residual = float(found.evidence.expected[k]), float(found.evidence.residual[k])
        if found.logits is not None:
            chances = dict(zip(CLASSES, _softmax(found.logits[k]), strict=True))
        neighbours = judge.witnesses.neighbours(int(columns.series[row]))
    time = float(columns.time[row])
    result = Explanation(
        node,
        channel,
        time,
        float(columns.value[row]),
        message,
        row,
        float(found.judged.score[row]) / FULL_SCORE,
        tuple(flag_names(int(found.judged.flags[row]))),
        logged,
        expected,
        residual,
        support,
        moving,
        vapour,
        chances,
        neighbours,
        judge.rules.cameras.newest(node) if of_camera(channel) else None,
        float(found.judged.haze[row]),
        tuple(h for h in sorted(history) if time - SPAN <= h.time <= time),
        (),
    )
    return replace(result, words=tuple(_words(result)))


def _softmax(logits: NDArray[np.float32]) -> list[float]:
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    return [float(p) for p in powers / powers.sum()]


def _words(e: Explanation) -> list[str]:
    channel = BY_NAME[e.channel]
    digits, unit = channel.decimals, f" {unit_written(channel)}".rstrip()
    words = [
        f"{channel.title} of {e.node} was {e.value:.{digits}f}{unit}; judged anew, its score is {e.score:.2f}."
    ]
    words.append(f"Flags: {', '.join(e.flags)}." if e.flags else "No flag is set.")
    if e.look is not None:
        words += _camera_words(e.look)
    elif e.expected is None or e.residual is None:
        words.append("There was no neighbour to compare it with, so it is neither confirmed nor refuted.")
    else:
        size = abs(e.residual)
        how = "as usual" if size < UNUSUAL else "further than usual" if size < 5 else "far beyond the usual"
        words.append(
            f"From its neighbours {e.expected:.{digits}f}{unit} was to be expected, with what they usually differ by taken off; "
            f"the difference is {size:.1f} times its usual size, {how}."
        )
        told = [
            f"{n.node} ({_away(n)}, trust {n.trust:.2f}) {n.expected:.{digits}f}"
            for n in e.neighbours
            if n.expected is not None
        ]
        words.append(f"Each of them lets expect: {'; '.join(told)}.")
        if e.moving > 1:
            words.append("The neighbourhood itself is changing fast, so a difference counts for less.")
        if e.vapour is not None and size >= UNUSUAL:
            words.append(
                f"Its dew point is {abs(e.vapour):.1f} °C from what they let expect: "
                + (
                    "the air holds as much vapour as theirs, and is warmer or colder here."
                    if abs(e.vapour) < SAME_VAPOUR
                    else "so temperature and humidity together are not those of the air around."
                )
            )
    if e.haze > 0:
        words.append(f"A camera nearby sees haze ({e.haze:.0%}), which speaks for particles in the air.")
    if e.chances:
        named = sorted(e.chances.items(), key=lambda item: -item[1])[:3]
        words.append("The model takes it for " + ", ".join(f"{name} ({p:.0%})" for name, p in named) + ".")
    if e.logged is None:
        words.append("The log has no verdict on it yet.")
    else:
        who = (
            "A person's correction" if e.logged.judge == REVIEW else f"The log's verdict by {e.logged.judge}"
        )
        told_flags = ", ".join(flag_names(e.logged.flags))
        words.append(
            f"{who} (entry {e.logged.entry}) is {e.logged.score / FULL_SCORE:.2f}"
            + (f" with the flags {told_flags}." if told_flags else " without flags.")
        )
    return words


def _away(neighbour: Neighbour) -> str:
    return "place unknown" if neighbour.distance is None else f"{neighbour.distance:.1f} km"


def _camera_words(look: Look) -> list[str]:
    words = [
        f"The picture's luminance is {look.luminance:.2f}, its contrast {look.contrast:.2f}, its sharpness {look.sharpness:.2f}."
    ]
    if look.luminance < LIT:
        words.append("It is dark: contrast and sharpness tell little.")
    elif np.isnan(look.sharpness_share):
        words.append("What is usual at this hour is not known yet: that takes a day.")
    else:
        words.append(
            f"That is {look.sharpness_share:.0%} of the sharpness and {look.contrast_share:.0%} of the relative contrast "
            "that clear days have at this hour."
        )
    if look.weather:
        words.append("Other cameras, particles or damp air explain it: that is the weather, not the lens.")
    return words


def document(e: Explanation) -> dict[str, Any]:
    """The explanation as JSON values, as the API gives it; numbers that are not finite are None."""
    told = asdict(e)
    told["logged"] = (
        None if e.logged is None else {**e.logged._asdict(), "score": e.logged.score / FULL_SCORE}
    )
    if e.logged is not None:
        told["logged"]["flag_names"] = flag_names(e.logged.flags)
    told["history"] = {name: [getattr(h, name) for h in e.history] for name in Moment._fields}
    told["unit"] = BY_NAME[e.channel].unit
    return _finite(told)  # type: ignore[no-any-return]  # a mapping stays one


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# -- the picture

_STYLE: Final = (
    "svg{color-scheme:light dark}text{font:12px system-ui,sans-serif;fill:#17211f}.soft{fill:#56635f}.line{stroke:#dfe6e4;stroke-width:1}"
    ".paper{fill:#fff}.own{fill:none;stroke:#0f6b58;stroke-width:1.7}.ownfill{fill:#0f6b58}"
    ".near{fill:none;stroke:#b8650a;stroke-width:1.5;stroke-dasharray:5 3}.nearfill{fill:#b8650a}.bad{fill:#c2362b}.track{fill:#dfe6e4}"
    "@media(prefers-color-scheme:dark){text{fill:#e4ebe9}.soft{fill:#9aaaa6}.line{stroke:#2a3533}.paper{fill:#171f1e}.own{stroke:#4fc3a5}"
    ".ownfill{fill:#4fc3a5}.near{stroke:#f0b955}.nearfill{fill:#f0b955}.bad{fill:#ff7a6b}.track{fill:#2a3533}}"
)
_LEFT: Final = 58
_RIGHT: Final = 16


def picture(e: Explanation, *, width: int = 760) -> str:
    """The readings before and what the neighbours let expect, the residual, the neighbours and the chances, as SVG.

    It follows the reader's light or dark scheme.
    """
    channel = BY_NAME[e.channel]
    points = list(e.history) or [Moment(e.time, e.value, e.expected, e.residual)]
    first, last = points[0].time, max(e.time, points[0].time + 1)
    parts: list[str] = []

    def x(time: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * (time - first) / (last - first)

    def panel(top: float, height: float, low: float, high: float) -> Callable[[float], float]:
        for level in _round_levels(low, high):
            y = top + height * (high - level) / (high - low)
            parts.append(f'<path class="line" d="M{_LEFT} {y:.1f}H{width - _RIGHT}"/>')
            parts.append(
                f'<text class="soft" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{level:g}</text>'
            )
        return lambda level: top + height * (high - min(max(level, low), high)) / (high - low)

    def line(kind: str, pairs: Sequence[tuple[float, float | None]], y: Callable[[float], float]) -> None:
        shown = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in pairs if v is not None)
        if shown:
            parts.append(f'<polyline class="{kind}" points="{shown}"/>')

    unit = unit_written(channel)
    unit = f" in {unit}" if unit else ""
    parts.append(
        f'<text x="{_LEFT}" y="18" font-weight="600">{escape(f"{channel.title} at {e.node}{unit}")}</text>'
    )
    levels = [p.value for p in points] + [p.expected for p in points if p.expected is not None]
    margin = 0.08 * (max(levels) - min(levels)) or 1.0
    y = panel(30, 170, min(levels) - margin, max(levels) + margin)
    line("near", [(p.time, p.expected) for p in points], y)
    line("own", [(p.time, p.value) for p in points], y)
    parts.append(f'<circle class="bad" cx="{x(e.time):.1f}" cy="{y(e.value):.1f}" r="4.5"/>')
    bottom = 200.0
    if any(p.residual is not None for p in points):
        parts.append(
            f'<text class="soft" x="{_LEFT}" y="226">difference from the neighbours, in usual deviations</text>'
        )
        size = max(6.0, *(min(abs(p.residual), 40.0) for p in points if p.residual is not None))
        y = panel(234, 70, -size, size)
        line("own", [(p.time, p.residual) for p in points], y)
        if e.residual is not None:
            parts.append(f'<circle class="bad" cx="{x(e.time):.1f}" cy="{y(e.residual):.1f}" r="4"/>')
        bottom = 304.0
    hours = (last - first) / 3600
    bottom += 18
    parts.append(f'<text class="soft" x="{_LEFT}" y="{bottom}">{hours:.0f} h before</text>')
    parts.append(f'<text class="soft" x="{width - _RIGHT}" y="{bottom}" text-anchor="end">the reading</text>')
    middle = (_LEFT + width - _RIGHT) / 2
    parts.append(
        f'<path class="own" d="M{middle - 150} {bottom - 4}h22"/><text class="soft" x="{middle - 122}" y="{bottom}">the node</text>'
    )
    if e.expected is not None:
        parts.append(
            f'<path class="near" d="M{middle - 50} {bottom - 4}h22"/><text class="soft" x="{middle - 22}" y="{bottom}">its neighbours let expect</text>'
        )
    bottom += 14
    columns = [
        (
            "what each neighbour lets expect (bar: its weight)",
            _neighbour_bars(e, channel.decimals),
            "nearfill",
        ),
        ("what the model takes it for", [(n, p, f"{p:.0%}") for n, p in e.chances.items()], "ownfill"),
    ]
    deepest = bottom
    for k, (title, bars, kind) in enumerate(columns):
        if not bars:
            continue
        left = _LEFT + k * (width - _LEFT) / 2
        top = bottom + 14
        parts.append(f'<text class="soft" x="{left}" y="{top}">{title}</text>')
        for name, share, text in bars:
            top += 19
            parts.append(
                f'<text x="{left}" y="{top}">{escape(name)}</text><rect class="track" x="{left + 110}" y="{top - 9}" width="120" height="9" rx="2"/>'
                f'<rect class="{kind}" x="{left + 110}" y="{top - 9}" width="{120 * share:.1f}" height="9" rx="2"/>'
                f'<text class="soft" x="{left + 238}" y="{top}">{escape(text)}</text>'
            )
        deepest = max(deepest, top + 4)
    height = int(deepest + 10)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{escape(' '.join(e.words))}</title><style>{_STYLE}</style>"
        f'<rect class="paper" width="{width}" height="{height}"/>{"".join(parts)}</svg>'
    )


def _neighbour_bars(e: Explanation, decimals: int) -> list[tuple[str, float, str]]:
    """(name, share of the say, what it lets expect) of neighbours that spoke, those with most say first."""
    told = sorted((n for n in e.neighbours if n.expected is not None), key=lambda n: -n.weight)
    most = max((n.weight for n in told), default=0.0)
    return [
        (n.node, n.weight / most if most else 0.0, f"{n.expected:.{decimals}f}, {_away(n)}") for n in told
    ]


def _round_levels(low: float, high: float) -> list[float]:
    """Three to six round numbers between two others."""
    raw = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(float(power * m) for m in (1, 2, 5, 10) if power * m >= raw)
    count = range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)
    return [round(k * step, 10) for k in count]
