"""The modules of tools/flashing one by one: what they make is read back, and by others than themselves."""

import json
import random
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from flash_parts import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from flashing import hardware, images, labels, littlefs_image, node_json, nvs_image, partitions
from flashing import settings as flash_settings
from flashing.exits import Exit, FlashError
from flashing.factory import Record, load
from flashing.flow import Outcome
from flashing.registration import (
    Carried,
    Claimed,
    Enrolment,
    Local,
    Remote,
    new_identity,
    take_in,
)
from flashing.steps import qr_lines
from sensorhub.ingest.users import Users, check_password
from sensorhub.nodes.claims import Claims

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=15)
VALUES = st.one_of(
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.binary(min_size=1, max_size=300),
    st.text("abc äöü", min_size=1, max_size=60),
)


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=3))
@settings(max_examples=40, deadline=None)
def test_what_goes_into_nvs_comes_out_and_makes_the_same_bytes_again(values):
    image = nvs_image.build(values, 0x6000)
    assert len(image) == 0x6000
    assert nvs_image.parse(image) == values
    assert nvs_image.build(values, 0x6000) == image


def test_no_copy_of_the_private_key_is_kept_not_even_an_erased_one():
    key = random.Random(1).randbytes(32)
    image = bytearray(nvs_image.build({"sensornode": {"boot": 3, "key": key, "other": b"x" * 40}}, 0x6000))
    first = image.find(key) - 32  # a second copy, marked as erased, as NVS leaves it behind
    image[0x600 : 0x600 + 64] = image[first : first + 64]
    cleaned = nvs_image.without_private_key(bytes(image))
    assert key not in cleaned
    assert nvs_image.parse(cleaned)["sensornode"] == {"boot": 3, "other": b"x" * 40}


def test_damaged_nvs_is_read_as_far_as_it_goes():
    image = bytearray(nvs_image.build({"a": {"one": 1, "two": b"22"}}, 0x6000))
    for _ in range(200):
        image[random.Random(_).randrange(4096)] ^= 0xFF
        nvs_image.parse(bytes(image))
    assert nvs_image.parse(b"\xff" * 0x6000) == {}


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?\.(py|mpy|json)", fullmatch=True),
        st.binary(max_size=9000),
        max_size=8,
    )
)
@settings(max_examples=25, deadline=None)
def test_the_file_system_holds_what_was_put_in_whatever_the_order(files):
    image = littlefs_image.build(files, 256 << 10)
    assert littlefs_image.read(image) == dict(sorted(files.items()))
    assert littlefs_image.build(dict(reversed(files.items())), 256 << 10) == image


def test_only_what_is_needed_of_a_board_is_read_and_only_what_changed_is_written():
    files = {f"d/f{number}": random.Random(number).randbytes(20_000) for number in range(30)} | {
        "node.json": b"n" * 700
    }
    image = littlefs_image.build(files, 2 << 20)
    fetched = []

    def fetch(offset: int, size: int) -> bytes:
        fetched.append(size)
        return image[offset : offset + size]

    disk = littlefs_image.Remote(len(image), fetch)
    assert littlefs_image.read_some(disk, ("node.json", "missing")) == {"node.json": b"n" * 700}
    assert sum(fetched) < 128 << 10
    littlefs_image.update(disk, {"new": b"1" * 5000}, ("d/f3", "nothing"))
    flash = bytearray(image)
    for offset, content in disk.changes():
        flash[offset : offset + len(content)] = content
    expected = {**files, "new": b"1" * 5000}
    del expected["d/f3"]
    assert littlefs_image.read(bytes(flash)) == dict(sorted(expected.items()))
    assert sum(len(content) for _, content in disk.changes()) < 64 << 10


def test_an_image_without_a_partition_for_files_leaves_them_the_rest_of_the_flash():
    from flash_parts import TABLE, micropython_image

    layout = partitions.layout_of(micropython_image(rows=TABLE), "esp32", 8 << 20)
    vfs = layout.find("vfs")
    assert (vfs.offset, vfs.end) == (0x200000, 8 << 20)
    assert layout.slots == 0


