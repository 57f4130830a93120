"""tools/flash against a mock of the chip's boot loader: what is written, and how each failure ends."""

import hashlib
import json
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
import serial
from flash_parts import (
    LONG,
    TABLE,
    VFS,
    WIFI_PASSWORD,
    Board,
    Line,
    Rfc2217,
    bench,
    micropython_image,
    starting,
)

from flashing import littlefs_image, nvs_image
from flashing.bootloader import FAST, Bootloader, failure
from flashing.exits import TABLE as EXITS
from flashing.exits import Exit

SECRETS = (WIFI_PASSWORD, "mqtt-secret-word", "00112233445566778899aabbccddeeff")


def ended(run, code: Exit) -> str:
    """Everything a run printed, once it has ended with this code and one sentence on what to do."""
    text = run.stdout + run.stderr
    assert run.returncode == code, text
    last = run.stderr.strip().splitlines()[-1]
    assert last.endswith(".")
    for secret in SECRETS:
        assert secret not in text
    return text


def test_everything_is_written_where_it_belongs(tool, board, image_file):
    run = tool.node(board.url(), image_file)
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(f"{number}/8" in run.stdout for number in range(1, 9))
    assert all(secret not in run.stdout + run.stderr for secret in SECRETS)
    flash = board.flash()
    image = image_file.read_bytes()
    assert flash[0x1000:0x9000] == image[:0x8000]
    assert flash[0xF000 : 0x1000 + len(image)] == image[0xE000:]
    files = littlefs_image.read(flash[VFS[3] : VFS[3] + VFS[4]])
    assert {"main.py", "node.json"} <= files.keys()
    assert any(path.endswith("sensornode/app.mpy") for path in files)
    node = json.loads(files["node.json"])
    assert not {"wifi", "claim"} & node.keys()
    assert node["broker"] == {"host": "192.0.2.1", "port": 1883}
    assert not any(secret.encode() in flash[VFS[3] :] for secret in SECRETS)
    assert nvs_image.parse(flash[0x9000:0xF000]) == {
        "credentials": {
            "wifi": f'[{{"ssid":"roof","password":"{WIFI_PASSWORD}"}}]'.encode(),
            "mqtt": b'{"user":"bench-01","password":"mqtt-secret-word"}',
            "claim": bytes.fromhex("00112233445566778899aabbccddeeff"),
        }
    }
    assert node["sensors"] == [{"driver": "tmp105", "scl": 22, "sda": 21, "address": "0x48"}]
    assert "pins.mpy" in files


OTA = (
    ("nvs", 1, 2, 0x9000, 0x4000),
    ("otadata", 1, 0, 0xD000, 0x2000),
    ("phy_init", 1, 1, 0xF000, 0x1000),
    ("ota_0", 0, 0x10, 0x10000, 0x180000),
    ("ota_1", 0, 0x11, 0x190000, 0x180000),
    ("vfs", 1, 0x81, 0x310000, 0xF0000),
)


def test_an_image_with_slots_for_updates_starts_from_the_first(tool, tmp_path):
    image = tmp_path / "ESP32_GENERIC-OTA.bin"
    image.write_bytes(micropython_image(rows=OTA))
    board = Board(tmp_path, flash=bytes(0x10000))  # an old choice of the second slot, for one
    try:
        new = tool.node(board.url(), image)
        assert new.returncode == 0, new.stdout + new.stderr
        flash = bytearray(board.flash())
    finally:
        board.stop()
    content = image.read_bytes()
    assert flash[0x1000:0x9000] == content[:0x8000]
    assert flash[0xD000:0xF000] == b"\xff" * 0x2000
    assert flash[0xF000 : 0x1000 + len(content)] == content[0xE000:]
    assert "credentials" in nvs_image.parse(bytes(flash[0x9000:0xD000]))
    assert "node.json" in littlefs_image.read(bytes(flash[0x310000:]))


