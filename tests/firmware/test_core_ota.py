"""Updates and configurations of a whole node: really fetched, really started, confirmed or taken back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from node_harness import NODE, RESET, SITE, Gateway, Node, WebServer, application, image_of, until

from sensorhub.control import sign_config, sign_update
from sensorhub.wire import public_key_of

SITE_KEY = PrivateKey(hashlib.sha256(b"site").digest())
RELEASE_KEY = PrivateKey(hashlib.sha256(b"release").digest())
KEYS = {"site": public_key_of(SITE_KEY).hex(), "release": public_key_of(RELEASE_KEY).hex()}

BROKEN = "raise RuntimeError('this version does not even start')\n"
MUTE = """

_connect = Client.connect


async def _nowhere(self):
    raise OSError("this version does not get through")


Client.connect = _nowhere
"""


def manifest(server: WebServer, sequence: int, version: str, image: bytes, minimum: str = "0.1.0") -> bytes:
    server.documents[f"/{version}"] = image
    return sign_update(
        RELEASE_KEY,
        site=SITE,
        node=NODE,
        sequence=sequence,
        version=version,
        minimum=minimum,
        form="files",
        image=image,
        url=server.url(f"/{version}"),
    )


def configure(node: Node, trial: int, **more: Any) -> None:
    """`trial`: seconds until what is on trial and gets no receipt is given up."""
    sim = {"speed": 60, "exit_at_end": False, "start": 1_481_500_800, "trial": trial}
    node.configure(keys=KEYS, sensors=[], sim=sim, **more)


@pytest.fixture
def slotted(node: Node) -> Node:
    """A node whose application is in the first slot."""
    application(node.folder / "flash" / "app_a", "0.1.0")
    configure(node, 300, interval=60)
    return node


def running(node: Node, version: str, trial: bool = False) -> bool:
    status = node.status
    return status.get("firmware") == version and status["online"] and status["trial"] == trial


def test_old_to_new_to_broken_and_back(
    slotted: Node, gateway: Gateway, web_server: WebServer, tmp_path: Path
) -> None:
    node = slotted
    application(tmp_path / "new", "0.2.0")
    application(tmp_path / "broken", "0.3.0", {"node.py": BROKEN, "app.py": BROKEN})
    node.stay()
    until(lambda: running(node, "0.1.0"), "the old version")
    gateway.order("update", manifest(web_server, 1, "0.2.0", image_of(tmp_path / "new"), minimum="0.2.0"))
    until(lambda: running(node, "0.2.0"), "the new version, confirmed")
    assert node.exits == [RESET]
    assert {path.name for path in (node.folder / "flash").iterdir()} >= {"app_a", "app_b"}

    starts = len(node.exits)
    gateway.order("update", manifest(web_server, 2, "0.3.0", image_of(tmp_path / "broken"), minimum="0.2.0"))
    until(lambda: web_server.asked.count("/0.3.0") >= 1, "the download")
    until(lambda: len(node.exits) >= starts + 4, "three starts that fail")
    assert node.exits[starts] == RESET
    assert RESET not in node.exits[starts + 1 : starts + 4]
    until(lambda: web_server.asked.count("/0.3.0") >= 3, "it to be tried again, and again")
    until(lambda: len(node.exits) >= starts + 12, "the last attempt")
    until(lambda: running(node, "0.2.0"), "the version before")

    # below the minimum, an old manifest and a forged one change nothing
    asked = len(web_server.asked)
    application(tmp_path / "old", "0.1.5")
    gateway.order("update", manifest(web_server, 3, "0.1.5", image_of(tmp_path / "old")))
    until(lambda: "minimum" in node.status["refused"], "the refusal")
    gateway.order("update", manifest(web_server, 1, "0.2.1", image_of(tmp_path / "new")))
    forged = bytearray(manifest(web_server, 4, "0.4.0", image_of(tmp_path / "new")))
    forged[-1] ^= 1
    gateway.order("update", bytes(forged))
    until(lambda: "signature" in node.status["refused"], "the refusal")
    assert len(web_server.asked) == asked
    assert web_server.asked.count("/0.3.0") == 3
    assert running(node, "0.2.0")


def test_a_version_that_runs_but_gets_no_receipt_is_taken_back(
    slotted: Node, gateway: Gateway, web_server: WebServer, tmp_path: Path
) -> None:
    node = slotted
    configure(node, 3, interval=60)
    source = tmp_path / "mute" / "sensornode" / "mqtt.py"
    application(tmp_path / "mute", "0.2.0")
    source.write_text(source.read_text() + MUTE)
    node.stay()
    until(lambda: running(node, "0.1.0"), "the old version")
    gateway.order("update", manifest(web_server, 1, "0.2.0", image_of(tmp_path / "mute")))
    until(lambda: node.status["firmware"] == "0.2.0" and node.status["trial"], "the trial")
    until(lambda: running(node, "0.1.0"), "the old version again")


def test_a_confirmed_application_that_rots_gives_way_to_the_one_before(
    slotted: Node, gateway: Gateway, web_server: WebServer, tmp_path: Path
) -> None:
    node = slotted
    application(tmp_path / "new", "0.2.0")
    node.stay()
    until(lambda: running(node, "0.1.0"), "the old version")
    gateway.order("update", manifest(web_server, 1, "0.2.0", image_of(tmp_path / "new")))
    until(lambda: running(node, "0.2.0"), "the new version, confirmed")
    rotten = node.folder / "flash" / "app_b" / "sensornode" / "cose.py"
    rotten.write_bytes(rotten.read_bytes()[:1000])
    assert node.process
    node.process.kill()
    until(lambda: running(node, "0.1.0"), "the version before")
    assert "has rotted" in node.output
    assert gateway.gaps == gateway.clones == 0


def test_an_image_that_is_not_there_changes_nothing(
    slotted: Node, gateway: Gateway, web_server: WebServer
) -> None:
    node = slotted
    node.stay()
    until(lambda: running(node, "0.1.0"), "the node")
    order = manifest(web_server, 1, "0.2.0", b"x" * 1000)
    web_server.documents.clear()
    gateway.order("update", order)
    until(lambda: "404" in node.status["refused"], "the refusal")
    web_server.documents["/0.2.0"] = b"y" * 1000
    gateway.order("update", order)
    until(lambda: "archive" in node.status["refused"] or "signed" in node.status["refused"], "the refusal")
    assert running(node, "0.1.0")
    assert node.exits == []


def test_a_configuration_is_tried_and_one_that_cuts_the_node_off_is_taken_back(
    node: Node, gateway: Gateway
) -> None:
    configure(node, 12)  # short for the one that cuts it off, long for the others to get a receipt
    node.stay()
    until(lambda: node.status.get("online"), "the node")

    def order(version: int, settings: dict[str, Any]) -> None:
        gateway.order(
            "config", sign_config(SITE_KEY, site=SITE, node=None, version=version, settings=settings)
        )

    order(1, {"interval": 60})
    until(lambda: node.status["config"] == 1 and not node.status["trial"], "the first configuration")
    assert node.exits == [RESET]
    order(2, {"interval": 30, "broker": {"port": 1}})
    until(lambda: node.status["config"] == 2, "the second to be tried")
    seen = len(gateway.status)
    order(3, {})  # in place of the second, which would be tried again
    back = {"state": "online", "config": 1}
    until(lambda: any(back.items() <= said.items() for said in gateway.status[seen:]), "the first again")
    until(lambda: node.status["config"] == 3 and not node.status["trial"], "the third")
    until(lambda: any(status.get("config") == 3 for status in gateway.status), "the node to tell")
