"""The chip's bootloader, spoken to by esptool in a process of its own.

esptool is GPL software, so nothing of it is imported. It keeps all its own ways to be configured: ESPTOOL_CFGFILE (custom reset
sequences, timeouts), ESPTOOL_BEFORE, ESPTOOL_AFTER and the rest of its environment pass through, and none of it is overruled.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flashing.exits import Exit, FlashError
from flashing.private import PrivateFile, private_file

FAST: Final = 460_800
SLOW: Final = 115_200
SILENCE_S: Final = 90.0
"""esptool tells its progress many times a second; only a whole-chip erase is silent for long, 16 MB for up to a minute."""
LITTLE: Final = 0x1000
LITTLE_REMOTE: Final = 0x400
"""Over RFC 2217 pyserial takes 0.2 s for each command, and the stub is sent with fewer than 20."""
SLOWLY: Final = 0x10000
"""More than this is not read without the stub: 64 bytes a command."""
_PROGRESS: Final = re.compile(r"(Writing|Reading)[^%]*?(\d+(?:\.\d+)?) ?%")
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Chip:
    """What the bootloader says of itself.

    Attributes:
        name: esp32, esp32s3 ...
        description: model and revision, as esptool words it.
        mac: address, lower case with colons.
        flash_bytes: size of the flash, or None when it cannot be told.
        psram: True when the chip's package has PSRAM; None when that cannot be seen (a module's PSRAM is a chip of its own).
    """

    name: str
    description: str
    mac: str
    flash_bytes: int | None
    psram: bool | None


@dataclass(frozen=True, slots=True)
class Write:
    """Something to write: where, what, and what it is called in the equivalent manual command."""

    offset: int
    content: bytes
    title: str


@dataclass(slots=True)
class Bootloader:
    """One board at one port.

    Attributes:
        port: device or pyserial URL.
        chip: name for `--chip`; empty to let esptool find out.
        baud: speed after the connection, 0 to leave it to esptool and its environment.
        stub: whether esptool may load its stub; when the chip does not start it, it is done without from then on.
        stay: whether the chip waits in its boot loader after it was asked or read, so that nothing of what was read changes;
            `let_go` ends that, and so does writing. ESPTOOL_AFTER goes before it.
        wire_s: seconds that esptool took so far.
        verbose: gets every line that esptool prints.
    """

    port: str
    chip: str = ""
    baud: int = 0
    stub: bool = True
    stay: bool = False
    verbose: Callable[[str], None] | None = None
    wire_s: float = 0.0
    _slow: bool = field(default=False, init=False)
    _waits: bool = field(default=False, init=False)

    def describe(self) -> Chip:
        """Asks the chip what it is.

        Raises:
            FlashError: the port cannot be opened, nothing answers, or it is another chip.
        """
        return parse_chip(self._run("flash-id", (), (), None))

    def read(self, offset: int, size: int, progress: Progress) -> bytes:
        """Part of the flash.

        A little is read by the chip's own boot loader, which takes less time than sending it the stub; so is what the stub
        could not read.

        Raises:
            FlashError: it cannot be read.
        """
        little = LITTLE_REMOTE if self.port.startswith("rfc2217:") else LITTLE
        ways = (False, self.stub) if size <= little else (self.stub, False)
        for stub in dict.fromkeys(ways):
            try:
                with private_file() as file:
                    self._run("read-flash", (hex(offset), hex(size), file.path), (file,), progress, stub)
                    content = file.read()
            except FlashError as error:
                if error.code not in (Exit.BACKUP, Exit.UNPLUGGED) or size > SLOWLY or stub is ways[-1]:
                    raise
                continue
            if len(content) == size:
                return content
        raise FlashError(Exit.BACKUP, f"esptool read {len(content)} bytes instead of {size}")

    def write(self, writes: Sequence[Write], *, erase_all: bool, progress: Progress) -> None:
        """Writes everything in one session; esptool compares the MD5 of each with what the flash holds.

        Raises:
            FlashError: it failed; says how.
        """
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(private_file(write.content)) for write in writes]
            words = [
                word
                for write, file in zip(writes, files, strict=True)
                for word in (hex(write.offset), file.path)
            ]
            said = self._run(
                "write-flash", (*(("--erase-all",) if erase_all else ()), *words), files, progress
            )
        verified = said.count("Hash of data verified")
        if verified < len(writes):
            raise FlashError(Exit.VERIFY, f"esptool verified {verified} of {len(writes)} parts")

    def let_go(self) -> None:
        """Lets a chip that waits in its boot loader start what it holds."""
        if self._waits:
            with contextlib.suppress(FlashError):
                self._run("run", (), (), None, stub=False)

    def erase(self) -> None:
        """Erases the whole flash.

        Raises:
            FlashError: it failed; says how.
        """
        self._run("erase-flash", (), (), None)

    def manual(self, writes: Sequence[Write], *, erase_all: bool, whole: bool) -> str:
        """The command a person would type. It names files and shows none of their content, which holds secrets.

        Args:
            writes: what would be written.
            erase_all: whether the flash is erased first.
            whole: whether the writes make up a whole flash, which `--image` puts into one file.
        """
        words = self._command("write-flash", self.stub) + (["--erase-all"] if erase_all else [])
        if whole:
            return f"{shlex.join(['esptool', *words[3:], '0x0', 'FLASH.bin'])}, with FLASH.bin from --image FLASH.bin"
        for write in writes:
            words += [hex(write.offset), write.title]
        return shlex.join(["esptool", *words[3:]])

    def _stays(self, command: str) -> bool:
        return self.stay and command in ("flash-id", "read-flash") and "ESPTOOL_AFTER" not in os.environ

    def _command(self, command: str, stub: bool) -> list[str]:
        speed = SLOW if self._slow else self.baud
        # left to itself esptool compresses with its stub only; the boot loaders can do it too, and most of a file system is empty
        squeezed = command == "write-flash" and not stub
        return [
            sys.executable,
            "-m",
            "esptool",
            "--port",
            self.port,
            *(("--chip", self.chip) if self.chip else ()),
            *(("--baud", str(speed)) if speed else ()),
            *(() if stub else ("--no-stub",)),
            *(("--after", "no-reset") if self._stays(command) else ()),
            command,
            *(("--compress",) if squeezed else ()),
        ]

    def _run(
        self,
        command: str,
        words: Sequence[str],
        files: Sequence[PrivateFile],
        progress: Progress | None,
        stub: bool | None = None,
    ) -> str:
        stub = self.stub if stub is None else stub
        self._waits = self._stays(command)
        began = time.monotonic()
        try:
            code, said = self._session(self._command(command, stub), words, files, progress)
            if code and stub and _stub_did_not_start(said):
                self.stub = stub = False
                code, said = self._session(self._command(command, stub), words, files, progress)
            if code and not self._slow and self._may_be_speed(said):
                # the port may be gone and back: give it the time to enumerate
                self._slow = True
                time.sleep(0.5)
                first = said
                code, said = self._session(self._command(command, stub), words, files, progress)
                if code and _refused_to_open(said):
                    said = first  # it went away for good: what matters is when it did
        finally:
            self.wire_s += time.monotonic() - began
        if code:
            raise failure(command, said, self.port)
        return said

    def _may_be_speed(self, said: str) -> bool:
        faster = not self.baud or self.baud > SLOW
        return faster and "Changing baud rate" in said and not _refused_to_open(said)

    def _session(
        self,
        command: Sequence[str],
        words: Sequence[str],
        files: Sequence[PrivateFile],
        progress: Progress | None,
    ) -> tuple[int, str]:
        child = subprocess.Popen(
            [*command, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[file.descriptor for file in files if file.descriptor is not None],
            env=_environment(os.environ),
            start_new_session=True,  # Ctrl-C ends it through us, after which the files it read are gone
        )
        assert child.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_pump, args=(child.stdout.fileno(), lines), daemon=True)
        reader.start()
        said: list[str] = []
        try:
            while True:
                try:
                    line = lines.get(timeout=SILENCE_S)
                except queue.Empty:
                    said.append(f"A fatal error occurred: esptool said nothing for {SILENCE_S:.0f} s")
                    _end(child)
                    return 1, "\n".join(said)
                if line is None:
                    break
                said.append(line)
                if self.verbose is not None:
                    self.verbose(line)
                met = _PROGRESS.search(line)
                if met and progress is not None:
                    progress(met[1].lower(), float(met[2]) / 100)
            return child.wait(), "\n".join(said)
        finally:
            _end(child)
            reader.join(1)
            child.stdout.close()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """esptool's environment: ours, with words of a fixed width and language, and without our secrets."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("FLASH_", "SENSORHUB_"))}
    return {
        **kept,
        "COLUMNS": "400",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
    }


