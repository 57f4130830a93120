"""The command line of `tools/flash`. It parses and prints; the work is in the other modules."""

from __future__ import annotations

import dataclasses
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from flashing import application as applications
from flashing import doctor as doctor_room
from flashing import factory as factory_room
from flashing import hardware, images, monitor, ports, registration, settings, steps
from flashing.bootloader import Bootloader
from flashing.exits import TABLE, Exit, FlashError
from flashing.exits import document as exit_table
from flashing.flow import ERASE, KEEP, STEPS, Flash, Outcome, Wishes
from flashing.private import tidy_on_sigterm
from flashing.registration import Claimed, Local

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From a blank ESP32 to a first verified reading: tools/flash KIND --site SITE --name NAME.",
)

_STATE: Final = Path(
    os.environ.get("XDG_STATE_HOME") or Path(os.environ.get("HOME", ".")) / ".local" / "state"
)

Site = Annotated[str, typer.Option(help="Name of the site.")]
PortOption = Annotated[
    str,
    typer.Option("--port", "-p", help="Device or pyserial URL: /dev/ttyUSB0, COM3, socket://, rfc2217://."),
]
Baud = Annotated[int, typer.Option(help="Speed of the port; falls back to 115200 by itself.")]
NoStub = Annotated[bool, typer.Option("--no-stub", help="Talk to the chip's own boot loader only.")]
SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="Settings file; default is flash.toml here.")
]
Firmware = Annotated[Path | None, typer.Option(help="MicroPython image to use instead of the pinned one.")]
Sha256 = Annotated[str, typer.Option(help="SHA-256 that the image must have.")]
Offline = Annotated[bool, typer.Option(help="Never fetch an image; take it from the cache.")]
Ssid = Annotated[str, typer.Option("--wifi", help="Name of the Wi-Fi network.")]
OpenNetwork = Annotated[bool, typer.Option("--open", help="The network has no password.")]
BrokerOption = Annotated[
    str, typer.Option("--broker", help="The MQTT broker as the node reaches it: HOST[:PORT].")
]
Ca = Annotated[str, typer.Option("--ca", help="CA certificate of a broker with TLS.")]
GatewayUrl = Annotated[
    str, typer.Option("--gateway", help="URL of the gateway, for example http://hub:8080.")
]
GatewayDir = Annotated[
    str, typer.Option("--gateway-dir", help="Data directory of a gateway on this computer.")
]
Timeout = Annotated[
    float,
    typer.Option(help="Seconds to wait for the announce, and for a reading beyond the node's own interval."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print what esptool prints.")]


def _sources(file: Path | None, given: dict[str, str], open_network: bool) -> settings.Sources:
    url = given.get("gateway.url", "")
    if url and not url.startswith(("http://", "https://")):
        raise FlashError(Exit.SETTINGS, f"--gateway {url!r} is no URL", "Begin it with http:// or https://.")
    given["gateway.url"] = url.rstrip("/")
    values = settings.load_file(file, Path.cwd())
    if open_network:
        values["wifi.password"] = ""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not (open_network and name == settings.PREFIX + "WIFI_PASSWORD")
    }
    return settings.Sources(given, environ, values, steps.prompt if steps.interactive() else None)


def _node(kind: str) -> Callable[..., None]:
    def command(
        site: Site,
        name: Annotated[str, typer.Option(help="Name of the node.")],
        owner: Annotated[str, typer.Option(help="Owner's account address on the chain, 0x...")] = "",
        place: Annotated[str, typer.Option(help="Coarse place as a geohash of five characters.")] = "",
        port: PortOption = "",
        baud: Baud = 0,
        no_stub: NoStub = False,
        firmware: Firmware = None,
        sha256: Sha256 = "",
        offline: Offline = False,
        keep: Annotated[
            bool,
            typer.Option("--keep", help="Renew the software of a node; its key, settings and spool stay."),
        ] = False,
        erase: Annotated[
            bool, typer.Option("--erase", help="Erase the whole flash; a node that was there ends.")
        ] = False,
        no_backup: Annotated[
            bool, typer.Option("--no-backup", help="Do not look at what is on the board.")
        ] = False,
        backup_dir: Annotated[Path, typer.Option(help="Where backups go.")] = _STATE / "sensorhub" / "backup",
        wifi: Ssid = "",
        open_network: OpenNetwork = False,
        broker: BrokerOption = "",
        ca: Ca = "",
        gateway: GatewayUrl = "",
        gateway_dir: GatewayDir = "",
        claim: Annotated[
            Path | None, typer.Option(help="Claim file that `sensorhub nodes add` has made.")
        ] = None,
        enrol_file: Annotated[
            Path | None,
            typer.Option(help="Write a signed file to carry to the gateway instead of registering."),
        ] = None,
        interval: Annotated[int, typer.Option(help="Seconds between samples; 0 for the kind's own.")] = 0,
        publish: Annotated[int, typer.Option(help="Seconds between messages; 0 for the kind's own.")] = 0,
        ntp: Annotated[list[str] | None, typer.Option(help="Time server; may be repeated.")] = None,
        timeout: Timeout = 30.0,
        no_wait: Annotated[bool, typer.Option("--no-wait", help="End when the board is written.")] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Build everything, touch neither board nor gateway.")
        ] = False,
        image: Annotated[
            Path | None, typer.Option(help="Write the whole flash to this file instead of a board.")
        ] = None,
        settings_file: SettingsFile = None,
        verbose: Verbose = False,
    ) -> None:
        if keep and erase:
            raise FlashError(Exit.USAGE, "--keep and --erase exclude each other", "Say one of them.")
        registration.check_names(site, name)
        given = {
            "wifi.ssid": wifi,
            "broker.host": broker,
            "broker.ca": ca,
            "gateway.url": gateway,
            "gateway.dir": gateway_dir,
        }
        wishes = Wishes(
            site=site,
            name=name,
            owner=registration.parse_owner(owner),
            place=place,
            port=port,
            baud=baud,
            stub=not no_stub,
            firmware=firmware,
            sha256=sha256,
            offline=offline,
            existing=KEEP if keep else ERASE if erase else "",
            backup=not no_backup,
            backup_dir=backup_dir,
            interval=interval,
            publish=publish,
            ntp=tuple(ntp or ()),
            timeout=timeout,
            dry_run=dry_run,
            image=image,
            wait=not no_wait,
        )
        Flash(
            wishes,
            hardware.load(kind),
            _sources(settings_file, given, open_network),
            steps.Screen(len(STEPS), verbose),
            os.environ,
            claimed=Claimed.load(claim) if claim is not None else None,
            carried=enrol_file,
            ask_port=steps.ask_port if steps.interactive() else None,
        ).run()

    command.__doc__ = f"Flash a{'n' if kind[0] in 'aeiou' else ''} {kind} node."
    return command