def test_a_port_may_be_a_device(tool, image_file, tmp_path):
    board = Board(tmp_path, "--pty")
    try:
        device = board.first
        assert device.startswith("/dev/")
        run = tool.node(device, image_file, "--no-backup")
        assert run.returncode == 0, run.stdout + run.stderr
        assert board.flash()[0x1000:0x9000] == image_file.read_bytes()[:0x8000]
    finally:
        board.stop()


def test_an_open_network_needs_no_password(tool, image_file, tmp_path, monkeypatch, capsys):
    path = tmp_path / "whole.bin"
    words = bench("socket://127.0.0.1:1", image_file, tool.claim())
    run = tool.inside(monkeypatch, capsys, *words, "--image", path, "--open", "--wifi", "attic")
    assert run.returncode == 0, run.stderr
    nvs = nvs_image.parse(path.read_bytes()[0x9000:0xF000])
    assert json.loads(nvs["credentials"]["wifi"]) == [{"ssid": "attic"}]


def test_another_chip_is_refused_before_anything_is_written(tool, image_file, tmp_path):
    board = Board(tmp_path, "--chip", "esp32s3")
    try:
        ended(tool.node(board.url(), image_file), Exit.WRONG_CHIP)
        assert set(board.flash()) == {0xFF}
    finally:
        board.stop()


def test_an_image_with_another_hash_is_refused_before_the_port_is_opened(tool, board, image_file):
    line = Line(board.port)
    run = tool(*bench(line.url, image_file, tool.claim())[:-1], "0" * 64)
    text = ended(run, Exit.FIRMWARE_HASH)
    assert hashlib.sha256(image_file.read_bytes()).hexdigest() in text
    assert line.sent == 0


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: micropython_image(chip_id=9), "esp32s3"),
        (lambda: b"\x7fELF" + bytes(100_000), "no image"),
        (lambda: micropython_image()[:0x7000], "partition table"),
        (lambda: micropython_image().replace(b"factory\0", b"factorx\0"), "MD5"),
        (lambda: micropython_image(rows=(*TABLE, (*VFS[:4], 14 << 20))), "16 MB"),
    ],
)
def test_an_image_that_cannot_be_right_is_refused(tool, tmp_path, made, why, monkeypatch, capsys):
    path = tmp_path / "image.bin"
    path.write_bytes(made())
    words = bench("socket://127.0.0.1:1", path, tool.claim())
    assert why in ended(tool.inside(monkeypatch, capsys, *words), Exit.FIRMWARE_UNFIT)


def test_a_hash_that_does_not_come_back_is_told(tool, board, image_file):
    """The line changes the digest that the board sends after a part is written."""

    def disturb(data: bytes, sent: int) -> bytes:
        # an answer to SPI_FLASH_MD5: 0xC0, direction 1, command 0x13, then the digest after 8 bytes of header
        at = data.find(b"\xc0\x01\x13")
        if at < 0:
            return data
        changed = bytearray(data)
        changed[at + 12] = changed[at + 12] % 100 + 1
        return bytes(changed)

    line = Line(board.port, disturb)
    ended(tool.node(line.url, image_file, "--no-backup"), Exit.VERIFY)


def test_a_board_that_is_unplugged_in_the_middle_is_told(tool, board, image_file, tmp_path):
    line = Line(board.port, lambda data, sent: data if sent < 60_000 else None)
    impatient = tmp_path / "esptool.cfg"
    impatient.write_text("[esptool]\ntimeout = 30\nwrite_block_attempts = 1\nconnect_attempts = 1\n")
    run = tool.node(line.url, image_file, "--no-backup", ESPTOOL_CFGFILE=str(impatient))
    assert run.returncode in (Exit.UNPLUGGED, Exit.NO_PORT), run.stdout + run.stderr
    ended(run, run.returncode)
    assert line.sent >= 60_000


def test_a_chip_that_does_not_start_the_stub_is_written_without_it(tool, board, image_file):
    line = Line(board.port, lambda data, sent: data.replace(b"OHAI", b"NOPE"))
    run = tool.node(line.url, image_file, "--no-backup")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "--no-stub write-flash --compress" in run.stdout
    assert board.flash()[0x1000:0x9000] == image_file.read_bytes()[:0x8000]