@pytest.mark.parametrize("kind", hardware.kinds())
def test_the_sensor_table_is_that_of_the_module_pins(kind):
    found = hardware.load(kind)
    if found.pins is None:
        pytest.skip("tools/hardware has not made the module pins")
    names: dict = {}
    exec(found.pins.read_text(), names)
    assert list(found.sensors) == list(names["SENSORS"])
    assert found.led == names.get("LED")
    assert (found.interval, found.publish, found.board) == (
        names["INTERVAL"],
        names["PUBLISH"],
        names["BOARD"],
    )


@pytest.mark.parametrize("kind", hardware.kinds())
def test_the_firmware_takes_the_configuration_of_every_kind(kind):
    found = hardware.load(kind)
    identity = new_identity("roof", "n-1")
    secrets = node_json.credentials(identity, ("net", ""))
    content = node_json.compose(
        found,
        identity,
        flash_settings.Broker("hub.local", 8883, b"-----BEGIN"),
        secrets,
        interval=found.interval,
        publish=found.publish,
        spool=node_json.spool_bytes(2 << 20, 160 << 10),
        keys={"site": "ab" * 64},
    )
    assert identity.password.encode() not in content
    assert identity.claim.hex().encode() not in content
    assert json.loads(content)["broker"]["ca"] == node_json.CA_FILE
    assert json.loads(content)["keys"] == {"site": "ab" * 64}
    assert json.loads(content).get("led") == found.led
    assert json.loads(secrets["wifi"]) == [{"ssid": "net"}]


def test_what_the_firmware_would_not_read_or_no_network_takes_is_refused():
    sources = flash_settings.Sources({}, {"FLASH_WIFI_SSID": "net", "FLASH_WIFI_PASSWORD": "short"}, {})
    with pytest.raises(FlashError, match="5 bytes") as error:
        flash_settings.wifi(sources)
    assert "short" not in f"{error.value}{error.value.remedy}"
    with pytest.raises(FlashError, match="33 bytes"):
        flash_settings.wifi(flash_settings.Sources({"wifi.ssid": "n" * 33}, {"FLASH_WIFI_PASSWORD": ""}, {}))
    long = node_json.Identity("roof", "n-1", bytes(16), "n-1", "p" * 1100)
    with pytest.raises(FlashError, match="1024"):
        node_json.credentials(long, ("net", ""))


def test_the_spool_leaves_room_for_an_update():
    assert node_json.spool_bytes(2 << 20, 160 << 10) == 1 << 20
    small = node_json.spool_bytes(0xF0000, 160 << 10)
    assert small + 2 * (160 << 10) < 0xF0000
    with pytest.raises(FlashError):
        node_json.spool_bytes(256 << 10, 160 << 10)


def test_hardware_that_is_wrong_is_named(tmp_path):
    (tmp_path / "odd").mkdir()
    path = tmp_path / "odd" / "node.toml"
    for text, word in (
        ("[node]\n", "flash"),
        ("[", "cannot be read"),
        ('[node]\ninterval_s=1\n[flash]\nchip="z80"\n', "z80"),
    ):
        path.write_text(text)
        with pytest.raises(FlashError, match=word) as error:
            hardware.load("odd", tmp_path)
        assert error.value.code is Exit.HARDWARE
    with pytest.raises(FlashError, match="there is odd"):
        hardware.load("none", tmp_path)


def test_settings_come_in_order_and_secrets_show_nowhere(tmp_path):
    (tmp_path / "word").write_text("from a file\n")
    path = tmp_path / "flash.toml"
    path.write_text('[wifi]\nssid = "file"\npassword_file = "word"\n[gateway]\nurl = "http://file"\n')
    values = flash_settings.load_file(None, tmp_path)
    sources = flash_settings.Sources(
        {"gateway.url": "http://given"}, {"FLASH_WIFI_SSID": "environment"}, values
    )
    assert sources.need("gateway.url") == "http://given"
    assert sources.need("wifi.ssid") == "environment"
    assert sources.need("wifi.password") == "from a file"
    assert "from a file" not in repr(sources)
    path.write_text('[wifi]\npassword = "secret-word"\n')
    path.chmod(0o644)
    with pytest.raises(FlashError, match="others may read"):
        flash_settings.load_file(path, tmp_path)
    path.chmod(0o600)
    assert flash_settings.load_file(path, tmp_path) == {"wifi.password": "secret-word"}
    for text in (
        '[wifi]\npasswort = "secret-word"\n',
        '[wifi]\npassword = "secret-word\n',
        "[wifi]\npassword = 5\n",
    ):
        path.write_text(text)
        with pytest.raises(FlashError) as error:
            flash_settings.load_file(path, tmp_path)
        assert "secret-word" not in f"{error.value} {error.value.remedy}"


