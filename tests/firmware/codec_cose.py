"""Whole messages, byte for byte as the shared vectors have them."""

import asyncio
from binascii import hexlify, unhexlify
from hashlib import sha256

from sensornode import cose, senml
from sensornode.ecdsa import SigningKey
from vectors import load, plain


def key_of(vector):
    return SigningKey(unhexlify(vector["private_key"]), unhexlify(vector["public_key"]))


def hexed(data):
    return hexlify(data).decode()


# Units as a node's sensor table names them.
UNITS = {
    "pm2_5": "ug/m3",
    "pm10": "ug/m3",
    "so2": "ug/m3",
    "no2": "ug/m3",
    "co": "ug/m3",
    "o3": "ug/m3",
    "co2": "ppm",
    "temperature": "Cel",
    "dew_point": "Cel",
    "humidity": "%RH",
    "pressure": "hPa",
    "rain": "mm",
    "wind_speed": "m/s",
    "wind_direction": "deg",
    "illuminance": "lx",
    "luminance": "/",
    "motion": "/",
    "objects": "count",
    "battery_voltage": "V",
    "rssi": "dBm",
    "frame_sha256": None,
}


def test_data_messages():
    for vector in load("messages.json")["vectors"]:
        key = key_of(vector)
        pack = senml.Pack(senml.base_name(vector["site"], vector["node"]), vector["base_time"], 4096)
        for channel, value, time in plain(vector["records"]):
            assert pack.add([(channel, UNITS[channel], value)], time), vector["name"]
        payload = pack.encode()
        assert hexed(payload) == vector["payload"], vector["name"]
        fields = vector["boot"], vector["seq"], unhexlify(vector["prev"]), vector["tq"], vector["uptime"]
        protected = cose.header(key.public, *fields)
        assert hexed(protected) == vector["protected"], vector["name"]
        assert hexed(cose.digest(protected, payload)) == vector["digest"], vector["name"]
        message = asyncio.run(cose.data(key, *fields, payload))
        assert hexed(message) == vector["message"], vector["name"]


def test_a_chain_carries_the_hash_of_the_message_before():
    chain = [vector for vector in load("messages.json")["vectors"] if vector["node"] == "chain"]
    assert len(chain) == 3
    prev = cose.NO_PREVIOUS
    for vector in chain:
        assert hexed(prev) == vector["prev"]
        prev = cose.message_hash(unhexlify(vector["message"]))


def test_announces():
    for vector in load("announces.json")["vectors"]:
        key = key_of(vector)
        base = senml.base_name(vector["site"], vector["node"])
        claim = vector["claim"] and unhexlify(vector["claim"])
        told = (
            vector["kind"],
            vector["hardware"],
            vector["firmware"],
            vector["channels"],
            claim,
            vector["oldest"],
        )
        message = asyncio.run(cose.announce(key, vector["boot"], vector["tq"], vector["uptime"], base, *told))
        assert hexed(message) == vector["message"], vector["name"]


def test_receipts():
    vectors = load("receipts.json")
    for vector in vectors["valid"]:
        assert cose.receipt(unhexlify(vector["hex"])) == (vector["boot"], vector["seq"]), vector
    for vector in vectors["invalid"]:
        try:
            cose.receipt(unhexlify(vector["hex"]))
        except ValueError:
            continue
        raise AssertionError(vector)


def test_the_fullest_pack_fits_with_the_longest_header():
    key = SigningKey(bytes(31) + b"\x01")
    pack = senml.Pack("n", 1700000000)
    assert pack.add([("a", None, bytes(senml.MAX_PAYLOAD - 20))])
    payload = bytes(pack.encode()) + bytes(senml.MAX_PAYLOAD - len(pack.encode()))
    message = asyncio.run(cose.data(key, 2**53, 2**53, sha256(b"").digest(), 3, 2**53, payload))
    assert len(message) == cose.MAX_MESSAGE
    try:
        asyncio.run(cose.data(key, 2**53, 2**53, sha256(b"").digest(), 3, 2**53, payload + b"\x00"))
    except ValueError:
        return
    raise AssertionError("4097 bytes were not refused")
