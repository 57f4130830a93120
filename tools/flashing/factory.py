"""Many boards, one after the other: a list in CSV, a record of what is done, and labels.

The list has a heading with `name` and any of `kind`, `site`, `owner`, `place`, `port`. The record lies beside it
(`nodes.csv` -> `nodes.done.json`) and is written after every board, so a run that was stopped goes on where it ended. A board that
did one row is refused for another.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flashing.exits import Exit, FlashError
from flashing.flow import Outcome
from flashing.labels import Label, sheet
from flashing.private import write_private
from flashing.registration import check_names

COLUMNS: Final = frozenset({"name", "kind", "site", "owner", "place", "port"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    name: str
    kind: str
    site: str
    owner: str = ""
    place: str = ""
    port: str = ""


def load(path: Path, defaults: Mapping[str, str]) -> list[Row]:
    """The list; what a line leaves empty comes from `defaults`.

    Raises:
        FlashError: it cannot be read, has an unknown column, a wrong name, or a name twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            unknown = set(reader.fieldnames or ()) - COLUMNS
            if unknown or "name" not in (reader.fieldnames or ()):
                told = f"has the unknown column {min(unknown)!r}" if unknown else "has no column 'name'"
                raise FlashError(
                    Exit.SETTINGS, f"{path} {told}", f"Its columns may be {', '.join(sorted(COLUMNS))}."
                )
            lines = [{key: (value or "").strip() for key, value in line.items() if key} for line in reader]
    except OSError as error:
        raise FlashError(Exit.SETTINGS, f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FlashError(Exit.SETTINGS, f"{path} is no CSV: {error}", "Save it as CSV in UTF-8.") from None
    rows = []
    for number, line in enumerate(lines, 2):
        values = {**defaults, **{key: value for key, value in line.items() if value}}
        missing = [key for key in ("name", "kind", "site") if not values.get(key)]
        if missing:
            raise FlashError(
                Exit.SETTINGS,
                f"{path}, line {number}: {missing[0]} is missing",
                "Fill it in, or give the option.",
            )
        row = Row(**{key: values[key] for key in COLUMNS if key in values})
        check_names(row.site, row.name)
        rows.append(row)
    twice = {row.name for row in rows if sum(other.name == row.name for other in rows) > 1}
    if twice:
        raise FlashError(Exit.SETTINGS, f"{path} has {min(twice)!r} twice", "Names of a site are unique.")
    return rows


class Record:
    """What is done, beside the list."""

    def __init__(self, csv_path: Path) -> None:
        self.path = csv_path.with_suffix(".done.json")
        try:
            self._done: dict[str, dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._done = {}
        except (OSError, ValueError) as error:
            raise FlashError(
                Exit.SETTINGS,
                f"{self.path} cannot be read: {error}",
                "Mend it, or move it away to begin anew.",
            ) from None

    def has(self, name: str) -> bool:
        return name in self._done

    def board_of(self, mac: str) -> str:
        """Name of the node that this board became, or nothing."""
        return next((name for name, made in self._done.items() if made.get("mac") == mac), "")

    def add(self, row: Row, outcome: Outcome) -> None:
        """Notes a board, at once and whole."""
        self._done[row.name] = {
            "site": row.site,
            "kind": row.kind,
            "mac": outcome.mac,
            "key_id": outcome.key_id,
            "url": outcome.url,
            "done": int(time.time()),
        }
        write_private(self.path, json.dumps(self._done, indent=1).encode())

    def labels(self, rows: Sequence[Row]) -> bytes:
        """The label sheet of what is done, in the order of the list."""
        made = []
        for row in rows:
            entry = self._done.get(row.name)
            if entry is None:
                continue
            urn = f"urn:dev:sensorhub:{row.site}:{row.name}:{entry['key_id']}"
            key = f"key {entry['key_id']}" if entry["key_id"] else "key not seen yet"
            lines = (f"{row.kind} at {row.site}", key, f"MAC {entry['mac']}")
            made.append(Label(row.name, lines, entry["url"] or urn))
        return sheet(made)


def run(
    rows: Sequence[Row],
    record: Record,
    flash: Callable[[Row], Outcome],
    ready: Callable[[Row], bool],
    line: Callable[[str], None],
) -> int:
    """Does all boards that are not done.

    Args:
        rows: the list.
        record: what is done.
        flash: does one board; FlashError when it fails.
        ready: asks for the next board; False to stop.
        line: prints.

    Returns:
        How many are not done.
    """
    for number, row in enumerate(rows, 1):
        if record.has(row.name):
            continue
        line(f"-- {number} of {len(rows)}: {row.name} ({row.kind})")
        if not ready(row):
            break
        try:
            outcome = flash(row)
        except FlashError as error:
            line(f"{row.name} is not done: {error}. {error.remedy}")
            continue
        record.add(row, outcome)
    return sum(not record.has(row.name) for row in rows)