def test_broker_addresses():
    def broker(text: str) -> tuple:
        found = flash_settings.broker(flash_settings.Sources({"broker.host": text}, {}, {}), "")
        return found.host, found.port

    assert broker("hub") == ("hub", 1883)
    assert broker("hub:1884") == ("hub", 1884)
    assert broker("2001:db8::1") == ("2001:db8::1", 1883)
    assert broker("[2001:db8::1]") == ("2001:db8::1", 1883)
    assert broker("[2001:db8::1]:8883") == ("2001:db8::1", 8883)
    for wrong in ("hub:0", "hub:x", ":1883", "hub:70000"):
        with pytest.raises(FlashError):
            broker(wrong)


def test_a_node_is_registered_with_a_gateway_on_this_computer_and_by_a_carried_file(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    enrolment = Enrolment(new_identity("roof", "a-1"), "air", bytes(20), "u33d8")
    Local(data).register(enrolment)
    claim = Claims(data / "claims.json").redeem("a-1", enrolment.identity.claim)
    assert (claim.kind, claim.owner_bytes, claim.geohash) == ("air", bytes(20), "u33d8")
    assert check_password(enrolment.identity.password, Users.of(data).read()["a-1"])

    path = tmp_path / "a-1.enrol.json"
    Carried(path, "token").register(enrolment)
    assert path.stat().st_mode & 0o777 == 0o600
    assert take_in(path, "token") == enrolment
    with pytest.raises(FlashError) as error:
        take_in(path, "another token")
    assert error.value.code is Exit.REFUSED
    path.write_text(path.read_text().replace('"a-1"', '"a-2"'))
    with pytest.raises(FlashError):
        take_in(path, "token")


def test_a_claim_of_sensorhub_nodes_add_is_taken(tmp_path):
    config = tmp_path / "sensorhub.toml"
    config.write_text(f'[gateway]\nsite = "roof"\ndata_dir = "{tmp_path / "data"}"\n')
    path = tmp_path / "claim.json"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "sensorhub",
            "--config",
            config,
            "nodes",
            "add",
            "w-1",
            "--kind",
            "weather",
            "--out",
            path,
        ],
        check=True,
        capture_output=True,
    )
    claimed = Claimed.load(path)
    assert (claimed.identity.site, claimed.identity.name, claimed.kind) == ("roof", "w-1", "weather")
    assert Claims(tmp_path / "data" / "claims.json").find("w-1", claimed.identity.claim)
    path.write_text("{}")
    with pytest.raises(FlashError):
        Claimed.load(path)


def test_the_api_is_asked_with_the_token_and_its_refusals_are_told(gateway):
    url, token = gateway.url, gateway.TOKEN
    enrolment = Enrolment(new_identity("roof", "a-1"), "air", bytes(20), "u33d8")
    keys = Remote(url, token).prepare(enrolment)
    assert len(bytes.fromhex(keys["site"])) == 64
    assert Local(gateway.data).prepare(enrolment) == keys
    Remote(url, token).register(enrolment)
    assert Claims(gateway.data / "claims.json").find("a-1", enrolment.identity.claim)
    assert check_password(enrolment.identity.password, Users.of(gateway.data).read()["a-1"])
    again = replace(enrolment, identity=new_identity("roof", "a-1"), replace=True)
    Remote(url, token).prepare(again)
    Remote(url, token).register(again)
    assert check_password(again.identity.password, Users.of(gateway.data).read()["a-1"])
    elsewhere = Enrolment(new_identity("cellar", "a-2"), "air")
    for registrar, made, code in (
        (Remote(url, token + "x"), enrolment, Exit.REFUSED),
        (Remote(url, "not ascii \u00e9\u4e00"), enrolment, Exit.UNREACHABLE),
        (Remote(url, token), enrolment, Exit.NAME_TAKEN),
        (Remote(url, token), elsewhere, Exit.CLAIM),
        (Remote(url + "/nothing", token), enrolment, Exit.REFUSED),
        (Remote("http://127.0.0.1:1", token), enrolment, Exit.UNREACHABLE),
        (Local(gateway.data), enrolment, Exit.NAME_TAKEN),
        (Local(gateway.data), elsewhere, Exit.CLAIM),
    ):
        for step in (registrar.prepare, registrar.register):
            if isinstance(registrar, Local) and step == registrar.register:
                continue
            with pytest.raises(FlashError) as error:
                step(made)
            assert error.value.code is code
            assert token not in f"{error.value}{error.value.remedy}"
    with pytest.raises(FlashError) as error:
        Remote(url, token).register(replace(enrolment, place="nowhere", replace=True))
    assert error.value.code is Exit.CLAIM
    assert token not in repr(Remote(url, token))


