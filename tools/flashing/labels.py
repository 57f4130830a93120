"""A sheet of labels for the nodes of a batch: name, kind, key id and a QR code each. A4, three columns of eight."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import segno
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

COLUMNS: Final = 3
ROWS: Final = 8
WIDTH: Final = 70 * mm
HEIGHT: Final = 37 * mm
CODE: Final = 26 * mm
TITLE: Final = 11.0
TITLE_LEAST: Final = 5.0
_MARGIN: Final = 4 * mm
_ROOM: Final = WIDTH - 2 * _MARGIN - CODE - 3 * mm


@dataclass(frozen=True, slots=True)
class Label:
    """One label: title, lines below it, and what its QR code says."""

    title: str
    lines: tuple[str, ...]
    code: str


def sheet(labels: Sequence[Label]) -> bytes:
    """The sheet as PDF; the same bytes for the same labels."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setTitle("Node labels")
    per_page = COLUMNS * ROWS
    for number, label in enumerate(labels):
        if number and number % per_page == 0:
            canvas.showPage()
        row, column = divmod(number % per_page, COLUMNS)
        _draw(canvas, label, column * WIDTH, A4[1] - (row + 1) * HEIGHT)
    canvas.save()
    return out.getvalue()


def _draw(canvas: Canvas, label: Label, left: float, bottom: float) -> None:
    modules = [list(row) for row in segno.make(label.code, error="m").matrix_iter(border=0)]
    size = CODE / len(modules)
    top = bottom + (HEIGHT + CODE) / 2
    for y, row in enumerate(modules):
        for x, dark in enumerate(row):
            if dark:
                # a hair wider than a module, so that no viewer shows seams
                canvas.rect(left + _MARGIN + x * size, top - (y + 1) * size, size * 1.02, size * 1.02, 0, 1)
    text = canvas.beginText(left + _MARGIN + CODE + 3 * mm, top - 4 * mm)
    # a name is what the label is for, so it gets smaller rather than shorter
    wide = canvas.stringWidth(label.title, "Helvetica-Bold", TITLE)
    size = max(TITLE_LEAST, min(TITLE, TITLE * _ROOM / wide))
    text.setFont("Helvetica-Bold", size, TITLE * 1.2)
    text.textLine(_fitted(canvas, label.title, "Helvetica-Bold", size))
    text.setFont("Helvetica", 7.5)
    for line in label.lines:
        text.textLine(_fitted(canvas, line, "Helvetica", 7.5))
    canvas.drawText(text)


def _fitted(canvas: Canvas, text: str, font: str, size: float) -> str:
    if canvas.stringWidth(text, font, size) <= _ROOM:
        return text
    while text and canvas.stringWidth(text + "…", font, size) > _ROOM:
        text = text[:-1]
    return text + "…"
