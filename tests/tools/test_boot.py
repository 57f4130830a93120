"""Images are right when MicroPython mounts them, starts from them, and a gateway logs what the node then says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flash_parts import LONG, ROOT, VFS, Rfc2217, bench, starting

from flashing import littlefs_image
from sensorhub.control.keys import load_key
from sensorhub.wire import public_key_of

HERE = Path(__file__).parent
RESET = 3
"""Exit status of MicroPython on a computer when the node starts again (firmware/sim/machine.py)."""


class Node:
    """A node that started from the content of a flash."""

    def __init__(self, micropython, flash: bytes, home: Path) -> None:
        self.log = home / "node.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(starting(micropython, flash, home), stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def test_from_the_tool_to_the_first_proof_that_verifies(
    tool, board, gateway, micropython, image_file, tmp_path
):
    """The whole of it, over a serial server and the gateway's API: tools/flash writes the mock's flash, resets the board, what the
    flash then holds starts as a node, and the tool sees it arrive."""
    nodes = []

    def start_when_written() -> None:
        flash = board.flash()
        for node in nodes:
            node.stop()
        if flash[VFS[3] + 8 : VFS[3] + 16] == b"littlefs":
            nodes.append(Node(micropython, flash, tmp_path))

    line = Rfc2217(board.port, start_when_written)
    run = tool(
        *bench(line.url, image_file, Path("-"))[:5],
        *("--broker", f"127.0.0.1:{gateway.mqtt_port}", "--gateway", gateway.url),
        *(
            "--port",
            line.url,
            "--firmware",
            image_file,
            "--interval",
            1,
            "--publish",
            1,
            "--ntp",
            "127.0.0.1",
            "--timeout",
            LONG,
            "--verbose",
        ),
        FLASH_GATEWAY_TOKEN=gateway.TOKEN,
        PYTHONPATH=str(HERE / "impatient"),
    )
    text = run.stdout + run.stderr
    log = nodes[-1].log.read_text() if nodes else ""
    try:
        assert run.returncode == 0, text + log
        # it obeys the site's key: it resets, to start with the settings
        words = ("nodes", "configure", "bench-01", "--set", "interval=2", "--set", "publish=2", "--wait", "0")
        subprocess.run([sys.executable, "-m", "sensorhub", "--config", gateway.config, *words], check=True)
        assert nodes[-1].process.wait(LONG) == RESET
    finally:
        for node in nodes:
            node.stop()
    assert "PASS" in text
    assert gateway.TOKEN not in text
    assert line.speeds >= {115_200, 460_800}
    assert f"{gateway.url}/#node=bench-01" in text
    assert "temperature 21.5" in text
    site_key = public_key_of(load_key(gateway.data / "keys" / "site.key")).hex()
    files = littlefs_image.read(board.flash()[VFS[3] :])
    assert json.loads(files["node.json"])["keys"] == {"site": site_key}

    index = int(text.partition("log entry ")[2].split()[0])
    key_id = text.partition("key id")[2].split()[0]
    listed = subprocess.run(
        [sys.executable, "-m", "sensorhub", "--config", gateway.config, "nodes", "list"],
        capture_output=True,
        text=True,
    ).stdout
    assert ["bench-01", "bench", "-", key_id] in [line.split() for line in listed.splitlines()]
    proof = tmp_path / "proof.json"
    gateway.wait(lambda: prove(gateway, index, proof), "a proof")
    checked = subprocess.run(
        [ROOT / "tools" / "verify", "proof", proof, "--require", "device-signed,logged"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "bench-01" in checked.stdout


def prove(gateway, index: int, path: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "sensorhub", "--config", gateway.config, "prove", str(index), "--out", path],
        capture_output=True,
    )
    return done.returncode == 0


def test_an_image_that_was_written_to_a_file_starts_and_is_seen_in_the_public_log(
    gateway, micropython, image_file, tool, tmp_path
):
    from flashing.registration import Claimed, Enrolment, Local, new_identity
    from flashing.watch import ApiWatch, wait

    identity = new_identity("roof", "bench-02")
    Local(gateway.data).register(Enrolment(identity, "bench"))
    claim = tmp_path / "claim.json"
    claim.write_text(
        json.dumps(
            {
                "site": "roof",
                "node": "bench-02",
                "kind": "bench",
                "claim": identity.claim.hex(),
                "mqtt_user": "bench-02",
                "mqtt_password": identity.password,
            }
        )
    )
    assert Claimed.load(claim).identity == identity
    whole = tmp_path / "flash.bin"
    made = tool(
        *("bench", "--site", "roof", "--name", "bench-02", "--claim", claim, "--image", whole),
        *("--broker", f"127.0.0.1:{gateway.mqtt_port}", "--firmware", image_file),
        *("--interval", 1, "--publish", 1, "--ntp", "127.0.0.1"),
    )
    assert made.returncode == 0, made.stderr

    api = ApiWatch(gateway.url, "roof", "bench-02")
    node = Node(micropython, whole.read_bytes(), tmp_path)
    try:
        sight = wait(api, lambda seen: bool(seen.reading and seen.key_id), LONG, lambda part: None)
        assert sight.reading.startswith("temperature 21.5"), node.log.read_text()
        assert len(sight.key_id) == 16
    finally:
        node.stop()
        api.close()


def test_a_partition_that_was_updated_still_mounts(micropython, tmp_path):
    from flashing import littlefs_image

    files = {"main.py": b"print(open('a/long').read(5), open('short').read(), open('node.json').read())"}
    files |= {"a/long": b"x" * 30_000, "short": b"before", "node.json": b"y" * 127}
    image = littlefs_image.build(files, 512 << 10)
    remote = littlefs_image.Remote(len(image), lambda offset, size: image[offset : offset + size])
    littlefs_image.update(remote, {"short": b"after", "a/b/c": b"1" * 9000}, remove=("gone",))
    flash = bytearray(b"\xff" * VFS[3]) + image
    for offset, content in remote.changes():
        flash[VFS[3] + offset : VFS[3] + offset + len(content)] = content
    done = subprocess.run(starting(micropython, bytes(flash), tmp_path), capture_output=True, text=True)
    assert done.stdout.split() == ["xxxxx", "after", "y" * 127], done.stdout + done.stderr


@pytest.mark.parametrize("native", [False, True])
def test_compiled_files_are_of_version_6_and_only_native_ones_name_an_architecture(native, tmp_path):
    from flashing.application import compile_all

    firmware = tmp_path / "firmware"
    (firmware / "sensornode").mkdir(parents=True)
    (firmware / "main.py").write_text("print(1)\n")
    decorator = "@micropython.viper\n" if native else ""
    (firmware / "sensornode" / "x.py").write_text(
        f"import micropython\n\n\n{decorator}def f(x: int) -> int:\n    return x\n"
    )
    content = compile_all("xtensawin", firmware)["sensornode/x.mpy"]
    magic, version, flags = content[:3]
    assert (magic, version) == (ord("M"), 6)
    assert bool(flags) == native
    assert flags & 3 == (3 if native else 0)  # sub-version: what 1.23 takes


def test_chips_without_native_code_get_everything_else():
    from flashing.application import ARCHITECTURES, compile_all

    whole, without = (set(compile_all(ARCHITECTURES[chip])) for chip in ("esp32", "esp32c3"))
    assert {name.rpartition("/")[2] for name in whole - without} == {"pixels.mpy"}