def test_a_name_that_the_gateway_does_not_answer_to_is_told_with_the_setting(gateway, monkeypatch):
    looked_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **options: looked_up(
            "127.0.0.1" if host == "hub.example" else host, *rest, **options
        ),
    )
    url = gateway.url.replace("127.0.0.1", "hub.example")
    with pytest.raises(FlashError, match=r"'hub\.example'.*web\.hosts") as error:
        Remote(url, gateway.TOKEN).prepare(Enrolment(new_identity("roof", "a-1"), "air"))
    assert error.value.code is Exit.UNREACHABLE
    assert "IP address" in error.value.remedy


def test_a_token_is_not_carried_to_where_a_gateway_points():
    seen = []

    class Pointing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Pointing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(FlashError, match="somewhere else"):
            Remote(f"http://127.0.0.1:{server.server_port}", "token").prepare(
                Enrolment(new_identity("roof", "a-1"), "air")
            )
        server.shutdown()
    assert seen == ["/api/v1/enrolment?node=a-1"]


def test_the_manifest_is_whole_and_invents_no_hash():
    for pinned in images.load_manifest():
        assert pinned.url.startswith("https://micropython.org/resources/firmware/")
        assert pinned.chip in partitions.CHIPS
        assert bool(pinned.sha256) == bool(pinned.size)
    boards = {pinned.board for pinned in images.load_manifest()}
    assert {hardware.load(kind).firmware for kind in ("weather", "air", "bench")} <= boards


def test_an_image_that_a_person_vouches_for_is_pinned(tmp_path):
    import hashlib

    from flash_parts import micropython_image

    manifest = tmp_path / "firmware.toml"
    manifest.write_text(images.MANIFEST.read_text())
    path = tmp_path / "ESP32_GENERIC-20240602-v1.23.0.bin"
    path.write_bytes(micropython_image())
    pinned = images.pin(path, manifest=manifest)
    assert pinned.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    before, after = images.load_manifest(), images.load_manifest(manifest)
    assert pinned in after
    assert [row for row in after if row != pinned] == [row for row in before if row.board != "ESP32_GENERIC"]
    assert manifest.read_text().startswith("# The MicroPython images")
    images.keep(pinned, path.read_bytes(), tmp_path / "cache")

    def get(sha256: str) -> images.Image:
        return images.from_manifest(
            "ESP32_GENERIC",
            "esp32",
            sha256,
            cache=tmp_path / "cache",
            offline=True,
            progress=lambda done, total: None,
            manifest=manifest,
        )

    assert get("").trusted
    with pytest.raises(FlashError) as error:
        get("0" * 64)
    assert error.value.code is Exit.FIRMWARE_HASH
    path.rename(tmp_path / "other.bin")
    with pytest.raises(FlashError) as error:
        images.pin(tmp_path / "other.bin", manifest=manifest)
    assert error.value.code is Exit.NO_FIRMWARE
    with pytest.raises(FlashError) as error:
        images.pin(tmp_path / "other.bin", "ESP32_GENERIC_S3", manifest=manifest)
    assert error.value.code is Exit.FIRMWARE_UNFIT