def _pump(descriptor: int, lines: queue.Queue[str | None]) -> None:
    rest = b""
    while True:
        try:
            chunk = os.read(descriptor, 4096)
        except OSError:
            chunk = b""
        if not chunk:
            break
        *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
        for line in whole:
            lines.put(_ANSI.sub("", line.decode("utf-8", "replace")).rstrip())
    if rest:
        lines.put(_ANSI.sub("", rest.decode("utf-8", "replace")).rstrip())
    lines.put(None)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(3)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def parse_chip(said: str) -> Chip:
    """What `flash-id` printed.

    Raises:
        FlashError: it names no chip.
    """

    def find(pattern: str) -> str:
        met = re.search(pattern, said, re.MULTILINE)
        return met[1].strip() if met else ""

    name = find(r"^Connected to (ESP\S+)") or find(r"Detecting chip type\W+(ESP\S+)")
    mac = find(r"^MAC:\s+(\S+)")
    if not name or not mac:
        raise FlashError(Exit.NO_ANSWER, "esptool did not say which chip it found")
    size = find(r"^Detected flash size:\s+(\S+)")
    met = re.fullmatch(r"(\d+)(KB|MB)", size)
    flash = int(met[1]) << {"KB": 10, "MB": 20}[met[2]] if met else None
    features = find(r"^Features:\s+(.+)$")
    psram = True if re.search(r"PSRAM", features, re.IGNORECASE) else None
    return Chip(
        name.lower().replace("-", ""), find(r"^Chip type:\s+(.+)$") or name, mac.lower(), flash, psram
    )


