"""Write the test vectors of the wire: `python tests/vectors/make.py [folder]`.

Deterministic: the same files on every run. Both sides (the gateway and the firmware) read them and must make
the same bytes. In the JSON, byte strings are hex; a data value within a record is {"hex": ...}; an integer is
an integer on the wire too, and whatever has a decimal point is a float.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path
from typing import Any

from coincurve import PrivateKey
from refused import refused_vectors

from sensorhub.wire import (
    Reason,
    cbor,
    encode_announce,
    encode_message,
    encode_receipt,
    kid,
    parse_signed,
    public_key_of,
    sig_structure,
)
from sensorhub.wire.keys import sign_digest

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
NOW = 1_700_000_000
ZEROS = bytes(32)


def seeded(name: str) -> bytes:
    """Return 32 bytes that are always the same for a name."""
    return hashlib.sha256(b"sensorhub test vector: " + name.encode()).digest()


def key_of(name: str) -> PrivateKey:
    return PrivateKey(seeded(name))


def single(value: float) -> float:
    """Round to binary32, as the firmware does before it encodes."""
    rounded: float = struct.unpack(">f", struct.pack(">f", value))[0]
    return rounded


def plain(value: object) -> object:
    """Return `value` in its JSON form; floats must print with a decimal point."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float):
        assert "." in repr(value), value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {"map": [[plain(key), plain(item)] for key, item in value.items()]}
    return value


# --- CBOR items -----------------------------------------------------------------------------------------


def cbor_vectors() -> dict[str, Any]:
    integers = [0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1]
    integers += [-1 - value for value in integers] + [10, -47, -65537, -65538, -65539]
    halves = [
        0.0,
        1.0,
        1.5,
        -0.5,
        65504.0,
        -65504.0,
        0.0999755859375,
        6.103515625e-05,
        5.960464477539063e-08,
        23.5,
    ]
    singles = [
        single(23.4),
        1013.25,
        -40.099998474121094,
        65536.0,
        100000.0,
        65505.0,
        2.9802322387695312e-08,
        0.333251953125 + 2**-20,
    ]
    doubles = [23.4, 1.1, -4.1, 16777217.0]
    others: list[object] = [
        "", "pm2_5", "ug/m3", "µg", b"", b"\x01\x02\x03", bytes(24), bytes(256), None, True, False,
        [], [1, 2, 3], list(range(24)), {}, {1: -47, 4: b"12345678"}, {0: "a", -2: 1, 8: 2, -3: 3, 24: 4, -25: 5},
        [[1, "a"], {1: [2]}],
    ]  # fmt: skip
    valid = []
    for width, values in (
        ("integer", integers),
        ("half", halves),
        ("single", singles),
        ("double", doubles),
        ("item", others),
    ):
        for value in values:
            encoded = cbor.encode(value)
            if width in ("half", "single", "double"):
                assert len(encoded) == {"half": 3, "single": 5, "double": 9}[width], value
            valid.append({"what": width, "value": plain(value), "hex": encoded.hex()})
    invalid = [
        ("empty input", "", False),
        ("cut off in a length", "19ff", False),
        ("cut off in a byte string", "4301", False),
        ("cut off in an array", "8201", False),
        ("reserved length 28", "1c", False),
        ("break outside anything", "ff", False),
        ("simple value 24 to 31 in two bytes", "f818", False),
        ("a chunk of another type", "5f6161ff", False),
        ("odd indefinite map", "bf01ff", False),
        ("bytes after the item", "0000", False),
        ("array of 2**64 - 1 items", "9bffffffffffffffff", False),
        ("integer 23 in two bytes", "1817", True),
        ("integer 255 in three bytes", "1900ff", True),
        ("integer 65535 in five bytes", "1a0000ffff", True),
        ("integer 2**32 - 1 in nine bytes", "1b00000000ffffffff", True),
        ("text length in two bytes", "780161", True),
        ("indefinite array", "9f01ff", True),
        ("indefinite byte string", "5f4101ff", True),
        ("indefinite map", "bf0102ff", True),
        ("map keys out of order", "a202010102", True),
        ("a map key twice", "a201010102", True),
        ("1.5 as binary32", "fa3fc00000", True),
        ("1.5 as binary64", "fb3ff8000000000000", True),
        ("binary32 value as binary64", "fb408faa0000000000", True),
        ("text that is not UTF-8", "61ff", True),
        ("undefined", "f7", True),
        ("bignum", "c24105", True),
        ("shared value", "d81c05", True),
        ("nested 12 deep", "81" * 12 + "00", True),
    ]
    return {
        "about": "CBOR items in deterministic encoding (RFC 8949, section 4.2), and items that must be refused.",
        "valid": valid,
        "invalid": [{"what": what, "hex": text, "well_formed": ok} for what, text, ok in invalid],
    }


