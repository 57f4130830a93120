"""Curves and heatmaps as SVG that follow the reader's light or dark scheme; no library draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Final

_COLOURS: Final = (
    ("#0f6b58", "#4fc3a5"),
    ("#b8650a", "#f0b955"),
    ("#3564b0", "#86aef0"),
    ("#8a3d8f", "#d490d8"),
    ("#6b7470", "#a9b6b1"),
    ("#c2362b", "#ff7a6b"),
    ("#4d6a12", "#b4d164"),
)
_STYLE: Final = (
    "svg{color-scheme:light dark}text{font:12px system-ui,sans-serif;fill:#17211f}.soft{fill:#56635f}.line{stroke:#dfe6e4;stroke-width:1;fill:none}"
    ".paper{fill:#fff}.curve{fill:none;stroke-width:1.8}.cell{fill:#0f6b58}.onlight{fill:#17211f}.ondark{fill:#fff}.empty{fill:#eef2f1}"
    + "".join(f".k{i}{{stroke:{light}}}" for i, (light, _) in enumerate(_COLOURS))
    + "@media(prefers-color-scheme:dark){text{fill:#e4ebe9}.soft{fill:#9aaaa6}.line{stroke:#2a3533}.paper{fill:#171f1e}.cell{fill:#4fc3a5}"
    + ".onlight{fill:#e4ebe9}.ondark{fill:#0f1514}.empty{fill:#1d2625}"
    + "".join(f".k{i}{{stroke:{dark}}}" for i, (_, dark) in enumerate(_COLOURS))
    + "}"
)

Curve = tuple[str, Sequence[float], Sequence[float]]


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<rect class="paper" width="{width:g}" height="{height:g}"/>{"".join(parts)}</svg>\n'
    )


def curves(
    title: str,
    across: str,
    up: str,
    found: Sequence[Curve],
    *,
    least: float | None = None,
    steps: bool = False,
    width: float = 560,
) -> str:
    """Curves in the unit square, as SVG; the legend names them in the order given.

    Args:
        title: what is shown.
        across: label of the x axis.
        up: label of the y axis.
        found: (name, x, y) of each curve, x ascending, 0 to 1.
        least: with it the x axis is logarithmic from there to 1.
        steps: a point's y holds from the x of the point before it on.
        width: of the picture.
    """
    left, top, right, side = 52.0, 34.0, 12.0, width - 64.0
    height = side * 0.72

    def x(value: float) -> float:
        if least is None:
            return left + side * value
        return left + side * (1 - math.log(max(value, least)) / math.log(least))

    def y(value: float) -> float:
        return top + height * (1 - value)

    parts = [f'<text x="{left}" y="18" font-weight="600">{escape(title)}</text>']
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(f'<path class="line" d="M{left} {y(tick):.1f}H{left + side:.1f}"/>')
        parts.append(
            f'<text class="soft" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    across_ticks = (
        (0, 0.2, 0.4, 0.6, 0.8, 1)
        if least is None
        else [10.0**k for k in range(math.ceil(math.log10(least) - 1e-9), 1)]
    )
    for tick in across_ticks:
        parts.append(f'<path class="line" d="M{x(tick):.1f} {top}V{top + height:.1f}"/>')
        parts.append(
            f'<text class="soft" x="{x(tick):.1f}" y="{top + height + 16:.1f}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(
        f'<text class="soft" x="{left + side / 2:.1f}" y="{top + height + 34:.1f}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(f'<text class="soft" x="{left + side:.1f}" y="18" text-anchor="end">{escape(up)}</text>')
    for number, (_, xs, ys) in enumerate(found):
        if steps:
            xs, ys = (
                [xs[0], *(x for a, b in pairwise(xs) for x in (a, b))],
                [ys[0], *(y for b in ys[1:] for y in (b, b))],
            )
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in _thin(xs, ys, x, y))
        dash = "" if number < len(_COLOURS) else ' stroke-dasharray="4 3"'
        parts.append(f'<polyline class="curve k{number % len(_COLOURS)}"{dash} points="{points}"/>')
    at = top + height + 54
    for number, (name, _, _) in enumerate(found):
        column, row = number % 2, number // 2
        cx, cy = left + column * side / 2, at + 18 * row
        parts.append(f'<path class="curve k{number % len(_COLOURS)}" d="M{cx:.1f} {cy - 4:.1f}h20"/>')
        parts.append(f'<text x="{cx + 26:.1f}" y="{cy:.1f}">{escape(name)}</text>')
    return _svg(left + side + right, at + 18 * ((len(found) + 1) // 2), title, parts)


def _thin(xs: Sequence[float], ys: Sequence[float], x: object, y: object) -> list[tuple[float, float]]:
    """The points of a curve that are some pixels apart."""
    kept: list[tuple[float, float]] = []
    last = (math.inf, math.inf)
    pairs = list(zip(xs, ys, strict=True))
    for k, (a, b) in enumerate(pairs):
        here = (x(a), y(b))  # type: ignore[operator]  # both are functions of a number
        if k in (0, len(pairs) - 1) or abs(here[0] - last[0]) + abs(here[1] - last[1]) > 2.0:
            kept.append((a, b))
            last = here
    return kept


def heatmap(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Mapping[tuple[str, str], float]
) -> str:
    """Numbers from 0 to 1 by row and column, as SVG; the darker (in the dark, the brighter) the higher.

    Args:
        title: what is shown.
        rows: names from the top.
        columns: names from the left.
        values: by (row, column); what is missing stays empty.
    """
    left = 16 + 7.0 * max(map(len, rows))
    wide, tall, top = 66.0, 30.0, 58.0
    parts = [f'<text x="12" y="20" font-weight="600">{escape(title)}</text>']
    for k, name in enumerate(columns):
        parts.append(
            f'<text class="soft" x="{left + wide * (k + 0.5):.1f}" y="{top - 8}" text-anchor="middle">{escape(name)}</text>'
        )
    for j, row in enumerate(rows):
        y = top + tall * j
        parts.append(f'<text x="{left - 8:.1f}" y="{y + 19:.1f}" text-anchor="end">{escape(row)}</text>')
        for k, column in enumerate(columns):
            x = left + wide * k
            value = values.get((row, column))
            parts.append(
                f'<rect class="empty" x="{x:.1f}" y="{y:.1f}" width="{wide - 2}" height="{tall - 2}" rx="3"/>'
            )
            if value is None or not math.isfinite(value):
                continue
            strength = min(max(value, 0.0), 1.0)
            parts.append(
                f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{wide - 2}" height="{tall - 2}" rx="3" fill-opacity="{0.06 + 0.94 * strength**1.5:.3f}"/>'
                f'<text class="{"ondark" if strength > 0.78 else "onlight"}" x="{x + wide / 2 - 1:.1f}" y="{y + 18:.1f}" text-anchor="middle">{value:.2f}</text>'
            )
    return _svg(left + wide * len(columns) + 12, top + tall * len(rows) + 10, title, parts)