def _stub_did_not_start(said: str) -> bool:
    """The chip's own boot loader took the stub and then nothing came of it: some emulators and bridges are like that."""
    return "Uploading stub" in said and "Stub flasher running" not in said and not _refused_to_open(said)


def _refused_to_open(said: str) -> bool:
    return (
        re.search(r"could not open|port is busy|doesn't exist|Permission denied|Errno 2\]", said, re.I)
        is not None
    )


def failure(command: str, said: str, port: str) -> FlashError:
    """The error that an unsuccessful run of esptool amounts to."""
    reasons = [
        line
        for line in said.splitlines()
        if re.search(r"error|fail|exception", line, re.I) and not re.search(r"\bnote: ", line, re.I)
    ]
    # its command line ends without a word when it writes to a connection that the other side has closed (EPIPE)
    reason = reasons[-1].strip() if reasons else "esptool ended without a word, as when a connection breaks"
    reason = reason.removeprefix("ERROR: ").removeprefix("A fatal error occurred: ")

    def has(pattern: str) -> bool:
        return re.search(pattern, said, re.IGNORECASE) is not None

    if has(r"No module named '?esptool"):
        return FlashError(Exit.MISSING_PART, "esptool is not installed")
    if has(r"Permission denied|Errno 13"):
        return FlashError(Exit.PORT_DENIED, f"{port} may not be opened")
    # Windows denies access to a port that another program has open
    if has(r"Device or resource busy|exclusively lock|Errno 16|Access is denied"):
        return FlashError(Exit.PORT_BUSY, f"{port} is in use")
    begun = has(r"^(Connected to|Uploading stub|Chip type)") or "Connected to" in said
    if not begun:
        if has(
            r"could not open|doesn't exist|No such file|Connection refused|Name or service|could not configure"
        ):
            return FlashError(Exit.NO_PORT, f"{port} cannot be opened: {reason}")
        if has(r"This chip is|Unexpected chip|wrong chip|not match the .*chip"):
            return FlashError(Exit.WRONG_CHIP, reason)
        return FlashError(Exit.NO_ANSWER, f"no bootloader answers at {port}: {reason}")
    if has(r"This chip is|Unexpected chip|wrong chip|--chip argument"):
        return FlashError(Exit.WRONG_CHIP, reason)
    if has(r"MD5 of file does not match|Hash of data .*not|digest mismatch|File .*MD5"):
        return FlashError(Exit.VERIFY, f"the flash does not hold what was written: {reason}")
    if not reasons or has(
        r"SerialException|device reports readiness|socket disconnected|Connection (reset|lost|closed)|Broken pipe|"
        r"Input/output error|not configured|No serial data received|Packet content transfer stopped|Write timeout|timed out|"
        r"lost connection|said nothing|Port is closed"
    ):
        if command == "read-flash":
            return FlashError(Exit.UNPLUGGED, f"{port} went away while the board was read: {reason}")
        return FlashError(Exit.UNPLUGGED, f"{port} went away: {reason}")
    if command == "read-flash":
        return FlashError(Exit.BACKUP, f"the board cannot be read: {reason}")
    return FlashError(Exit.WRITE, f"esptool failed: {reason}")
