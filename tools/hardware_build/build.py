"""Makes everything from the node.toml files, and knows what is stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import enclosure, picture, schematic, wiring
from .errors import HardwareError
from .firmware import pins_module
from .page import page
from .schema import HARDWARE, board_of, nodes
from .tables import bom_csv, connectors_csv

MANIFEST: Final = HARDWARE / "generated.json"
STL: Final = HARDWARE / "enclosure" / "stl"
PNG: Final = HARDWARE / "enclosure" / "png"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A file that takes other programs to make: it is made again only when its source has changed.

    Attributes:
        path: the file.
        source: SHA-256 of all it is made from.
        make: writes it.
    """

    path: Path
    source: str
    make: Callable[[Path], None]


def texts() -> dict[Path, str]:
    """Every generated text, by its file. Fast, and the same on every machine."""
    made: dict[Path, str] = {enclosure.BOARDS_SCAD: enclosure.boards_scad()}
    for name, node in nodes().items():
        board = board_of(node)
        folder = HARDWARE / name
        made[folder / "generated" / "pins.py"] = pins_module(node, board)
        made[folder / "generated" / "bom.csv"] = bom_csv(node)
        made[folder / "generated" / "connectors.csv"] = connectors_csv(node, board)
        made[folder / "generated" / "wiring.yml"] = wiring.description(node, board)
        made[folder / "README.md"] = page(node, board)
    return made | schematic.files()


def digest(*parts: str | bytes) -> str:
    """SHA-256 over parts, in hexadecimal."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()


def drawn(made: dict[Path, str]) -> Iterator[Drawn]:
    """Every file that takes WireViz, OpenSCAD, the renderer or KiCad, in the order in which they are made."""
    for path, text in made.items():
        if path.name == "wiring.yml":
            yield Drawn(path.with_suffix(".svg"), digest(text), _wiring(text))
    scad = enclosure.SCAD.read_text(encoding="utf-8"), made[enclosure.BOARDS_SCAD]
    boards = [path.read_text(encoding="utf-8") for path in sorted((HARDWARE / "boards").glob("*.toml"))]
    every = nodes()
    stowed = repr([(item, every[item.node].part(item.ref).body_mm) for item in enclosure.STOWED])
    painter = Path(picture.__file__).read_text(encoding="utf-8")
    for piece in enclosure.PIECES:
        yield Drawn(STL / f"{piece.name}.stl", digest(piece.name, *scad), _piece(piece.name))
        yield Drawn(PNG / f"{piece.name}.png", digest(piece.name, *scad, painter), _picture(piece.name))
    for name in picture.VIEWS:
        yield Drawn(PNG / f"{name}.png", digest(name, *scad, painter, stowed, *boards), _view(name))
    yield Drawn(schematic.SVG, digest(made[schematic.SHEET], made[schematic.SYMBOLS]), schematic.draw)


def _wiring(text: str) -> Callable[[Path], None]:
    return lambda path: _write(path, wiring.drawing(text))


def _piece(name: str) -> Callable[[Path], None]:
    return lambda path: enclosure.render(name, path)


def _picture(name: str) -> Callable[[Path], None]:
    return lambda path: picture.draw_piece(name, path)


def _view(name: str) -> Callable[[Path], None]:
    return lambda path: picture.draw_view(name, path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def manifest() -> dict[str, dict[str, str]]:
    """What generated.json says: for each drawn file the SHA-256 of its source and its own."""
    try:
        read: dict[str, dict[str, str]] = json.loads(MANIFEST.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return read


def name_of(path: Path) -> str:
    """A file's name in the manifest."""
    return path.relative_to(HARDWARE).as_posix()


def stale() -> list[str]:
    """What no longer is what node.toml and enclosure.scad make, one sentence each."""
    made = texts()
    found = []
    for path, text in made.items():
        if not path.exists():
            found.append(f"{name_of(path)} is missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{name_of(path)} is stale")
    known = manifest()
    wanted = list(drawn(made))
    for item in wanted:
        entry = known.get(name_of(item.path))
        if not item.path.exists() or entry is None:
            found.append(f"{name_of(item.path)} is missing")
        elif entry["source"] != item.source:
            found.append(f"{name_of(item.path)} is stale: its source has changed")
        elif entry["sha256"] != hashlib.sha256(item.path.read_bytes()).hexdigest():
            found.append(f"{name_of(item.path)} is not the file that was made")
    found += [
        f"{name} is in generated.json, and nothing makes it"
        for name in known.keys() - {name_of(i.path) for i in wanted}
    ]
    return found


def build(tell: Callable[[str], None], *, force: bool = False) -> None:
    """Make what is stale.

    Raises:
        HardwareError: a program is missing or fails; what was made until then is kept.
    """
    made = texts()
    for path, text in made.items():
        _write(path, text)
    known = {} if force else manifest()
    current: dict[str, dict[str, str]] = {}
    failures = []
    for item in drawn(made):
        name = name_of(item.path)
        entry = known.get(name)
        if entry and entry["source"] == item.source and item.path.exists():
            current[name] = entry
            continue
        item.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            item.make(item.path)
        except HardwareError as error:
            failures.append(f"{name}: {error}")
            continue
        current[name] = {"source": item.source, "sha256": hashlib.sha256(item.path.read_bytes()).hexdigest()}
        tell(f"made {name}")
    _write(MANIFEST, json.dumps(dict(sorted(current.items())), indent=1) + "\n")
    if failures:
        raise HardwareError("\n".join(failures))
