"""One board, from blank to its first verified reading: the eight steps."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from flashing import application, images, littlefs_image, node_json, nvs_image, partitions, ports, settings
from flashing.bootloader import FAST, Bootloader, Chip, Write
from flashing.exits import Exit, FlashError
from flashing.hardware import Hardware
from flashing.node_json import Identity
from flashing.partitions import Layout
from flashing.private import write_private
from flashing.registration import KEYS, Carried, Claimed, Enrolment, Local, Registrar, Remote, new_identity
from flashing.settings import Broker, Sources
from flashing.steps import Screen, Step
from flashing.watch import ApiWatch, LogWatch, Sight, Watch, wait

STEPS: Final = ("port", "micropython", "chip", "backup", "image", "write", "register", "reading")
KEEP: Final = "keep"
ERASE: Final = "erase"
_CONFIGURATION: Final = (node_json.FILE, node_json.CA_FILE)
_SLOT, _TRIAL = 2, 3  # bytes of the record `life` in NVS (firmware/nodeboot.py)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; no secret is among it.

    Attributes:
        site: name of the site.
        name: name of the node.
        owner: account address (20 bytes), or None.
        place: geohash of five characters, or empty.
        port: device or URL; empty to find it.
        baud: speed, 0 for the usual.
        stub: whether esptool may use its stub.
        firmware: a MicroPython image; None for the pinned one.
        sha256: of that image; empty when not given.
        offline: never fetch an image.
        existing: `keep` or `erase` what is on the board; empty to refuse a board that is a node.
        backup: whether what is on the board is saved first.
        backup_dir: where.
        interval, publish: seconds; 0 for the kind's own.
        ntp: time servers; empty for the firmware's own.
        timeout: seconds to wait for the announce, and then for the first reading beyond the node's own interval.
        dry_run: touch neither board nor gateway.
        image: write the whole flash to this file instead of a board.
        wait: whether to wait for announce and reading.
    """

    site: str
    name: str
    owner: bytes | None = None
    place: str = ""
    port: str = ""
    baud: int = 0
    stub: bool = True
    firmware: Path | None = None
    sha256: str = ""
    offline: bool = False
    existing: str = ""
    backup: bool = True
    backup_dir: Path = Path()
    interval: int = 0
    publish: int = 0
    ntp: tuple[str, ...] = ()
    timeout: float = 30.0
    dry_run: bool = False
    image: Path | None = None
    wait: bool = True


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        key_id: of the node; empty when not waited for.
        mac: of the board; empty without a board.
        reading: the first logged reading in words.
        index: its log index, where it can be told.
        url: where to see it; empty when unknown.
    """

    key_id: str = ""
    mac: str = ""
    reading: str = ""
    index: int | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a board held before.

    Attributes:
        nvs: its NVS partition.
        disk: its file system, read as far as it is looked at.
    """

    nvs: bytes = field(repr=False)
    disk: littlefs_image.Remote = field(repr=False)