# --- signed data messages -------------------------------------------------------------------------------

BEIJING = (
    "pm2_5",
    "pm10",
    "so2",
    "no2",
    "co",
    "o3",
    "temperature",
    "pressure",
    "dew_point",
    "rain",
    "wind_direction",
    "wind_speed",
)
Record = tuple[str, Any, Any]


def interval(step: int, at: int) -> list[Record]:
    """Return one sampling interval of a station, with halves, singles and integers among the values."""
    values: list[float | int] = [
        35 + step, 71.5 + step, 4.0, single(38.2 + step / 10), 700 + 100 * step, single(61.3 - step),
        single(-2.4 + step / 7), 1023.25 - step, single(-13.6), 0.0, single(202.5), single(1.7 + step / 3),
    ]  # fmt: skip
    return [(name, value, at) for name, value in zip(BEIJING, values, strict=True)]


def message_inputs() -> list[dict[str, Any]]:
    def case(name: str, records: list[Record], **given: Any) -> dict[str, Any]:
        inputs = {
            "name": name, "key": "node one", "site": "beijing", "node": "aotizhongxin", "boot": 1, "seq": 1,
            "prev": ZEROS, "tq": 2, "uptime": 3600, "base_time": NOW - 60, "records": records,
        }  # fmt: skip
        return inputs | given

    minute = [record for step in range(6) for record in interval(step, 10 * step)[:10]]
    names = ("temperature", "humidity", "pressure", "pm2_5", "rssi", "rain", "wind_speed", "battery_voltage")
    edges: list[Record] = [
        ("temperature", value, at)
        for value, at in [
            (0, 0), (0.0, 0), (1, 0), (-1, 0), (23, 0), (24, 0), (-24, 0), (-25, 0), (255, 0), (256, 0), (-256, 0),
            (-257, 0), (65535, 0), (65536, 0), (-65536, 0), (-65537, 0), (2**32 - 1, 0), (-(2**32), 0),
            (0.5, 0), (-0.5, 0), (1.0, 0), (65504.0, 0), (65536.0, 0), (single(0.1), 0), (single(-17.3), 0),
            (0.0999755859375, 0), (6.103515625e-05, 0), (5.960464477539063e-08, 0), (2.9802322387695312e-08, 0),
            (100000.0, 0), (7, 1), (7, -1), (7, 0.5), (7, -0.25), (7, single(0.1)), (7, 300), (7, -86400),
            (7, 100000000),
        ]
    ]  # fmt: skip
    biggest: list[Record] = [(names[i % 8], single(i * 0.37 - 11.1), i * 3) for i in range(140)]
    cases = [
        case("the example of the README", [("temperature", 21.5, 0), ("humidity", 48, 0), ("temperature", single(21.6), 10)], key="readme", site="graz", node="roof-1", boot=3, seq=258, prev=seeded("the message before")),
        case("one record", [("temperature", 21.5, 0)]),
        case("one record, key 1, shortest names", [("rssi", -67, 0)], private=1, site="a", node="0", seq=2),
        case("one interval of twelve channels", interval(0, 0), seq=3),
        case("uptime only, no base time", interval(1, 0)[:4], tq=0, base_time=None, uptime=17, seq=4),
        case("uptime only, several intervals", [r for i in range(3) for r in interval(i, 10 * i)[:3]], tq=0, base_time=None, uptime=600, boot=2, seq=5),
        case("held-over clock, longest names", [("humidity", 55.5, 0)], tq=1, site="s" * 32, node="n" * 32, seq=6),
        case("satellite clock, large counters", [("pressure", 1013.25, 0)], tq=3, boot=2**32 - 1, seq=2**32, uptime=2**32 - 1),
        case("counters at their limit", [("co2", 412, 0)], private=ORDER - 1, boot=2**53 - 1, seq=2**53 - 1, uptime=2**53 - 1),
        case("counters around the length steps", [("illuminance", 70000, 0)], boot=23, seq=24, uptime=255),
        case("counters around the next length steps", [("illuminance", 70000.0, 0)], boot=256, seq=65535, uptime=65536),
        case("a minute of ten channels, sixty records", minute, seq=7),
        case("many intervals after an outage", [r for i in range(12) for r in interval(i, 300 * i)[:8]], seq=8, base_time=NOW - 7200),
        case("values and times at the edges", edges, seq=9),
        case("a picture: numbers and a data value", [("luminance", 0.5, 0), ("objects", 3, 0), ("frame_sha256", seeded("frame"), 0), ("motion", 0.25, 1), ("frame_sha256", seeded("second frame"), 1)], node="camera-1", key="camera", seq=10),
        case("a data value alone", [("frame_sha256", seeded("only frame"), 0)], node="camera-1", key="camera", seq=11),
        case("as many records as permitted, 256", [("rssi", -1 - i % 20, 0) for i in range(256)], seq=12),
        case("a large message", biggest, seq=13),
    ]  # fmt: skip
    cases.append(largest(case("largest message, 4096 bytes", [], seq=14)))
    chained = case("first of a chain", [("temperature", 20.0, 0)], key="chain", node="chain", seq=1)
    cases.append(chained)
    return cases