for _kind in hardware.kinds():
    app.command(_kind)(_node(_kind))


@app.command()
def doctor(
    port: PortOption = "",
    no_talk: Annotated[
        bool, typer.Option("--no-talk", help="Do not ask the chip; it would be reset.")
    ] = False,
) -> None:
    """Find out why a board cannot be flashed."""
    if not doctor_room.report(doctor_room.examine(port, not no_talk), print):
        raise FlashError(Exit.UNHEALTHY, "something is wrong, see above")


@app.command()
def erase(
    port: PortOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    baud: Baud = 0,
    no_stub: NoStub = False,
    verbose: Verbose = False,
) -> None:
    """Erase a board: MicroPython, node, key, everything."""
    screen = steps.Screen(2, verbose)
    with screen.step("port", asks=True) as step:
        chosen = ports.choose(port, steps.ask_port if steps.interactive() else None)
        step.say(str(chosen))
    if not yes and not (steps.interactive() and steps.confirm(f"erase everything on {chosen}")):
        raise FlashError(Exit.USAGE, "nothing was erased", "Say --yes to erase without a question.")
    board = Bootloader(
        chosen.name, baud=baud, stub=not no_stub, verbose=screen.line if screen.verbose else None
    )
    with screen.step("erase") as step:
        board.erase()
        step.say("the flash is empty")


@app.command()
def logs(
    port: PortOption = "",
    reset: Annotated[bool, typer.Option("--reset", help="Start the node anew first.")] = False,
    seconds: Annotated[float, typer.Option(help="How long; 0 until Ctrl-C.")] = 0.0,
) -> None:
    """Show what a node says on its serial console."""
    chosen = ports.choose(port, steps.ask_port if steps.interactive() else None)
    monitor.follow(chosen.name, reset=reset, seconds=seconds, line=lambda text: print(text, flush=True))


@app.command()
def register(
    file: Annotated[Path, typer.Argument(help="File that tools/flash --enrol-file has written.")],
    gateway_dir: Annotated[str, typer.Option(help="Data directory of the gateway.")] = "data",
    settings_file: SettingsFile = None,
) -> None:
    """On the gateway: take in a file of --enrol-file."""
    sources = _sources(settings_file, {}, open_network=False)
    enrolment = registration.take_in(file, sources.need("gateway.token"))
    local = Local(Path(gateway_dir))
    local.prepare(enrolment)
    print(local.register(enrolment))


@app.command()
def application(
    out: Annotated[Path, typer.Argument(help="New directory, for `sensorhub release sign`.")],
    chip: Annotated[
        str, typer.Option(help="Chip of the boards: esp32, esp32s2, esp32s3, esp32c3, esp32c6.")
    ] = "esp32",
) -> None:
    """Compile the application for an update over the air."""
    count = applications.write_package(out, chip)
    print(f"{out}: version {applications.version()} for {chip}, {count} bytes")


