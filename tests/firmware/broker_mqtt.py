"""The MQTT client against a real broker: run by test_core_node.py, which names it in BROKER_PORT."""

import asyncio
import os

from sensornode.mqtt import Client, MqttError

PORT = int(os.getenv("BROKER_PORT"))
BASE = "sensorhub/v1/lab/roof-1/"


def client(got=None, **options):
    options.setdefault("user", "roof-1")
    options.setdefault("password", "roof-1-secret")

    def on_message(topic, payload):
        got.append((topic, bytes(payload)))

    return Client("127.0.0.1", PORT, "lab-roof-1", on_message=on_message, timeout=30, **options)


async def until(condition, what):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


async def test_whatever_is_published_arrives_in_order():
    got = []
    me = client(got, room_in=4352)
    await me.connect()
    await me.subscribe(BASE + "data")
    sent = [bytes((n,)) * (n * 171 % 4097) for n in range(60)]
    for qos in (0, 1):
        got.clear()
        for payload in sent:
            await me.publish(BASE + "data", payload, qos)
        await until(lambda: len(got) >= len(sent), "not all arrived")
        assert got == [(BASE.encode() + b"data", payload) for payload in sent]
    await until(lambda: not me.unacked, "not all were acknowledged")
    assert not me.error
    await me.close(polite=True)


async def test_pings_keep_an_idle_connection_open():
    me = client(keepalive=3)  # the broker ends a connection after half as much again
    await me.connect()
    await asyncio.sleep(7)
    assert not me.down.is_set(), me.error
    await me.close()


async def test_a_wrong_password_is_said_to_be_one():
    me = client(password="wrong")
    try:
        await me.connect()
    except MqttError as error:
        assert "not authorised" in str(error) or "password" in str(error)
        return
    raise AssertionError("let in")


async def test_a_second_connection_of_the_same_name_ends_the_first():
    first, second = client(), client()
    await first.connect()
    await second.connect()
    await asyncio.wait_for(first.down.wait(), 60)
    assert not second.down.is_set()
    await second.close()
