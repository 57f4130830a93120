"""Sealed pictures of a whole node, over a real broker: only when the site orders them, and tied to the signed reading."""

from __future__ import annotations

import hashlib
from typing import Any

from coincurve import PrivateKey
from node_harness import NODE, SITE, Gateway, Node, until

from sensorhub.control import sign_config
from sensorhub.control.snapshots import Snapshot, open_snapshot
from sensorhub.wire import public_key_of

SITE_KEY = PrivateKey(hashlib.sha256(b"site").digest())
CAMERA = {"driver": "camera", "size": "QVGA", "frames": 2}


def camera_node(node: Node, **more: Any) -> None:
    node.configure(
        keys={"site": public_key_of(SITE_KEY).hex()},
        kind="camera",
        interval=60,
        sim={"speed": 60, "exit_at_end": False, "start": 1_481_500_800},
        **more,
    )


def order(gateway: Gateway, version: int, *sensors: dict[str, Any]) -> None:
    settings = {"sensors": list(sensors)}
    gateway.order("config", sign_config(SITE_KEY, site=SITE, node=NODE, version=version, settings=settings))


def hashes(gateway: Gateway) -> list[bytes]:
    """`frame_sha256` of every logged reading, in log order."""
    packs = [message.pack for message in list(gateway.log)]
    return [
        bytes(value)  # type: ignore[arg-type]  # a data channel
        for pack in packs
        for name, value in zip(pack.names, pack.values, strict=True)
        if name == "frame_sha256"
    ]


def test_a_picture_is_sent_when_the_site_orders_it_and_is_that_of_a_signed_reading(
    node: Node, gateway: Gateway
) -> None:
    camera_node(node, sensors=[CAMERA])
    node.stay()
    until(lambda: len(hashes(gateway)) > 2, "readings")
    assert not gateway.pictures
    order(gateway, 1, {**CAMERA, "snapshot_s": 120})
    until(lambda: len(gateway.pictures) > 2, "three pictures")
    order(gateway, 2, CAMERA)
    until(lambda: node.status.get("config") == 2 and not node.status["trial"], "the end of it")
    seen = len(gateway.pictures)
    logged = len(hashes(gateway))
    until(lambda: len(hashes(gateway)) > logged + 3, "more readings")
    assert len(gateway.pictures) == seen

    opened: list[Snapshot] = [open_snapshot(sealed, SITE_KEY) for sealed in gateway.pictures]
    assert all(len(sealed) == 76_952 for sealed in gateway.pictures)
    assert {(picture.width, picture.height) for picture in opened} == {(320, 240)}
    assert len({picture.digest for picture in opened}) == len(opened)
    assert {picture.digest for picture in opened} <= set(hashes(gateway))
    assert gateway.gaps == gateway.clones == 0
    assert node.status["sensor_errors"] == 0


def test_a_row_of_the_file_sends_no_picture(node: Node, gateway: Gateway) -> None:
    camera_node(node, sensors=[{**CAMERA, "snapshot_s": 60}, {"driver": "replay", "file": "replay.csv"}])
    node.start()
    until(lambda: len(gateway.log) > 3, "readings")
    until(lambda: "signed" in node.status.get("last_error", ""), "the refusal")
    assert not gateway.pictures
    assert not hashes(gateway)


def test_a_node_that_sleeps_sends_its_picture_before_it_does(node: Node, gateway: Gateway) -> None:
    camera_node(node, sensors=[], sleep=True)
    node.reset_cause = 4  # machine.DEEPSLEEP_RESET
    order(gateway, 1, {**CAMERA, "snapshot_s": 3600})
    node.stay()
    until(lambda: len(gateway.pictures) > 1, "two pictures")
    # before it is stopped: the picture may overtake a reading that is being signed
    until(lambda: open_snapshot(gateway.pictures[1], SITE_KEY).digest in hashes(gateway), "its reading")
    node.stop()