@app.command()
def pin(
    file: Annotated[Path, typer.Argument(help="MicroPython image that you have downloaded and trust.")],
    board: Annotated[
        str, typer.Option(help="MicroPython's name of its board, when the file has another name.")
    ] = "",
) -> None:
    """Vouch for a MicroPython image: record its SHA-256.

    Size and SHA-256 go into tools/firmware.toml, the image into the cache.
    """
    pinned = images.pin(file, board)
    kept = images.keep(pinned, file.read_bytes(), images.cache_directory(os.environ))
    print(f"{pinned.file_name}: {pinned.size} bytes, SHA-256 {pinned.sha256}; kept as {kept}")


@app.command()
def factory(
    csv: Annotated[Path, typer.Option(help="List of nodes: name, kind, site, owner, place, port.")],
    site: Annotated[str, typer.Option(help="Site of lines that name none.")] = "",
    kind: Annotated[str, typer.Option(help="Kind of lines that name none.")] = "",
    labels: Annotated[Path, typer.Option(help="Label sheet to write.")] = Path("labels.pdf"),
    port: PortOption = "",
    baud: Baud = 0,
    no_stub: NoStub = False,
    firmware: Firmware = None,
    sha256: Sha256 = "",
    offline: Offline = False,
    erase_boards: Annotated[
        bool, typer.Option("--erase", help="Erase boards that are nodes already.")
    ] = False,
    wifi: Ssid = "",
    open_network: OpenNetwork = False,
    broker: BrokerOption = "",
    ca: Ca = "",
    gateway: GatewayUrl = "",
    gateway_dir: GatewayDir = "",
    timeout: Timeout = 30.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the nodes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for each board (fixed ports).")] = False,
    settings_file: SettingsFile = None,
    verbose: Verbose = False,
) -> None:
    """Flash many boards from a list, and print their labels.

    Run again it goes on where it ended.
    """
    rows = factory_room.load(csv, {"site": site, "kind": kind})
    record = factory_room.Record(csv)
    given = {
        "wifi.ssid": wifi,
        "broker.host": broker,
        "broker.ca": ca,
        "gateway.url": gateway,
        "gateway.dir": gateway_dir,
    }
    sources = _sources(settings_file, given, open_network)
    # asked for once, not for every board
    asked = {key: sources.need(key) for key in ("wifi.ssid", "wifi.password")}
    sources = dataclasses.replace(sources, file={**sources.file, **asked})

    def one(row: factory_room.Row) -> Outcome:
        wishes = Wishes(
            site=row.site,
            name=row.name,
            owner=registration.parse_owner(row.owner),
            place=row.place,
            port=row.port or port,
            baud=baud,
            stub=not no_stub,
            firmware=firmware,
            sha256=sha256,
            offline=offline,
            existing=ERASE if erase_boards else "",
            backup_dir=_STATE / "sensorhub" / "backup",
            timeout=timeout,
            wait=not no_wait,
        )
        return Flash(
            wishes,
            hardware.load(row.kind),
            sources,
            steps.Screen(len(STEPS), verbose),
            os.environ,
            ask_port=steps.ask_port if steps.interactive() else None,
            taken=record.board_of,
        ).run()

    def ready(row: factory_room.Row) -> bool:
        if yes or not steps.interactive():
            return True
        return steps.prompt(f"plug in the board for {row.name} and press Enter, q to stop", False) != "q"

    left = factory_room.run(rows, record, one, ready, print)
    labels.write_bytes(record.labels(rows))
    print(f"{len(rows) - left} of {len(rows)} done; labels in {labels}")
    if left:
        raise FlashError(Exit.UNFINISHED, f"{left} of {len(rows)} boards are not done")


@app.command("exit-codes", hidden=True)
def exit_codes() -> None:
    """Print the table of exit codes as Markdown."""
    print(exit_table())


def main(run: Callable[[], Any] = app, name: str = "tools/flash") -> int:
    """Entry point: every failure ends with one sentence that says what to do, and its own exit code."""
    tidy_on_sigterm()
    verbose = "--verbose" in sys.argv or "-v" in sys.argv
    try:
        run()
    except FlashError as error:
        print(f"{name}: {error}", file=sys.stderr)
        print(error.remedy, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(f"{name}: stopped. {TABLE[Exit.INTERRUPTED].remedy}", file=sys.stderr)
        return Exit.INTERRUPTED
    except SystemExit as end:
        if end.code == Exit.TERMINATED:
            print(f"{name}: terminated. {TABLE[Exit.TERMINATED].remedy}", file=sys.stderr)
        if end.code == Exit.USAGE:
            print(f"Look at {name} --help.", file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ImportError as error:
        print(f"{name}: a package is missing: {error.name}", file=sys.stderr)
        print(TABLE[Exit.MISSING_PART].remedy, file=sys.stderr)
        return Exit.MISSING_PART
    except Exception as error:  # noqa: BLE001 - the last resort, so that a bug also has its sentence and code
        if verbose:
            traceback.print_exc()
        print(f"{name}: the tool failed: {type(error).__name__}", file=sys.stderr)
        print(TABLE[Exit.BUG].remedy, file=sys.stderr)
        return Exit.BUG
    return Exit.OK
