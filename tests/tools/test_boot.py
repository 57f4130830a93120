"""Images are right when MicroPython mounts them, starts from them, and a gateway logs what the node then says."""

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
from flash_parts import ROOT, VFS, bench

HERE = Path(__file__).parent
SIM = ROOT / "firmware" / "sim"


class Node:
    """A node that started from the content of a flash partition."""

    def __init__(self, micropython, image: Path) -> None:
        self.log = image.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [micropython, "-X", "heapsize=32M", HERE / "boot.py", image, SIM], stdout=log, stderr=log
            )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def test_from_the_tool_to_the_first_proof_that_verifies(
    tool, board, gateway, micropython, image_file, tmp_path
):
    """The whole of it: tools/flash writes the mock's flash, the flash's content starts as a node, the tool sees it arrive."""
    nodes = []
    run = tool.start(
        *bench(board.url(), image_file, Path("-"))[:5],
        *(
            "--broker",
            f"127.0.0.1:{gateway.mqtt_port}",
            "--gateway-dir",
            gateway.data,
            "--gateway",
            gateway.url,
        ),
        *(
            "--port",
            board.url(),
            "--firmware",
            image_file,
            "--interval",
            1,
            "--publish",
            1,
            "--ntp",
            "127.0.0.1",
        ),
        XDG_CACHE_HOME=str(tmp_path),
    )
    said = []

    def power_up_when_written() -> None:
        for line in run.stdout:
            said.append(line)
            if "by hand" in line:
                image = tmp_path / "vfs.bin"
                image.write_bytes(board.flash()[VFS[3] : VFS[3] + VFS[4]])
                nodes.append(Node(micropython, image))

    reader = threading.Thread(target=power_up_when_written)
    reader.start()
    code = run.wait(60)
    reader.join(5)
    text = "".join(said)
    log = nodes[0].log.read_text() if nodes else ""
    for node in nodes:
        node.stop()
    assert code == 0, text + log
    assert "PASS" in text
    assert f"{gateway.url}/#node=bench-01" in text
    assert "temperature 21.5" in text

    index = int(text.partition("log entry ")[2].split()[0])
    key_id = text.partition("key id")[2].split()[0]
    listed = subprocess.run(
        [gateway_python(), "-m", "sensorhub", "--config", gateway.config, "nodes", "list"],
        capture_output=True,
        text=True,
    ).stdout
    assert f"bench-01 {key_id}".split() == listed.split()
    proof = tmp_path / "proof.json"
    gateway.wait(lambda: prove(gateway, index, proof), "a proof")
    checked = subprocess.run(
        [ROOT / "tools" / "verify", "proof", proof, "--require", "device-signed,logged"],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "bench-01" in checked.stdout


def gateway_python() -> str:
    import sys

    return sys.executable


def prove(gateway, index: int, path: Path) -> bool:
    done = subprocess.run(
        [gateway_python(), "-m", "sensorhub", "--config", gateway.config, "prove", str(index), "--out", path],
        capture_output=True,
    )
    return done.returncode == 0


def test_a_node_is_seen_at_the_broker_and_in_the_public_log(gateway, micropython, image_file, tool, tmp_path):
    from flashing.registration import Claimed, Enrolment, Local, new_identity
    from flashing.settings import Broker
    from flashing.watch import ApiWatch, BrokerWatch, wait

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
    image = tmp_path / "vfs.bin"
    image.write_bytes(whole.read_bytes()[VFS[3] :])

    time.sleep(1.2)  # the broker reads its password file again
    api = ApiWatch(gateway.url, "roof", "bench-02")
    broker = BrokerWatch(Broker("127.0.0.1", gateway.mqtt_port), identity)
    node = Node(micropython, image)
    try:
        for watch in (broker, api):
            sight = wait(watch, lambda seen: bool(seen.reading and seen.key_id), 30, lambda part: None)
            assert sight.reading.startswith("temperature 21.5"), node.log.read_text()
            assert len(sight.key_id) == 16
    finally:
        node.stop()
        broker.close()
        api.close()


def test_a_partition_that_was_updated_still_mounts(micropython, tmp_path):
    from flashing import littlefs_image

    files = {"main.py": b"print(open('a/long').read(5), open('short').read(), open('node.json').read())"}
    files |= {"a/long": b"x" * 30_000, "short": b"before", "node.json": b"y" * 127}
    image = littlefs_image.build(files, 512 << 10)
    remote = littlefs_image.Remote(len(image), lambda offset, size: image[offset : offset + size])
    littlefs_image.update(remote, {"short": b"after", "a/b/c": b"1" * 9000}, remove=("gone",))
    flash = bytearray(image)
    for offset, content in remote.changes():
        flash[offset : offset + len(content)] = content
    path = tmp_path / "vfs.bin"
    path.write_bytes(flash)
    done = subprocess.run(
        [micropython, "-X", "heapsize=32M", HERE / "boot.py", path, SIM], capture_output=True, text=True
    )
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