def largest(inputs: dict[str, Any]) -> dict[str, Any]:
    """Fill a message with records until it has exactly 4096 bytes."""
    records: list[Record] = []
    while size_of(inputs | {"records": [*records, ("pm10", single(0.1 + len(records)), 60)]}) <= 4096 - 40:
        records.append(("pm10", single(0.1 + len(records)), 60))
    missing = 4096 - size_of(inputs | {"records": records})
    # a last record of a data channel is as long as we like
    for length in range(missing):
        trial = inputs | {"records": [*records, ("frame_sha256", bytes(length), 0)]}
        if size_of(trial) == 4096:
            return trial
    raise AssertionError("no message of exactly 4096 bytes")


def build(inputs: dict[str, Any]) -> tuple[PrivateKey, bytes]:
    key = PrivateKey(inputs["private"].to_bytes(32, "big")) if "private" in inputs else key_of(inputs["key"])
    fields = {name: value for name, value in inputs.items() if name not in ("name", "key", "private")}
    return key, encode_message(key, **fields)


def size_of(inputs: dict[str, Any]) -> int:
    try:
        return len(build(inputs)[1])
    except Exception as error:
        if getattr(error, "reason", None) is Reason.TOO_LARGE:
            return 1 << 30
        raise


def signed_outputs(key: PrivateKey, raw: bytes) -> dict[str, str]:
    signed = parse_signed(raw)
    return {
        "protected": signed.protected.hex(),
        "payload": signed.payload.hex(),
        "sig_structure": sig_structure(signed.protected, signed.payload).hex(),
        "digest": signed.digest.hex(),
        "signature": signed.signature.hex(),
        "message": raw.hex(),
    }


