"""The rooms of the gateway import only downwards, as gateway/README.md says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gateway" / "sensorhub"
GROUND = {"addresses", "errors", "channels", "flags", "status", "parent", "locks", "times"}
ALLOWED: dict[str, set[str]] = {
    "addresses": set(),
    "errors": set(),
    "channels": set(),
    "flags": set(),
    "status": set(),
    "data": set(),
    "locks": {"errors"},
    "times": {"errors"},
    "settings": {"addresses", "errors"},
    "parent": set(),
    "supervisor": {"parent"},
    "wire": GROUND,
    "log": GROUND | {"wire"},
    "nodes": GROUND | {"wire", "log"},
    "ingest": GROUND | {"wire", "log", "nodes"},
    "quality": GROUND | {"data", "wire", "log", "nodes"},
    "store": GROUND | {"wire", "log", "nodes"},
    "chain": GROUND | {"wire", "log"},
    "verify": GROUND | {"wire", "log", "chain"},
    "control": GROUND | {"wire", "log", "quality"},
    "dataset": GROUND | {"wire", "log", "nodes", "store", "chain", "verify"},
    "web": GROUND | {"wire", "log", "nodes", "store", "chain", "verify", "dataset", "quality"},
    "processes": GROUND
    | {
        "settings",
        "wire",
        "log",
        "nodes",
        "ingest",
        "quality",
        "store",
        "chain",
        "verify",
        "dataset",
        "web",
        "control",
    },
    "cli": {"*"},
}
VERIFY_MAY_USE = {"log": {"merkle", "note", "entries"}, "chain": {"digest", "untrusted"}}


def imports(path: Path):
    """Dotted names of everything a module imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "node_modules" not in p.parts)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rooms_below(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "sensorhub" or len(parts) < 2 or parts[1] in (room, "__version__"):
            continue
        assert "*" in ALLOWED[room] or parts[1] in ALLOWED[room], f"{room} may not import {name}"
        if room == "verify" and parts[1] in VERIFY_MAY_USE:
            assert parts[2] in VERIFY_MAY_USE[parts[1]], f"verify may not import {name}"


def test_every_room_has_a_rule_and_a_readme():
    rooms = {room_of(p) for p in MODULES} - {"__init__", "__main__"}
    assert rooms <= set(ALLOWED)
    for room in rooms:
        if (PACKAGE / room).is_dir():
            assert (PACKAGE / room / "README.md").exists(), f"{room} has no README.md"
