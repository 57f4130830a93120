"""Watching for a node at a broker as the node's own user, where that is possible and where it is not."""

import socket
import subprocess
import time

import paho.mqtt.client as mqtt
import pytest
from coincurve import PrivateKey

from flashing.exits import FlashError
from flashing.registration import new_identity
from flashing.settings import Broker
from flashing.watch import BrokerWatch, wait
from sensorhub.ingest.broker import find_mosquitto
from sensorhub.wire import encode_announce, encode_message, topic


@pytest.fixture
def open_broker(tmp_path, request):

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{getattr(request, 'param', '')}\n")
    with subprocess.Popen([find_mosquitto(), "-c", config], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
        process.terminate()


def test_announce_and_reading_are_seen_as_they_pass(open_broker):
    identity = new_identity("roof", "bench-03")
    watch = BrokerWatch(Broker("127.0.0.1", open_broker), identity)
    node = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    node.connect("127.0.0.1", open_broker)
    node.loop_start()
    key = PrivateKey()
    where = {"site": "roof", "node": "bench-03"}
    try:
        announce = encode_announce(
            key,
            **where,
            boot=1,
            tq=2,
            uptime=1,
            kind="bench",
            hardware="test",
            firmware="0.1.0",
            channels=[("temperature", "Cel")],
            claim=identity.claim,
            oldest=1,
        )
        data = encode_message(
            key,
            **where,
            boot=1,
            seq=1,
            prev=bytes(32),
            tq=2,
            uptime=1,
            base_time=1_700_000_000,
            records=[("temperature", 21.5, 0)],
        )
        for leaf, payload in (("announce", announce), ("data", data)):
            node.publish(topic("roof", "bench-03", leaf), payload, qos=1, retain=True).wait_for_publish(10)
        node.publish(
            topic("roof", "bench-03", "receipt"), bytes.fromhex("820101"), qos=1, retain=True
        ).wait_for_publish(10)
        sight = wait(watch, lambda seen: bool(seen.reading and seen.key_id), 20, lambda part: None)
        assert sight.reading.startswith("temperature 21.5")
    finally:
        watch.close()
        node.loop_stop()


@pytest.mark.parametrize("open_broker", ["use_username_as_clientid true"], indirect=True)
def test_where_connections_are_tied_to_users_the_watch_gives_way_to_the_node(open_broker):
    identity = new_identity("roof", "bench-04")
    watch = BrokerWatch(Broker("127.0.0.1", open_broker), identity)
    node = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    node.username_pw_set(identity.name)
    lost = []
    node.on_disconnect = lambda *_: lost.append(1)
    try:
        time.sleep(0.5)  # the watch is connected: it was there first, as the tool is
        node.connect("127.0.0.1", open_broker)
        node.loop_start()
        with pytest.raises(FlashError, match="the node has that connection now") as caught:
            wait(watch, lambda seen: False, 20, lambda part: None)
        assert "--gateway" in caught.value.remedy
        time.sleep(2)
        assert not lost
    finally:
        watch.close()
        node.loop_stop()