def test_a_serial_server_that_refuses_the_speed(board, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "impatient"))
    asked = Bootloader(Rfc2217(board.port, fastest=115_200).url, baud=FAST)
    assert asked.describe().name == "esp32"
    assert "--baud 115200" in asked.manual([], erase_all=False, whole=False)


def test_nobody_at_the_port(tool, image_file):
    ended(tool.node("socket://127.0.0.1:1", image_file), Exit.NO_PORT)
    ended(tool.node("/dev/ttyNOTHERE", image_file), Exit.NO_PORT)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("could not open port /dev/ttyUSB0: [Errno 13] Permission denied: '/dev/ttyUSB0'", Exit.PORT_DENIED),
        ("could not open port 'COM3': PermissionError(13, 'Access is denied.', None, 5)", Exit.PORT_BUSY),
        ("[Errno 11] Could not exclusively lock port /dev/ttyUSB0", Exit.PORT_BUSY),
        ("[Errno 2] could not open port /dev/ttyUSB0: No such file or directory", Exit.NO_PORT),
        ("Failed to connect to ESP32: No serial data received.", Exit.NO_ANSWER),
        ("Connected to ESP32 on /dev/ttyUSB0:\nSerialException: device reports readiness", Exit.UNPLUGGED),
        (
            "Connected to ESP32 on rfc2217://h:1:\nNOTE: Failed to get VID/PID of a device\nWriting at 0x00010000 40.0%",
            Exit.UNPLUGGED,
        ),
        (
            "Connected to ESP32 on /dev/ttyUSB0:\nA fatal error occurred: MD5 of file does not match",
            Exit.VERIFY,
        ),
        ("Connected to ESP32 on /dev/ttyUSB0:\nA fatal error occurred: the sky fell", Exit.WRITE),
    ],
)
def test_what_esptool_says_is_told_apart(said, code):
    assert failure("write-flash", said, "/dev/ttyUSB0").code is code


def test_a_port_that_somebody_has_open(tool, image_file, tmp_path):
    board = Board(tmp_path, "--pty")
    try:
        device = board.first
        with serial.Serial(device, exclusive=True):
            ended(tool.node(device, image_file), Exit.PORT_BUSY)
            ended(tool("logs", "--port", device, "--seconds", 1), Exit.PORT_BUSY)
    finally:
        board.stop()


def test_a_port_without_a_boot_loader(tool, image_file):
    line = Line(0, lambda data, sent: data)
    ended(tool.node(line.url, image_file), Exit.NO_ANSWER)


@pytest.fixture
def old_node(tool, image_file, tmp_path, monkeypatch, capsys):
    """A board that is a node already: it has a key, starts from its second slot, and has failed so often that it is in safe mode."""
    path = tmp_path / "whole.bin"
    words = bench("socket://127.0.0.1:1", image_file, tool.claim())
    assert tool.inside(monkeypatch, capsys, *words, "--image", path).returncode == 0
    flash = bytearray(path.read_bytes())
    values = {"key": KEY, "boot": 7, "seq": 65, "life": bytes((1, 9, 1, 255)) + bytes(31)}
    nvs = {**nvs_image.parse(bytes(flash[0x9000:0xF000])), "sensornode": values}
    flash[0x9000:0xF000] = nvs_image.build(nvs, 0x6000)
    board = Board(tmp_path, flash=bytes(flash))
    yield board
    board.stop()


KEY = bytes(range(100, 132))


def test_a_node_is_not_overwritten_by_accident(tool, old_node, image_file):
    before = old_node.flash()
    line = Rfc2217(old_node.port)
    ended(tool.node(line.url, image_file, PYTHONPATH=str(Path(__file__).parent / "impatient")), Exit.OCCUPIED)
    assert old_node.flash() == before
    assert line.starts == 1  # it is let go again