def message_vector(inputs: dict[str, Any]) -> dict[str, Any]:
    key, raw = build(inputs)
    for _, value, time in inputs["records"]:
        for number in (value, time):
            assert not isinstance(number, float) or single(number) == number, number
    public = public_key_of(key)
    return {
        "name": inputs["name"],
        "private_key": key.secret.hex(),
        "public_key": public.hex(),
        "kid": kid(public).hex(),
        "site": inputs["site"],
        "node": inputs["node"],
        "boot": inputs["boot"],
        "seq": inputs["seq"],
        "prev": inputs["prev"].hex(),
        "tq": inputs["tq"],
        "uptime": inputs["uptime"],
        "base_time": inputs["base_time"],
        "records": plain(inputs["records"]),
        **signed_outputs(key, raw),
    }


def message_vectors() -> dict[str, Any]:
    vectors = [message_vector(inputs) for inputs in message_inputs()]
    # the chain goes on: each message carries the hash of the one before, over a restart too
    inputs = message_inputs()[-1]
    previous = bytes.fromhex(vectors[-1]["message"])
    for seq, boot in ((2, 1), (3, 2)):
        inputs = inputs | {
            "name": f"next of the chain, seq {seq}",
            "seq": seq,
            "boot": boot,
            "prev": hashlib.sha256(previous).digest(),
            "base_time": NOW - 60 + seq,
        }
        vectors.append(message_vector(inputs))
        previous = bytes.fromhex(vectors[-1]["message"])
    return {
        "about": "Signed data messages: every input, and every intermediate and final byte. Floats are exact in binary32.",
        "vectors": vectors,
    }


# --- announces and receipts -----------------------------------------------------------------------------


def announce_vectors() -> dict[str, Any]:
    units = {
        "pm2_5": "ug/m3", "pm10": "ug/m3", "temperature": "Cel", "humidity": "%RH", "pressure": "hPa", "frame_sha256": "",
        "motion": "/",
    }  # fmt: skip
    cases: list[dict[str, Any]] = [
        {"name": "station with a claim", "key": "node one", "site": "beijing", "node": "aotizhongxin", "boot": 1, "tq": 2, "uptime": 12, "kind": "station", "hardware": "esp32-devkit-v1", "firmware": "1.0.0", "channels": ["pm2_5", "pm10", "temperature"], "claim": seeded("claim")[:16], "oldest": 1},
        {"name": "no claim, uptime only", "key": "node two", "site": "home", "node": "balcony-2", "boot": 40, "tq": 0, "uptime": 3, "kind": "air", "hardware": "esp32", "firmware": "0.1.0", "channels": ["temperature", "humidity", "pressure"], "claim": None, "oldest": 2561},
        {"name": "camera with a data channel", "key": "camera", "site": "beijing", "node": "camera-1", "boot": 300, "tq": 1, "uptime": 70000, "kind": "camera", "hardware": "esp32-cam", "firmware": "2.11.3-rc1", "channels": ["motion", "frame_sha256"], "claim": None, "oldest": 2**53 - 1},
        {"name": "measures nothing yet", "key": "bare", "site": "a", "node": "b", "boot": 0, "tq": 0, "uptime": 0, "kind": "test", "hardware": "x", "firmware": "0", "channels": [], "claim": b"\x00", "oldest": 24},
    ]  # fmt: skip
    vectors = []
    for case in cases:
        key = key_of(case["key"])
        fields = {name: value for name, value in case.items() if name not in ("name", "key")}
        fields["channels"] = [(name, units[name]) for name in case["channels"]]
        raw = encode_announce(key, **fields)
        public = public_key_of(key)
        vectors.append(
            {
                "name": case["name"],
                "private_key": key.secret.hex(),
                "public_key": public.hex(),
                "kid": kid(public).hex(),
                **{name: case[name] for name in ("site", "node", "boot")},
                "seq": 0,
                "prev": ZEROS.hex(),
                **{name: case[name] for name in ("tq", "uptime", "kind", "hardware", "firmware")},
                "channels": [list(pair) for pair in fields["channels"]],
                "claim": None if case["claim"] is None else case["claim"].hex(),
                "oldest": case["oldest"],
                **signed_outputs(key, raw),
            }
        )
    return {
        "about": "Announces: payload map 0 base name, 1 public key, 2 kind, 3 hardware, 4 firmware, 5 channels, 6 claim, 7 oldest message held; seq 0, prev zero.",
        "vectors": vectors,
    }