def test_a_fetched_image_is_checked_before_it_is_kept(tmp_path, monkeypatch):
    import hashlib
    import io

    manifest = tmp_path / "firmware.toml"
    content = b"image" * 1000
    digest = hashlib.sha256(content).hexdigest()
    row = '[[image]]\nboard = "B"\nversion = "1"\nchip = "esp32"\nurl = "https://example.org/b.bin"\n'

    def get(answer: bytes, sha256: str, size: int) -> images.Image:
        manifest.write_text(f'{row}size = {size}\nsha256 = "{sha256}"\n')
        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(answer))
        return images.from_manifest(
            "B",
            "esp32",
            "",
            cache=tmp_path / "cache",
            offline=False,
            progress=lambda done, total: None,
            manifest=manifest,
        )

    with pytest.raises(FlashError) as error:
        get(b"evil", digest, len(content))
    assert error.value.code is Exit.FIRMWARE_HASH
    assert not (tmp_path / "cache" / "b.bin").exists()
    assert get(content, digest, len(content)).trusted
    assert get(b"not fetched again", digest, len(content)).content == content


def test_labels_are_a_pdf_that_shows_every_node_and_the_same_each_time():
    made = [
        labels.Label(f"weather-{n}", ("weather at roof", "key 0011"), f"http://hub/#node=w-{n}")
        for n in range(30)
    ]
    sheet = labels.sheet(made)
    assert sheet.startswith(b"%PDF")
    assert sheet.count(b"/Type /Page\n") == 2
    assert labels.sheet(made) == sheet


def test_a_code_on_the_terminal_is_the_code():
    import segno

    matrix = [list(row) for row in segno.make("http://hub/#node=w", error="l").matrix_iter(border=2)]
    lines = qr_lines("http://hub/#node=w")
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    rows = [[halves[mark][half] for mark in line] for line in lines for half in (0, 1)]
    assert rows[: len(matrix)] == [[int(bool(module)) for module in row] for row in matrix]


def test_a_batch_goes_on_where_it_ended(tmp_path):
    from flashing import factory

    path = tmp_path / "nodes.csv"
    path.write_text("name,kind,place\na-1,air,u33d8\na-2,,\na-3,,\n")
    rows = load(path, {"kind": "bench", "site": "roof"})
    assert [row.kind for row in rows] == ["air", "bench", "bench"]
    done = []

    def flash(row: factory.Row) -> Outcome:
        if row.name == "a-2" and len(done) < 2:
            raise FlashError(Exit.NO_ANSWER, "no boot loader answers")
        done.append(row.name)
        return Outcome(
            key_id="00" * 8, mac=f"00:00:00:00:00:0{len(done)}", url="http://hub/#node=" + row.name
        )

    said: list = []
    record = Record(path)
    assert factory.run(rows, record, flash, lambda row: True, said.append) == 1
    assert any("a-2 is not done" in line for line in said)
    record = Record(path)
    assert record.board_of("00:00:00:00:00:01") == "a-1"
    assert factory.run(rows, record, flash, lambda row: True, said.append) == 0
    assert done == ["a-1", "a-3", "a-2"]
    assert Record(path).labels(rows).startswith(b"%PDF")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("kind\nair\n", "no column 'name'"),
        ("name,colour\na,b\n", "colour"),
        ("name\nBAD NAME\n", "BAD NAME"),
        ("name\na\na\n", "twice"),
        ("name,kind\na,\n", "kind is missing"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, text, word):
    path = tmp_path / "nodes.csv"
    path.write_text(text)
    with pytest.raises(FlashError, match=word):
        load(path, {"kind": "" if "kind" in text else "air", "site": "roof"})