def test_what_cannot_be_saved_is_not_overwritten(tool, old_node, image_file):
    before = old_node.flash()
    (tool.home / "file").touch()
    ended(
        tool.node(old_node.url(), image_file, "--erase", "--backup-dir", tool.home / "file" / "x"),
        Exit.BACKUP,
    )
    assert old_node.flash() == before


def test_a_node_that_is_kept_keeps_key_and_settings_and_its_key_is_not_copied(tool, old_node, image_file):
    before = old_node.flash()
    backup = tool.home / "backup"
    kept = tool("bench", "--site", "roof", "--name", "bench-01", "--keep", "--no-wait", "--backup-dir", backup,
                "--port", old_node.url(), "--firmware", image_file)  # fmt: skip
    assert kept.returncode == 0, kept.stdout + kept.stderr
    after = old_node.flash()
    assert after[0x9000:0xF000] == before[0x9000:0xF000]
    files = littlefs_image.read(after[VFS[3] : VFS[3] + VFS[4]])
    assert json.loads(files["node.json"])["node"] == "bench-01"
    assert "app_b/sensornode/app.mpy" in files  # the slot that NVS says the node starts from
    assert "app_a/sensornode/app.mpy" not in files

    (saved,) = backup.iterdir()
    assert KEY not in (saved / "nvs-without-key.bin").read_bytes()
    assert nvs_image.parse((saved / "nvs-without-key.bin").read_bytes())["sensornode"]["boot"] == 7
    assert json.loads((saved / "node.json").read_bytes())["node"] == "bench-01"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in saved.iterdir())


