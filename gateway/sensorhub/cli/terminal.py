"""What the commands have in common: the settings, the log, files to write to, progress bars."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sensorhub import settings as settings_module
from sensorhub.errors import SensorhubError
from sensorhub.settings import Settings

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of the terminal.")]


class Context:
    """What the options before the command said."""

    config: Path | None = None

    def settings(self) -> Settings:
        return settings_module.load(self.config, os.environ)


context = Context()


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for callbacks of the form (done, in all)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, **_on_terminal()) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """The same for callbacks of the form (what, done, in all), a bar for each `what`."""
    from rich.progress import Progress

    with Progress(**_on_terminal()) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def _on_terminal() -> dict[str, Any]:
    """Bars that go when they are done; none where nobody watches, as they would leave an empty line there."""
    from rich.console import Console

    console = Console(stderr=True)
    return {"console": console, "transient": True, "disable": not console.is_terminal}


def log_path() -> Path:
    """The log's directory.

    Raises:
        SensorhubError: no log has been begun.
    """
    path = context.settings().data_dir / "log"
    if not (path / "head").exists():
        raise SensorhubError(f"there is no log at {path}: start the gateway first, or set gateway.data_dir")
    return path


def open_log() -> Any:
    """A `LogReader` of the gateway's log."""
    from sensorhub.log.reader import LogReader

    return LogReader(log_path())