@dataclass(slots=True)
class Flash:
    """One run.

    Attributes:
        wishes: what was asked for.
        hardware: the kind of node.
        sources: settings and secrets.
        screen: where it is told.
        environ: the environment.
        claimed: a claim made on the gateway before, or None.
        carried: file to write for a gateway out of reach, or None.
        ask_port: lets a person choose among several ports; None when nobody is there.
        taken: name of the node that a board with this MAC became in this batch, or nothing.
    """

    wishes: Wishes
    hardware: Hardware
    sources: Sources
    screen: Screen
    environ: Mapping[str, str] = field(repr=False)
    claimed: Claimed | None = None
    carried: Path | None = None
    ask_port: Callable[[Sequence[ports.Port]], ports.Port] | None = None
    taken: Callable[[str], str] = lambda _mac: ""

    def run(self) -> Outcome:
        """Does it all.

        Raises:
            FlashError: a step failed; the exit code says which.
        """
        if self.wishes.image is not None or self.wishes.dry_run:
            return self._without_board()
        return self._with_board()

    # -- the two ways

    def _with_board(self) -> Outcome:
        wishes, screen = self.wishes, self.screen
        renewing = wishes.existing == KEEP
        registrar = None if renewing else self._registrar()
        identity = Identity(wishes.site, wishes.name) if renewing else self._identity()
        # a node that is kept knows its networks, broker and keys already
        broker = Broker("", 0) if renewing else self._broker()
        wifi = ("", "") if renewing else self._wifi()
        keys = {} if registrar is None else self._keys(registrar.prepare(self._enrolment(identity)))
        with screen.step(STEPS[0], asks=True) as step:
            port = ports.choose(wishes.port, self.ask_port)
            step.say(str(port))
        image, layout = self._micropython()
        board = Bootloader(
            port.name,
            baud=wishes.baud or (0 if "ESPTOOL_BAUD" in self.environ else FAST),
            stub=wishes.stub,
            stay=True,
            verbose=screen.line if screen.verbose else None,
        )
        with contextlib.ExitStack() as stack:
            stack.callback(board.let_go)
            chip = self._chip(board)
            found = self._backup(board, chip, layout, identity)
            keeping = found is not None and renewing
            writes = self._image(image, layout, identity, broker, wifi, keys, found if keeping else None)
            outcome = Outcome(mac=chip.mac, url=self._page())
            watch = self._watch(stack, identity)
            self._write(board, writes, erase_all=wishes.existing == ERASE)
            self._register(registrar, identity, already=keeping)
            self._await(watch, identity, outcome)
        self._end(outcome, board.wire_s)
        return outcome

    def _without_board(self) -> Outcome:
        wishes, screen = self.wishes, self.screen
        screen.total = 2 if wishes.image is None else 3
        identity = self._identity()
        broker, wifi = self._broker(), self._wifi()
        registrar = self.claimed if wishes.dry_run else self._registrar(needed=False)
        keys = self._keys({} if registrar is None else registrar.prepare(self._enrolment(identity)))
        image, layout = self._micropython()
        writes = self._image(image, layout, identity, broker, wifi, keys, None)
        if wishes.image is not None:
            with screen.step("merge") as step:
                merged = merge(writes, self.hardware.flash_bytes)
                try:
                    write_private(wishes.image, merged)
                except OSError as error:
                    raise FlashError(
                        Exit.SETTINGS, f"{wishes.image} cannot be written: {error.strerror}"
                    ) from None
                step.say(
                    f"{wishes.image}, {len(merged) >> 20} MB from address 0, mode 0600: it holds secrets"
                )
            if registrar is not None and not wishes.dry_run:
                screen.line(f"registered: {registrar.register(self._enrolment(identity))}")
        else:
            board = Bootloader(wishes.port or "PORT", baud=wishes.baud or FAST, stub=wishes.stub)
            screen.line("would run: " + board.manual(writes, erase_all=wishes.existing == ERASE, whole=True))
        self._tell_times(0.0)
        return Outcome()

    # -- what has to be known before the board is touched

    def _registrar(self, *, needed: bool = True) -> Registrar | None:
        if self.claimed is not None:
            return self.claimed
        directory, url = self.sources.find("gateway.dir"), self.sources.find("gateway.url")
        if self.carried is not None:
            return Carried(self.carried, self.sources.need("gateway.token"))
        if directory:
            return Local(Path(directory))
        if url and (needed or self.sources.find("gateway.token")):
            return Remote(url, self.sources.need("gateway.token"))
        if not needed:
            return None
        raise FlashError(
            Exit.SETTINGS,
            "no gateway is named, so the node would be refused",
            "Say --gateway-dir DIR, --claim FILE, or --gateway URL with a token.",
        )

    def _identity(self) -> Identity:
        if self.claimed is not None:
            made = self.claimed.identity
            asked = (self.wishes.site, self.wishes.name)
            if asked != (made.site, made.name):
                raise FlashError(
                    Exit.CLAIM,
                    f"{self.claimed.path} is for {made.site}/{made.name}, not {'/'.join(asked)}",
                    f"Say --site {made.site} --name {made.name}, or name the right file.",
                )
            if self.claimed.kind not in ("", self.hardware.kind):
                raise FlashError(
                    Exit.CLAIM,
                    f"{self.claimed.path} is for a {self.claimed.kind} node, not for a {self.hardware.kind} node",
                    f"Say tools/flash {self.claimed.kind}, or name the right file.",
                )
            if made.password:
                return made
            return replace(made, password=self.sources.find("broker.password") or "")
        return new_identity(self.wishes.site, self.wishes.name, self.sources.find("broker.password") or "")

    def _enrolment(self, identity: Identity) -> Enrolment:
        wishes = self.wishes
        replace = wishes.existing == ERASE
        return Enrolment(identity, self.hardware.kind, wishes.owner, wishes.place, replace)

    def _keys(self, of_gateway: Mapping[str, str]) -> dict[str, str]:
        """The public keys that the node will obey: those that were said, else the gateway's."""
        found = {name: self.sources.find(f"gateway.{name}_key") or of_gateway.get(name, "") for name in KEYS}
        return {name: key.lower() for name, key in found.items() if key}

    def _broker(self) -> Broker:
        directory = self.sources.find("gateway.dir")
        fallback = settings.local_broker(Path(directory)) if directory else ""
        if fallback.partition(":")[0] in ("127.0.0.1", "localhost", "::1") and not self.sources.find(
            "broker.host"
        ):
            raise FlashError(
                Exit.SETTINGS,
                f"the gateway's broker listens at {fallback}, which no node can reach",
                "Set mqtt.host of the gateway to an address of this computer, or say --broker HOST:PORT.",
            )
        return settings.broker(self.sources, fallback)

    def _wifi(self) -> tuple[str, str]:
        return settings.wifi(self.sources)

    def _page(self) -> str:
        url = self.sources.find("gateway.url")
        directory = self.sources.find("gateway.dir")
        if not url and directory:
            try:
                status = json.loads((Path(directory) / "status" / "web.json").read_text(encoding="utf-8"))
                url = str(status["url"]).rstrip("/")
            except (OSError, ValueError, KeyError):
                return ""
        return f"{url}/#node={self.wishes.name}" if url else ""

    # -- the steps

    def _micropython(self) -> tuple[images.Image, Layout]:
        wishes, hardware = self.wishes, self.hardware
        with self.screen.step(STEPS[1]) as step:
            if wishes.firmware is not None:
                image = images.from_file(wishes.firmware, wishes.sha256)
            else:
                image = images.from_manifest(
                    hardware.firmware,
                    hardware.chip,
                    wishes.sha256,
                    cache=images.cache_directory(self.environ),
                    offline=wishes.offline,
                    origin=hardware.firmware_from,
                    progress=lambda done, total: step.bar("fetching", done / (total or images.LARGEST)),
                )
            layout = partitions.layout_of(image.content, hardware.chip, hardware.flash_bytes)
            vfs = layout.find("vfs")
            trust = "as expected" if image.trusted else "not compared with anything: say --sha256"
            note = ""
            if hardware.vfs is not None and hardware.vfs != (vfs.offset, vfs.size):
                note = f"; its file system is at {vfs.offset:#x}, {vfs.size >> 10} kB, unlike node.toml's"
            step.say(f"{Path(image.name).name}, SHA-256 {image.sha256[:16]}… {trust}{note}")
            return image, layout

    def _chip(self, board: Bootloader) -> Chip:
        hardware = self.hardware
        with self.screen.step(STEPS[2]) as step:
            chip = board.describe()
            if chip.name != hardware.chip:
                raise FlashError(
                    Exit.WRONG_CHIP,
                    f"the board has an {chip.name}, a {hardware.kind} node an {hardware.chip}",
                )
            if chip.flash_bytes is not None and chip.flash_bytes < hardware.flash_bytes:
                raise FlashError(
                    Exit.SMALL_FLASH,
                    f"the board has {chip.flash_bytes / 2**20:g} MB of flash, a {hardware.kind} node "
                    f"{hardware.flash_bytes / 2**20:g} MB",
                )
            if self.taken(chip.mac):
                raise FlashError(
                    Exit.OCCUPIED,
                    f"this board is {self.taken(chip.mac)} of the same batch",
                    "Plug in the next board.",
                )
            board.chip = chip.name
            size = f"{chip.flash_bytes >> 20} MB" if chip.flash_bytes else "unknown size"
            psram = (
                "PSRAM"
                if chip.psram
                else "PSRAM not visible from here"
                if hardware.psram_bytes
                else "no PSRAM"
            )
            if (
                hardware.psram_bytes
                and chip.psram is None
                and chip.name not in ("esp32", "esp32s2", "esp32s3")
            ):
                raise FlashError(
                    Exit.NO_PSRAM, f"an {chip.name} has no PSRAM, a {hardware.kind} node needs it"
                )
            step.say(f"{chip.description}, flash {size}, {psram}, MAC {chip.mac}")
            return chip

    def _backup(self, board: Bootloader, chip: Chip, layout: Layout, identity: Identity) -> Found | None:
        """What is on the board, saved; None for a board that is no node or is not looked at."""
        wishes = self.wishes
        with self.screen.step(STEPS[3]) as step:
            if not wishes.backup and wishes.existing != KEEP:
                step.say("left out")
                return None
            nvs = layout.find("nvs")
            there = self._table(board, step)
            content = board.read(nvs.offset, nvs.size, step.bar) if nvs in there else b""
            if not nvs_image.holds_node(content):
                step.say("nothing to save: the board is no node")
                if wishes.existing == KEEP:
                    raise FlashError(
                        Exit.OCCUPIED,
                        "the board is no node, so there is nothing to keep",
                        "Leave out --keep.",
                    )
                return None
            if not wishes.existing:
                raise FlashError(Exit.OCCUPIED, f"the board {chip.mac} is a node already")
            vfs = layout.find("vfs")
            if vfs not in there and any(part.label == "vfs" for part in there):
                raise FlashError(
                    Exit.OCCUPIED,
                    "the board's flash is divided in another way than the new image's",
                    "Say --erase --no-backup to make a new node of it.",
                )
            found = Found(
                content,
                littlefs_image.Remote(
                    vfs.size, lambda offset, size: board.read(vfs.offset + offset, size, step.bar)
                ),
            )
            where = self._save(found, chip)
            step.say(f"saved in {where}, without the private key")
            if wishes.existing == KEEP:
                self._same_node(found, identity)
            return found

    def _table(self, board: Bootloader, step: Step) -> tuple[partitions.Partition, ...]:
        """The board's own partition table; empty when it has none."""
        for size in (partitions.TABLE_MOSTLY, partitions.TABLE_BYTES):
            content = board.read(partitions.TABLE_OFFSET, size, step.bar)
            try:
                if partitions.is_whole(content):
                    return partitions.parse_table(content)
            except ValueError:
                return ()
        return ()

    def _save(self, found: Found, chip: Chip) -> Path:
        wishes = self.wishes
        where = wishes.backup_dir / f"{chip.mac.replace(':', '')}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            where.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(where / "nvs-without-key.bin", nvs_image.without_private_key(found.nvs))
            for name, content in littlefs_image.read_some(found.disk, _CONFIGURATION).items():
                write_private(where / name, content)
        except OSError as error:
            raise FlashError(Exit.BACKUP, f"{where} cannot be written: {error.strerror}") from None
        except FlashError:
            if wishes.existing == KEEP:
                raise
            # a node without a readable configuration is about to end anyway
        return where

    def _same_node(self, found: Found, identity: Identity) -> None:
        try:
            configured = json.loads(littlefs_image.read_some(found.disk, _CONFIGURATION)[node_json.FILE])
            there = configured["site"], configured["node"]
        except (ValueError, KeyError, TypeError):
            raise FlashError(
                Exit.OCCUPIED,
                f"the board is a node, but its {node_json.FILE} cannot be read",
                "Say --erase instead of --keep to make a new node of it.",
            ) from None
        if there != (identity.site, identity.name):
            raise FlashError(
                Exit.OCCUPIED,
                f"the board is the node {there[0]}/{there[1]}",
                f"Say --site {there[0]} --name {there[1]} with --keep, or --erase.",
            )

    def _image(
        self,
        image: images.Image,
        layout: Layout,
        identity: Identity,
        broker: Broker,
        wifi: tuple[str, str],
        keys: Mapping[str, str],
        kept: Found | None,
    ) -> list[Write]:
        """Everything to write, in the order of addresses."""
        hardware, wishes = self.hardware, self.wishes
        with self.screen.step(STEPS[4]) as step:
            vfs, nvs = layout.find("vfs"), layout.find("nvs")
            pins = {} if hardware.pins is None else {"pins.py": hardware.pins}
            files = application.compile_all(application.ARCHITECTURES[hardware.chip], more=pins)
            size = sum(map(len, files.values()))
            writes = [Write(partitions.CHIPS[hardware.chip][1], image.content, Path(image.name).name)]
            if kept is not None:
                # neither its key and counters nor its unsent messages are touched: NVS, which holds them in one place with the
                # count of failed starts, is left to the firmware
                files = _in_slots(files, _slots_in_use(kept.nvs)) | application.renewed()
                littlefs_image.update(kept.disk, files, remove=_former(littlefs_image.top(kept.disk)))
                writes = _around(writes[0], nvs)
                writes += [
                    Write(vfs.offset + offset, content, "vfs-part.bin")
                    for offset, content in kept.disk.changes()
                ]
            else:
                interval = wishes.interval or hardware.interval
                publish = wishes.publish or max(hardware.publish // interval, 1) * interval
                if broker.ca:
                    files[node_json.CA_FILE] = broker.ca
                secrets = node_json.credentials(identity, wifi)
                files[node_json.FILE] = node_json.compose(
                    hardware,
                    identity,
                    broker,
                    secrets,
                    interval=interval,
                    publish=publish,
                    spool=node_json.spool_bytes(vfs.size, size),
                    ntp=wishes.ntp,
                    keys=keys,
                )
                otadata = [part for part in layout.partitions if part.type == 1 and part.subtype == 0]
                writes = _around(writes[0], nvs, *otadata)
                values: dict[str, Mapping[str, nvs_image.Value]] = {nvs_image.CREDENTIALS: secrets}
                if broker.ca:
                    values[nvs_image.NAMESPACE] = {nvs_image.DATE: _today()}
                writes.append(Write(nvs.offset, nvs_image.build(values, nvs.size), "nvs.bin"))
                writes += [Write(part.offset, b"\xff" * part.size, "otadata.bin") for part in otadata]
                writes.append(Write(vfs.offset, littlefs_image.build(files, vfs.size), "vfs.bin"))
            unknown = kept is None and "site" not in keys and not wishes.dry_run
            note = "; no site key, so no signed settings" if unknown else ""
            step.say(f"{len(files)} files, {size / 1024:.0f} kB of application {application.version()}{note}")
        return sorted(writes, key=lambda write: write.offset)

    def _watch(self, stack: contextlib.ExitStack, identity: Identity) -> Watch | None:
        """Where the node will be seen to arrive, from before it starts; None when that is not waited for."""
        if not self.wishes.wait or self.carried is not None:
            return None
        directory, url = self.sources.find("gateway.dir"), self.sources.find("gateway.url")
        watch: Watch | None = None
        if directory:
            watch = LogWatch(Path(directory), identity.site, identity.name)
        elif url:
            watch = ApiWatch(url, identity.site, identity.name)
        if watch is not None:
            stack.callback(watch.close)
        return watch

    def _write(self, board: Bootloader, writes: list[Write], *, erase_all: bool) -> None:
        with self.screen.step(STEPS[5]) as step:
            sizes = [len(write.content) for write in writes]
            position = {"index": 0, "part": 0.0}

            def show(_what: str, part: float) -> None:
                if part < position["part"]:
                    position["index"] = min(position["index"] + 1, len(sizes) - 1)
                position["part"] = part
                index = int(position["index"])
                done = sum(sizes[:index]) + part * sizes[index]
                step.bar(f"writing {writes[index].title}", done / sum(sizes))

            before = board.wire_s
            try:
                board.write(writes, erase_all=erase_all, progress=show)
            finally:
                spent = board.wire_s - before
            step.say(
                f"{sum(sizes) / 1024:.0f} kB in {len(writes)} parts, each verified, {spent:.1f} s on the wire"
            )
        if board.port.startswith("socket:"):
            self.screen.line("    reset the board now: a TCP socket has no line for it")
        whole = self.wishes.existing != KEEP
        self.screen.line("    by hand: " + board.manual(writes, erase_all=erase_all, whole=whole))

    def _register(self, registrar: Registrar | None, identity: Identity, *, already: bool) -> None:
        with self.screen.step(STEPS[6]) as step:
            if already or registrar is None:
                step.say("kept: the node is enrolled already")
            else:
                step.say(registrar.register(self._enrolment(identity)))

    def _await(
        self,
        watch: Watch | None,
        identity: Identity,
        outcome: Outcome,
    ) -> None:
        wishes, hardware = self.wishes, self.hardware
        with self.screen.step(STEPS[7]) as step:
            if watch is None:
                unseen = wishes.wait and self.carried is None
                step.say("not waited for" + (": no --gateway or --gateway-dir to look at" if unseen else ""))
                return
            sight = wait(
                watch, lambda seen: bool(seen.key_id), wishes.timeout, lambda part: step.bar("announce", part)
            )
            if not sight.key_id:
                raise FlashError(
                    Exit.NO_ANNOUNCE, f"no announce of {identity.name} within {wishes.timeout:g} s"
                )
            outcome.key_id = sight.key_id
            sight = self._reading(watch, step.bar, hardware)
            if not sight.reading:
                raise FlashError(
                    Exit.NO_READING,
                    f"{identity.name} (key {sight.key_id}) announced itself, but no reading was logged within "
                    f"{self._patience(hardware):g} s"
                    + (f"; it said {sight.failing}" if sight.failing else ""),
                )
            outcome.reading, outcome.index = sight.reading, sight.index
            where = f", log entry {sight.index}" if sight.index is not None else ""
            step.say(f"{sight.reading}{where}")

    def _reading(self, watch: Watch, bar: Callable[[str, float], None], hardware: Hardware) -> Sight:
        return wait(
            watch,
            lambda seen: bool(seen.reading),
            self._patience(hardware),
            lambda part: bar("first reading", part),
        )

    def _patience(self, hardware: Hardware) -> float:
        interval = self.wishes.interval or hardware.interval
        return self.wishes.timeout + interval + (self.wishes.publish or hardware.publish)

    # -- the end

    def _end(self, outcome: Outcome, wire_s: float) -> None:
        screen = self.screen
        self._tell_times(wire_s)
        if not outcome.reading:
            screen.line("WRITTEN, not seen by a gateway yet")
            return
        screen.line("PASS")
        screen.line(f"key id  {outcome.key_id}")
        if outcome.url:
            screen.line(f"see it  {outcome.url}")
        screen.code(
            outcome.url or f"urn:dev:sensorhub:{self.wishes.site}:{self.wishes.name}:{outcome.key_id}"
        )

    def _tell_times(self, wire_s: float) -> None:
        times = self.screen.times
        whole = sum(times.values())
        waited = times.get(STEPS[7], 0.0)
        self.screen.line(
            f"image built in {times.get(STEPS[4], 0.0):.1f} s; esptool {wire_s:.1f} s; waiting for the node {waited:.1f} s; "
            f"all else {whole - wire_s - waited:.1f} s"
        )


def merge(writes: list[Write], flash_bytes: int) -> bytes:
    """The whole flash as one image from address 0."""
    whole = bytearray(b"\xff" * flash_bytes)
    for write in writes:
        whole[write.offset : write.offset + len(write.content)] = write.content
    return bytes(whole)


def _today() -> int:
    """The last midnight (UTC) in minutes since 1970, or that of SOURCE_DATE_EPOCH: a date that is past for certain, by which a
    node without time servers can judge the broker's certificate."""
    set_date = os.environ.get("SOURCE_DATE_EPOCH", "")
    if set_date and not (set_date.isascii() and set_date.isdigit()):
        raise FlashError(
            Exit.SETTINGS, f"SOURCE_DATE_EPOCH is {set_date!r}", "Give Unix seconds, or leave it unset."
        )
    return int(set_date or time.time()) // 86_400 * 1440


def _around(image: Write, *others: partitions.Partition) -> list[Write]:
    """The MicroPython image without partitions that its file covers with emptiness: they stay, or are written by themselves, and
    esptool takes no two parts for one place.

    A complete image is one piece from the bootloader to the end of the application, and NVS lies between.
    """
    parts = []
    start, end, title = image.offset, image.offset + len(image.content), image.title
    for other in sorted(others, key=lambda part: part.offset):
        if start < other.offset < end:
            title = f"micropython-before-{other.label}.bin" if start == image.offset else title
            content = image.content[start - image.offset : other.offset - image.offset]
            parts.append(Write(start, content, title))
        if other.offset < end:
            start, title = other.end, f"micropython-after-{other.label}.bin"
    if start < end:
        parts.append(Write(start, image.content[start - image.offset :], title))
    return parts


def _former(names: Sequence[str]) -> list[str]:
    """Those of the names at the root that are an older application."""
    folders = {application.PACKAGE, *application.slots()}
    return [name for name in names if Path(name).suffix in (".py", ".mpy") or name in folders]


def _slots_in_use(nvs: bytes) -> tuple[int, ...]:
    """The application slots that a node may start from: the confirmed one, and one on trial."""
    life = nvs_image.parse(nvs).get(nvs_image.NAMESPACE, {}).get("life")
    if not isinstance(life, bytes) or len(life) <= _TRIAL:
        return (0,)
    return tuple(sorted({slot for slot in (life[_SLOT], life[_TRIAL]) if slot in (0, 1)})) or (0,)


def _in_slots(files: Mapping[str, bytes], slots: tuple[int, ...]) -> dict[str, bytes]:
    """The application in the slots that are in use; a layout without slots stays as it is."""
    names = application.slots()
    if not names:
        return dict(files)
    first = f"{names[0]}/"
    placed = {path: content for path, content in files.items() if not path.startswith(first)}
    for slot in slots:
        for path, content in files.items():
            if path.startswith(first):
                placed[f"{names[slot]}/{path.removeprefix(first)}"] = content
    return placed