def test_a_node_that_is_kept_leaves_safe_mode(tool, old_node, image_file, micropython, tmp_path):
    """What the board holds starts under MicroPython, with a main.py that tells how the start was counted, twice."""
    asking = b"import os, nodeboot\nlife = nodeboot.start()\nprint(life.failures, life.safe, life.slot, 'reflashed' in os.listdir())\n"

    def counted(flash: bytes) -> list[str]:
        disk = littlefs_image.Remote(VFS[4], lambda offset, size: flash[VFS[3] + offset :][:size])
        littlefs_image.update(disk, {"main.py": asking * 2})
        changed = bytearray(flash)
        for offset, content in disk.changes():
            changed[VFS[3] + offset : VFS[3] + offset + len(content)] = content
        done = subprocess.run(
            starting(micropython, bytes(changed), tmp_path), capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    assert counted(old_node.flash()) == ["9 True 1 False"] * 2
    kept = tool("bench", "--site", "roof", "--name", "bench-01", "--keep", "--no-wait",
                "--port", old_node.url(), "--firmware", image_file)  # fmt: skip
    assert kept.returncode == 0, kept.stdout + kept.stderr
    flash = old_node.flash()
    assert "reflashed" in littlefs_image.read(flash[VFS[3] : VFS[3] + VFS[4]])
    assert counted(flash) == ["0 False 1 False"] * 2


def test_a_node_that_is_erased_is_gone(tool, old_node, image_file):
    run = tool.node(old_node.url(), image_file, "--erase", "--no-backup")
    assert run.returncode == 0, run.stdout + run.stderr
    flash = old_node.flash()
    assert KEY not in flash
    assert nvs_image.parse(flash[0x9000:0xF000]).keys() == {"credentials"}


def test_secrets_are_in_no_argument_list_and_no_file_and_sigterm_leaves_nothing(
    tool, board, image_file, tmp_path
):
    """While esptool runs: what every process shows of itself, and what lies in the directory for temporary files."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    line = Line(board.port, lambda data, sent: time.sleep(0.002 if sent < 30_000 else 1.0) or data)
    run = tool.start(
        *bench(line.url, image_file, tool.claim()), "--no-wait", "--no-backup", TMPDIR=str(temporary)
    )
    deadline = time.monotonic() + LONG
    while line.sent < 30_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    words, seen = b"", 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"write-flash" in command:
                seen += 1
                words += command + (process / "environ").read_bytes()
        except OSError:
            continue
    assert seen
    assert all(secret.encode() not in words for secret in SECRETS)
    assert list(temporary.iterdir()) == []
    run.send_signal(signal.SIGTERM)
    assert run.wait(LONG) == Exit.TERMINATED
    run.stdout.close()
    assert list(temporary.iterdir()) == []
    assert not any(
        b"write-flash" in command_line(pid) and line.url.encode() in command_line(pid) for pid in pids()
    )


def pids():
    return list(Path("/proc").glob("[0-9]*"))


def command_line(path: Path) -> bytes:
    try:
        return (path / "cmdline").read_bytes()
    except OSError:
        return b""


def test_what_esptool_is_configured_with_reaches_it(tool, board, image_file, tmp_path):
    """A configuration file of esptool's own is honoured: here one that names an impossible reset."""
    configuration = tmp_path / "esptool.cfg"
    configuration.write_text("[esptool]\nconnect_attempts = 1\ncustom_reset_sequence = Dx\n")
    run = tool.node(board.url(), image_file, "--verbose", ESPTOOL_CFGFILE=str(configuration))
    assert str(configuration) in run.stdout


def test_without_a_board(tool, image_file, tmp_path, monkeypatch, capsys):
    """`--dry-run` and `--image` need neither board nor gateway, and the same input gives the same bytes."""
    claim = tool.claim()
    words = bench("socket://127.0.0.1:1", image_file, claim)
    dry = tool.inside(monkeypatch, capsys, *words, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "would run: esptool --port socket://127.0.0.1:1" in dry.stdout
    made = []
    for name in ("one.bin", "two.bin"):
        path = tmp_path / name
        assert tool.inside(monkeypatch, capsys, *words, "--image", path).returncode == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        made.append(path.read_bytes())
    assert made[0] == made[1]
    assert len(made[0]) == 4 << 20


def test_a_node_of_a_broker_with_tls_knows_a_date_that_is_past(
    tool, image_file, tmp_path, monkeypatch, capsys
):
    ca, out = tmp_path / "ca.pem", tmp_path / "flash.bin"
    ca.write_bytes(b"-----BEGIN CERTIFICATE-----")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    words = bench("socket://127.0.0.1:1", image_file, tool.claim())
    assert tool.inside(monkeypatch, capsys, *words, "--ca", ca, "--image", out).returncode == 0
    flash = out.read_bytes()
    assert nvs_image.parse(flash[0x9000:0xF000])["sensornode"] == {"date": 1790000000 // 86400 * 1440}
    files = littlefs_image.read(flash[VFS[3] : VFS[3] + VFS[4]])
    assert files["ca.pem"] == ca.read_bytes()
    assert json.loads(files["node.json"])["broker"]["port"] == 8883


@pytest.mark.parametrize(
    ("words", "environ", "code"),
    [
        (("--name", "Bench 1"), {}, Exit.SETTINGS),
        (("--owner", "0x12"), {}, Exit.SETTINGS),
        (("--broker", "host:port"), {}, Exit.SETTINGS),
        (("--interval", "7", "--publish", "10"), {}, Exit.SETTINGS),
        (("--firmware", "missing.bin"), {}, Exit.NO_FIRMWARE),
        (("--claim", "missing.json"), {}, Exit.CLAIM),
        (("--site", "cellar"), {}, Exit.CLAIM),
        (("--keep", "--erase"), {}, Exit.USAGE),
        (("--ca", "missing.pem"), {}, Exit.SETTINGS),
        (("--ca", __file__), {"SOURCE_DATE_EPOCH": "today"}, Exit.SETTINGS),
        (("--no-such-option",), {}, Exit.USAGE),
    ],
)
def test_what_cannot_be_is_refused_with_its_own_code(
    tool, image_file, words, environ, code, monkeypatch, capsys
):
    run = tool.inside(
        monkeypatch,
        capsys,
        *bench("socket://127.0.0.1:1", image_file, tool.claim()),
        "--dry-run",
        *words,
        **environ,
    )
    ended(run, code)


def test_a_claim_for_another_kind_is_refused(tool, image_file, monkeypatch, capsys):
    words = ("air", *bench("socket://127.0.0.1:1", image_file, tool.claim())[1:], "--dry-run")
    assert "bench" in ended(tool.inside(monkeypatch, capsys, *words), Exit.CLAIM)


def test_a_gateway_that_is_named_needs_a_token(tool, image_file, monkeypatch, capsys):
    words = bench("socket://127.0.0.1:1", image_file, tool.claim())
    words = (*words[:7], *words[9:], "--gateway", "http://127.0.0.1:1")
    assert "FLASH_GATEWAY_TOKEN" in ended(tool.inside(monkeypatch, capsys, *words), Exit.SETTINGS)


def test_a_setting_that_nobody_has_said_is_named(tool, image_file, monkeypatch, capsys):
    monkeypatch.setattr("flash_parts.environ", lambda home, **more: {"HOME": str(home)})
    words = bench("socket://127.0.0.1:1", image_file, tool.claim())
    run = tool.inside(monkeypatch, capsys, *words, "--dry-run")
    assert "FLASH_WIFI_SSID" in ended(run, Exit.SETTINGS)


def test_the_pinned_image_is_fetched_only_with_a_hash_and_kept(tool, image_file, monkeypatch, capsys):
    words = list(bench("socket://127.0.0.1:1", image_file, tool.claim()))
    at = words.index("--firmware")
    del words[at : at + 4]
    text = ended(tool.inside(monkeypatch, capsys, *words, "--dry-run"), Exit.NO_FIRMWARE)
    assert "--sha256" in text
    digest = hashlib.sha256(image_file.read_bytes()).hexdigest()
    ended(
        tool.inside(monkeypatch, capsys, *words, "--dry-run", "--offline", "--sha256", digest),
        Exit.NO_FIRMWARE,
    )
    cache = tool.home / ".cache" / "sensorhub" / "firmware"
    cache.mkdir(parents=True)
    (cache / "ESP32_GENERIC-20240602-v1.23.0.bin").write_bytes(image_file.read_bytes())
    run = tool.inside(
        monkeypatch, capsys, *words, "--dry-run", "--offline", "--sha256", digest, XDG_CACHE_HOME=""
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (cache / "ESP32_GENERIC-20240602-v1.23.0.bin").write_bytes(b"something else")
    ended(
        tool.inside(monkeypatch, capsys, *words, "--dry-run", "--sha256", digest, XDG_CACHE_HOME=""),
        Exit.FIRMWARE_HASH,
    )


def test_every_exit_code_is_distinct_and_the_readme_has_them_all():
    from flash_parts import ROOT

    from flashing.exits import document

    assert set(EXITS) == set(Exit)
    assert len({code.value for code in Exit}) == len(Exit)
    assert document() in (ROOT / "tools" / "README.md").read_text()


def test_the_readme_names_every_setting_and_every_option():
    import re

    from flash_parts import ROOT

    from flashing.settings import SETTINGS

    readme = (ROOT / "tools" / "README.md").read_text()
    for setting in SETTINGS:
        assert f"| `{setting.key}` | `{setting.variable}` |" in readme
    written = set(re.findall(r"`(--[a-z0-9-]+)", readme))
    source = (ROOT / "tools" / "flashing" / "cli.py").read_text()
    source += (ROOT / "tools" / "simulation.py").read_text()
    for option in written:
        assert f'"{option}"' in source or f"    {option[2:].replace('-', '_')}: " in source, option


def test_every_exit_code_is_used_somewhere():
    from flash_parts import ROOT

    text = "".join(path.read_text() for path in (ROOT / "tools").glob("*/*.py"))
    unused = [code for code in Exit if text.count(f"Exit.{code.name}") < 2 and code is not Exit.OK]
    assert not unused