def receipt_vectors() -> dict[str, Any]:
    pairs = [(0, 0), (1, 1), (1, 23), (23, 24), (2, 255), (255, 256), (3, 65535), (65536, 65536), (7, 2**32 - 1), (7, 2**32), (2**53 - 1, 2**53 - 1)]  # fmt: skip
    invalid = [
        ("empty", ""), ("not CBOR", "82"), ("three numbers", "83010203"), ("one number", "8101"), ("a map", "a10102"),
        ("negative", "820120"), ("a float", "8201f93c00"), ("true", "8201f5"), ("null", "8201f6"), ("longer than needed", "82011801"),
        ("indefinite", "9f0101ff"), ("bytes after it", "82010100"), ("beyond 2**53 - 1", "82011b0020000000000000"),
        ("JSON", b"[1,1]".hex()),
    ]  # fmt: skip
    return {
        "about": "Receipts: CBOR [boot, seq].",
        "valid": [{"boot": boot, "seq": seq, "hex": encode_receipt(boot, seq).hex()} for boot, seq in pairs],
        "invalid": [{"what": what, "hex": text} for what, text in invalid],
    }


# --- signatures -----------------------------------------------------------------------------------------


def signature_vectors() -> dict[str, Any]:
    edges = [ZEROS, bytes(31) + b"\x01", b"\xff" * 32, ORDER.to_bytes(32, "big"), (ORDER - 1).to_bytes(32, "big"), (ORDER + 1).to_bytes(32, "big"), b"\x80" + bytes(31)]  # fmt: skip
    private = [1, 2, 3, ORDER - 1, ORDER - 2, ORDER // 2, 1 << 255, int.from_bytes(seeded("edge"), "big")]
    pairs = [(secret.to_bytes(32, "big"), digest) for secret in private for digest in edges]
    pairs += [(seeded(f"key {i}"), seeded(f"digest {i}")) for i in range(50)]
    return {
        "about": "ES256K over a 32-byte digest: RFC 6979 nonce (HMAC-SHA-256, digest reduced modulo the order), low s.",
        "vectors": [
            {
                "private_key": secret.hex(),
                "public_key": public_key_of(PrivateKey(secret)).hex(),
                "digest": digest.hex(),
                "signature": sign_digest(PrivateKey(secret), digest).hex(),
            }
            for secret, digest in pairs
        ],
    }


FILES = {
    "cbor.json": cbor_vectors,
    "messages.json": message_vectors,
    "announces.json": announce_vectors,
    "receipts.json": receipt_vectors,
    "invalid.json": refused_vectors,
    "signatures.json": signature_vectors,
}


def text_of(content: dict[str, Any]) -> str:
    """Return the JSON text of a vector file: one vector per line, so that a change shows as a line."""
    lines = ["{"]
    entries = list(content.items())
    for index, (name, value) in enumerate(entries):
        comma = "," if index < len(entries) - 1 else ""
        if isinstance(value, list):
            lines.append(f" {json.dumps(name)}: [")
            lines.append(",\n".join("  " + json.dumps(item, ensure_ascii=True) for item in value))
            lines.append(f" ]{comma}")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=True)}{comma}")
    return "\n".join([*lines, "}"]) + "\n"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, make in FILES.items():
        (folder / name).write_text(text_of(make()), encoding="ascii")


if __name__ == "__main__":
    main()