def test_files_that_cannot_be_in_memory_are_private_and_go(tmp_path, monkeypatch):
    from flashing import private

    monkeypatch.setattr(private, "IN_MEMORY", False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with private.private_file(b"secret") as file:
        path = Path(file.path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert file.read() == b"secret"
    assert list(tmp_path.iterdir()) == []


def test_doctor_says_what_to_do(tmp_path, monkeypatch):
    from flashing import doctor

    locked = tmp_path / "ttyUSB0"
    locked.touch()
    monkeypatch.setattr("os.access", lambda *_: False)
    findings = doctor.examine(str(locked), talk=False)
    assert not findings[-1].good
    assert findings[-1].remedy.endswith(".")
    said: list = []
    assert not doctor.report(findings, said.append)
    missing = doctor.examine(str(tmp_path / "gone"), talk=False)
    assert not missing[-1].good


@pytest.mark.parametrize(
    ("configured", "remedy"),
    [
        (b'{"site": "roof", "node": "n-1"}', ""),
        (b'{"site": "roof", "node": "n-2"}', "--name n-2"),
        (b'{"site": "roof", "nod', "--erase"),
        (b"[]", "--erase"),
        (b"{}", "--erase"),
        (None, "--erase"),
    ],
)
def test_only_the_node_that_was_named_is_kept(configured, remedy):
    from flashing.flow import Flash, Found, Wishes
    from flashing.node_json import Identity
    from flashing.steps import Screen

    files = {"main.py": b""} | ({} if configured is None else {"node.json": configured})
    image = littlefs_image.build(files, 1 << 20)
    disk = littlefs_image.Remote(len(image), lambda offset, size: image[offset : offset + size])
    sources = flash_settings.Sources({}, {}, {})
    run = Flash(Wishes("roof", "n-1"), hardware.load("bench"), sources, Screen(8), {})
    if not remedy:
        run._same_node(Found(b"", disk), Identity("roof", "n-1"))
        return
    with pytest.raises(FlashError) as error:
        run._same_node(Found(b"", disk), Identity("roof", "n-1"))
    assert error.value.code is Exit.OCCUPIED
    assert remedy in error.value.remedy


def test_the_tools_can_be_executed_and_say_how():
    for name in ("flash", "simulate"):
        done = subprocess.run(
            [ROOT / "tools" / name, "--help"], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
        )
        assert done.returncode == 0, done.stderr


FLASH_ID = """\
Connected to ESP32-{chip} on /dev/ttyUSB0:
Chip type:          ESP32-{chip} (revision v0.2)
Features:           Wi-Fi, BT 5 (LE), Dual Core + LP Core, 240MHz{psram}
Crystal frequency:  40MHz
MAC:                24:0A:C4:E2:95:26

Detected flash size: {flash}
"""


@pytest.mark.parametrize(
    ("chip", "psram", "flash", "needs", "code"),
    [
        ("S3", ", Embedded PSRAM 8MB (AP_3v3)", "8MB", (4 << 20, 4 << 20), None),
        ("S3", "", "4MB", (4 << 20, 4 << 20), None),  # a chip beside it cannot be seen
        ("S3", "", "Unknown", (4 << 20, 0), None),
        ("S3", "", "2MB", (4 << 20, 0), Exit.SMALL_FLASH),
        ("S3", "", "512KB", (4 << 20, 0), Exit.SMALL_FLASH),
        ("C3", "", "4MB", (4 << 20, 2 << 20), Exit.NO_PSRAM),
        ("C6", "", "4MB", (4 << 20, 0), Exit.WRONG_CHIP),
    ],
)
def test_a_board_that_lacks_what_its_kind_needs_is_refused(chip, psram, flash, needs, code):
    from flashing.bootloader import Bootloader, parse_chip
    from flashing.flow import Flash, Wishes
    from flashing.steps import Screen

    found = parse_chip(FLASH_ID.format(chip=chip, psram=psram, flash=flash))
    assert (found.name, found.mac) == (f"esp32{chip.lower()}", "24:0a:c4:e2:95:26")

    class Board(Bootloader):
        def describe(self):
            return found

    name = "esp32s3" if code is Exit.WRONG_CHIP else found.name
    kind = replace(hardware.load("bench"), chip=name, flash_bytes=needs[0], psram_bytes=needs[1])
    sources = flash_settings.Sources({}, {}, {})
    run = Flash(Wishes("roof", "n-1"), kind, sources, Screen(8), {})
    if code is None:
        assert run._chip(Board("x")).psram == (True if psram else None)
    else:
        with pytest.raises(FlashError) as error:
            run._chip(Board("x"))
        assert error.value.code is code
