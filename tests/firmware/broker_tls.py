"""MQTT over TLS against a real broker: run by test_core_tls.py, which names ports and files in the environment."""

# ruff: noqa: UP041 - MicroPython has a TimeoutError of its own

import asyncio
import os

from sensornode import mqtt
from sensornode.http import Download
from sensornode.mqtt import Client, MqttError
from sensornode.secure import context

FILES = os.getenv("TLS_FILES")
GOOD = int(os.getenv("TLS_GOOD"))
EXPIRED = int(os.getenv("TLS_EXPIRED"))
PLAIN = int(os.getenv("TLS_PLAIN"))


def client(port, host="localhost", ca="ca.pem", got=None):
    def on_message(topic, payload):
        got.append((bytes(topic), bytes(payload)))

    return Client(host, port, "me", ssl=context(FILES + "/" + ca), on_message=on_message, timeout=30)


async def exchange(me, got):
    """Messages of every size there and back."""
    await me.connect()
    await me.subscribe("t")
    sent = [bytes((n,)) * (n * 97 % 1000) for n in range(40)]
    for payload in sent:
        await me.publish("t", payload, 1)
    for _ in range(6000):
        if len(got) >= len(sent):
            break
        await asyncio.sleep(0.01)
    assert got == [(b"t", payload) for payload in sent]
    await me.publish("t", bytes(4000), 1)
    await asyncio.sleep(0.2)
    assert not me.down.is_set(), me.error
    await me.close(polite=True)


async def refused(me):
    try:
        await me.connect()
    except (OSError, MqttError, asyncio.TimeoutError) as error:
        return repr(error)
    await me.close()
    raise AssertionError("connected")


async def test_a_broker_with_a_certificate_of_the_ca_is_talked_to():
    for ca in ("ca.pem", "ca.der", "both.pem"):
        got = []
        await exchange(client(GOOD, ca=ca, got=got), got)


async def test_a_name_that_is_an_address_is_checked_too():
    await refused(client(GOOD, host="127.0.0.1"))


async def test_a_certificate_of_another_ca_is_refused():
    await refused(client(GOOD, ca="other.pem"))


async def test_an_expired_certificate_is_refused():
    await refused(client(EXPIRED))


async def test_a_server_without_tls_is_refused():
    await refused(client(PLAIN))


async def test_a_client_without_tls_gets_nowhere_with_a_server_that_has_it():
    me = Client("localhost", GOOD, "me", timeout=30)
    await refused(me)


def test_a_file_without_a_certificate_is_named():
    for name in ("empty", "junk"):
        try:
            context(FILES + "/" + name)
        except ValueError as error:
            assert name in str(error)
        else:
            raise AssertionError("took it")
    try:
        context(FILES + "/missing")
    except OSError:
        return
    raise AssertionError("took it")


async def test_a_download_is_checked_in_the_same_way():
    for ca, host in (("other.pem", "localhost"), ("ca.pem", "127.0.0.1")):
        download = Download(context(FILES + "/" + ca), 30)
        try:
            await download.open(f"https://{host}:{GOOD}/")
        except OSError as error:
            assert "HTTP" not in str(error)
        else:
            raise AssertionError("opened")
        await download.close()
    # the right one: the broker does not speak HTTP, which can only be learned behind the handshake
    download = Download(context(FILES + "/ca.pem"), 30)
    try:
        await download.open(f"https://localhost:{GOOD}/")
    except OSError as error:
        assert "HTTP" in repr(error) or "104" in repr(error) or "reset" in repr(error), repr(error)
    await download.close()


async def test_the_name_is_looked_up_again_at_each_connect():
    asked = []

    async def lookup(host, port):
        asked.append(host)
        return "127.0.0.1"

    original, mqtt.address = mqtt.address, lookup
    try:
        me = client(GOOD, got=[])  # the address leads there, the name is what the certificate must have
        for _ in range(3):
            await me.connect()
            await me.close()
    finally:
        mqtt.address = original
    assert asked == ["localhost"] * 3
