"""What a person sees: one line for each step with its time, a bar while it waits, questions, and the end."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TextIO

import segno
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flashing.exits import Exit, FlashError
from flashing.ports import Port

WIDTH: Final = 12


@dataclass(slots=True)
class Step:
    """One step under way.

    Attributes:
        said: what its line will say.
        bar: shows how far it is, 0 to 1, with a word on what is going on.
    """

    bar: Callable[[str, float], None]
    said: str = ""

    def say(self, text: str) -> None:
        self.said = text


@dataclass(slots=True)
class Screen:
    """The terminal, or a file when there is none.

    Attributes:
        total: how many steps there will be.
        verbose: print what esptool prints.
    """

    total: int
    verbose: bool = False
    out: TextIO = field(default_factory=lambda: sys.stdout)
    begun: float = field(default_factory=time.monotonic)
    times: dict[str, float] = field(default_factory=dict)
    _number: int = 0

    @contextmanager
    def step(self, name: str, *, asks: bool = False) -> Iterator[Step]:
        """Runs a step: its line is printed when it ends, with a cross when it fails.

        Args:
            name: what it is called.
            asks: it may ask a person, so no bar is drawn over the question.
        """
        self._number += 1
        console = Console(file=self.out, highlight=False, soft_wrap=True)
        columns = (
            TextColumn(f"{self._number}/{self.total} {name:{WIDTH}}"),
            BarColumn(30),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        began = time.monotonic()
        progress = Progress(
            *columns, console=console, transient=True, disable=asks or not console.is_terminal
        )
        task = progress.add_task("", total=1.0, start=True)
        step = Step(lambda what, part: progress.update(task, description=what, completed=part))
        mark = "✗"
        try:
            with progress:
                yield step
            mark = "✓"
        except FlashError as error:
            step.said = str(error)
            raise
        except (KeyboardInterrupt, SystemExit):
            step.said = "stopped"
            raise
        finally:
            self.times[name] = time.monotonic() - began
            text = f"{mark} {self._number}/{self.total} {name:{WIDTH}} {step.said}"
            console.print(f"{text}  [{self.times[name]:.1f} s]", markup=False)

    def line(self, text: str = "") -> None:
        """Prints a line."""
        print(text, file=self.out, flush=True)

    def code(self, text: str) -> None:
        """Prints a QR code."""
        if self.out.isatty():
            segno.make(text, error="l").terminal(self.out, compact=True)
        else:
            for row in qr_lines(text):
                self.line(row)


def qr_lines(text: str) -> list[str]:
    """A QR code in half blocks, two modules to a character, readable on dark and light terminals alike."""
    rows = [list(row) for row in segno.make(text, error="l").matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    marks = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}  # light modules are printed
    return [
        "".join(marks[bool(top), bool(bottom)] for top, bottom in zip(rows[i], rows[i + 1], strict=True))
        for i in range(0, len(rows), 2)
    ]


def interactive() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def prompt(what: str, hidden: bool) -> str:
    """Asks for a setting; a secret is not echoed."""
    try:
        if hidden:
            return getpass.getpass(f"{what}: ")
        print(f"{what}: ", end="", file=sys.stderr, flush=True)
        return input().strip()
    except EOFError:
        raise FlashError(Exit.SETTINGS, f"nobody answered: {what}") from None


def ask_port(found: Sequence[Port]) -> Port:
    """Lets a person choose."""
    for number, port in enumerate(found, 1):
        print(f"  {number}  {port}", file=sys.stderr)
    answer = prompt("which board", hidden=False)
    if not answer.isdigit() or not 1 <= int(answer) <= len(found):
        raise FlashError(Exit.NO_PORT, f"{answer!r} is none of these numbers", "Choose one with --port.")
    return found[int(answer) - 1]


def confirm(question: str) -> bool:
    """Asks for a yes."""
    return prompt(f"{question} [y/N]", hidden=False).lower() in ("y", "yes")
