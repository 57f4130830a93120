"""Messages that must be refused, several for each reason, each with the first reason that applies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from coincurve import PrivateKey

from sensorhub.wire import Reason, cbor, encode_announce, encode_message, kid, public_key_of, sig_structure
from sensorhub.wire.keys import sign_digest

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
NOW = 1_700_000_000
TOLERANCE = 60
SITE, NODE = "beijing", "aotizhongxin"
BASE_NAME = f"urn:dev:sensorhub:{SITE}:{NODE}:"
NODE_KEY = PrivateKey(hashlib.sha256(b"sensorhub refused vectors: node").digest())
OTHER_KEY = PrivateKey(hashlib.sha256(b"sensorhub refused vectors: stranger").digest())
NODE_PUBLIC = public_key_of(NODE_KEY)
Vector = tuple[str, Reason, bytes]

GOOD = {"boot": 3, "seq": 7, "prev": bytes(32), "tq": 2, "uptime": 600}


def message(records: list[tuple[str, Any, Any]] | None = None, **changes: Any) -> bytes:
    fields = GOOD | {"site": SITE, "node": NODE, "base_time": NOW} | changes
    key = fields.pop("key", NODE_KEY)
    return encode_message(key, records=records or [("temperature", 21.5, 0)], **fields)


def header(**changes: Any) -> dict[int, Any]:
    fields = {1: -47, 4: kid(NODE_PUBLIC), -65537: [3, 7], -65538: bytes(32), -65539: [2, 600]}
    return fields | {int(name.replace("m", "-").lstrip("k")): value for name, value in changes.items()}


def pack(*records: Any) -> bytes:
    return cbor.encode(list(records))


def first(**changes: Any) -> dict[int, Any]:
    """Return a good first record with changes: n u v t d are its own keys, bn and bt the base fields."""
    labels = {"n": 0, "u": 1, "v": 2, "t": 6, "d": 8, "bn": -2, "bt": -3}
    record: dict[int, Any] = {0: "temperature", 1: "Cel", 2: 21.5, -2: BASE_NAME, -3: NOW}
    for name, value in changes.items():
        if value is ...:
            record.pop(labels[name], None)
        else:
            record[labels[name]] = value
    return record


def signed(
    payload: bytes,
    protected: bytes | None = None,
    *,
    key: PrivateKey = NODE_KEY,
    envelope: str = "d284{protected}a0{payload}{signature}",
) -> bytes:
    """Sign whatever it is, properly, and put it in an envelope written in hex."""
    if protected is None:
        protected = cbor.encode(header())
    signature = sign_digest(key, hashlib.sha256(sig_structure(protected, payload)).digest())
    parts = {"protected": protected, "payload": payload, "signature": signature}
    return bytes.fromhex(envelope.format(**{name: cbor.encode(part).hex() for name, part in parts.items()}))


def with_header(**changes: Any) -> bytes:
    return signed(pack(first()), cbor.encode(header(**changes)))


def too_large() -> Iterator[Vector]:
    good = message()
    yield "4097 zero bytes", Reason.TOO_LARGE, bytes(4097)
    yield "a good message with bytes after it up to 4097", Reason.TOO_LARGE, good + bytes(4097 - len(good))
    payload = pack(first(n="frame_sha256", u=..., v=..., d=bytes(3880)))
    yield (
        "a well signed message of 4097 bytes",
        Reason.TOO_LARGE,
        signed(payload + bytes(4097 - len(signed(payload)))),
    )
    yield "5000 bytes of text", Reason.TOO_LARGE, b"x" * 5000


def not_cbor() -> Iterator[Vector]:
    good = message()
    yield "empty", Reason.NOT_CBOR, b""
    yield "one byte short", Reason.NOT_CBOR, good[:-1]
    yield "one byte more", Reason.NOT_CBOR, good + b"\x00"
    yield "two messages in one", Reason.NOT_CBOR, good + good
    yield "first half", Reason.NOT_CBOR, good[: len(good) // 2]
    yield "tag 18 alone", Reason.NOT_CBOR, b"\xd2"
    yield "JSON", Reason.NOT_CBOR, b'{"temperature": 21.5}'
    yield "reserved length", Reason.NOT_CBOR, b"\xd2\x9c"
    yield "array of 2**64 - 1", Reason.NOT_CBOR, b"\xd2\x9b" + b"\xff" * 8
    yield "4096 opened arrays", Reason.NOT_CBOR, b"\x81" * 4096
    yield "only breaks", Reason.NOT_CBOR, b"\xff" * 64
    yield "noise", Reason.NOT_CBOR, hashlib.sha512(b"noise 3").digest()


def not_cose() -> Iterator[Vector]:
    good = pack(first())
    reason = Reason.NOT_COSE
    yield "an integer", reason, b"\x00"
    yield "text", reason, cbor.encode("temperature 21.5")
    yield "4095 nested arrays", reason, b"\x81" * 4095 + b"\x00"
    yield "no tag", reason, signed(good, envelope="84{protected}a0{payload}{signature}")
    yield "tag 17 (COSE_Mac0)", reason, signed(good, envelope="d184{protected}a0{payload}{signature}")
    yield "tag 98 (COSE_Sign)", reason, signed(good, envelope="d86284{protected}a0{payload}{signature}")
    yield "tag 18 in two bytes", reason, signed(good, envelope="d81284{protected}a0{payload}{signature}")
    yield (
        "tag 18 within tag 61 (CWT)",
        reason,
        signed(good, envelope="d83dd284{protected}a0{payload}{signature}"),
    )
    yield "array of three", reason, signed(good, envelope="d283{protected}a0{payload}")
    yield "array of five", reason, signed(good, envelope="d285{protected}a0{payload}{signature}00")
    yield "a map instead", reason, signed(good, envelope="d2a2{protected}a0{payload}{signature}")
    yield "indefinite array", reason, signed(good, envelope="d29f{protected}a0{payload}{signature}ff")
    yield (
        "array length in two bytes",
        reason,
        signed(good, envelope="d29804{protected}a0{payload}{signature}"),
    )
    yield "payload null (detached)", reason, signed(good, envelope="d284{protected}a0f6{signature}")
    yield "payload is text", reason, signed(good, envelope="d284{protected}a06161{signature}")
    yield "payload in chunks", reason, signed(good, envelope="d284{protected}a05f{payload}ff{signature}")
    plain = cbor.encode(header())
    long_form = f"d284{{protected}}a059{len(good):04x}{good.hex()}{{signature}}"
    yield "payload length in three bytes", reason, signed(good, envelope=long_form)
    long_form = f"d28459{len(plain):04x}{plain.hex()}a0{{payload}}{{signature}}"
    yield "header length in three bytes", reason, signed(good, envelope=long_form)
    short = signed(b"\x80", envelope="d284{protected}a0580180{signature}")
    yield "length of a short payload in two bytes", reason, short
    raw = signed(good)
    yield "signature length in three bytes", reason, raw[:-66] + b"\x59\x00\x40" + raw[-64:]
    yield (
        "unprotected header not empty",
        reason,
        signed(good, envelope="d284{protected}a10126{payload}{signature}"),
    )
    yield (
        "unprotected header an array",
        reason,
        signed(good, envelope="d284{protected}80{payload}{signature}"),
    )
    yield (
        "protected header not wrapped",
        reason,
        signed(good, envelope="d284" + cbor.encode(header()).hex() + "a0{payload}{signature}"),
    )
    yield "protected header not CBOR", reason, signed(good, b"\xff\xff")
    yield "protected header an array", reason, signed(good, cbor.encode([1, -47]))
    right = cbor.encode(header())
    yield "protected header with a byte after it", reason, signed(good, right + b"\x00")
    yield "protected header indefinite", reason, signed(good, b"\xbf" + right[1:] + b"\xff")
    yield "header keys out of order", reason, signed(good, right[:1] + right[4:14] + right[1:4] + right[14:])
    yield "algorithm twice", reason, signed(good, b"\xa6" + right[1:4] + right[1:])
    yield (
        "algorithm in three bytes",
        reason,
        signed(good, right.replace(b"\x01\x38\x2e", b"\x01\x39\x00\x2e")),
    )
    yield "kid of seven bytes", reason, with_header(k4=kid(NODE_PUBLIC)[:7])
    yield "kid as text", reason, with_header(k4="12345678")
    yield "an unknown header label", reason, with_header(k16="application/senml+cbor")
    yield "critical labels", reason, with_header(k2=[-65537])
    for missing, what in ((4, "kid"), (-65537, "boot and seq"), (-65538, "prev"), (-65539, "time quality")):
        fields = header()
        del fields[missing]
        yield f"no {what}", reason, signed(good, cbor.encode(fields))
    yield "boot alone", reason, with_header(km65537=[3])
    yield "boot, seq and more", reason, with_header(km65537=[3, 7, 1])
    yield "seq a float", reason, with_header(km65537=[3, 7.0])
    yield "seq true", reason, with_header(km65537=[3, True])
    yield "seq negative", reason, with_header(km65537=[3, -1])
    yield "seq 2**53", reason, with_header(km65537=[3, 2**53])
    yield "boot 2**64 - 1", reason, with_header(km65537=[2**64 - 1, 7])
    yield (
        "seq in nine bytes",
        reason,
        signed(good, right.replace(b"\x82\x03\x07", b"\x82\x03\x1b" + bytes(7) + b"\x07")),
    )
    yield "seq 0 on the data topic", reason, with_header(km65537=[3, 0])
    yield "prev of 31 bytes", reason, with_header(km65538=bytes(31))
    yield "prev null", reason, with_header(km65538=None)
    yield "time quality 4", reason, with_header(km65539=[4, 600])
    yield "time quality -1", reason, with_header(km65539=[-1, 600])
    yield "time quality true", reason, with_header(km65539=[True, 600])
    yield "uptime a float", reason, with_header(km65539=[2, 600.5])
    yield "uptime negative", reason, with_header(km65539=[2, -1])
    yield "signature of 63 bytes", reason, signed(good, envelope="d284{protected}a0{payload}583f" + "11" * 63)
    yield "signature of 65 bytes", reason, signed(good, envelope="d284{protected}a0{payload}5841" + "11" * 65)
    yield (
        "signature in DER",
        reason,
        signed(
            good, envelope="d284{protected}a0{payload}5846" + NODE_KEY.sign(b"x").hex().ljust(140, "0")[:140]
        ),
    )
    yield "signature empty", reason, signed(good, envelope="d284{protected}a0{payload}40")


def wrong_algorithm() -> Iterator[Vector]:
    reason = Reason.WRONG_ALGORITHM
    for value, name in (
        (-7, "ES256"),
        (-8, "EdDSA"),
        (-35, "ES384"),
        (5, "HMAC 256/256"),
        (-46, "HSS-LMS"),
        (0, "reserved"),
    ):
        yield f"algorithm {value}, {name}", reason, with_header(k1=value)
    yield "algorithm as text", reason, with_header(k1="ES256K")
    yield "algorithm null", reason, with_header(k1=None)
    yield "algorithm -47.0", reason, with_header(k1=-47.0)
    fields = header()
    del fields[1]
    yield "no algorithm", reason, signed(pack(first()), cbor.encode(fields))
    yield "empty protected header map", reason, signed(pack(first()), b"\xa0")
    yield "an ES256 message of another system", reason, signed(b"hello", cbor.encode({1: -7}))
    yield (
        "wrong algorithm comes before a missing label",
        reason,
        signed(pack(first()), cbor.encode({1: -7, 4: b""})),
    )


def unknown_kid() -> Iterator[Vector]:
    reason = Reason.UNKNOWN_KID
    yield "a stranger, properly signed", reason, message(key=OTHER_KEY)
    yield "kid of zeros", reason, with_header(k4=bytes(8))
    yield (
        "kid off by one bit",
        reason,
        with_header(k4=bytes([kid(NODE_PUBLIC)[0] ^ 1]) + kid(NODE_PUBLIC)[1:]),
    )
    yield "unknown kid comes before a bad signature", reason, message(key=OTHER_KEY)[:-64] + bytes(64)
    yield (
        "unknown kid comes before a payload that is no SenML",
        reason,
        signed(b"", cbor.encode(header(k4=bytes(8)))),
    )


def bad_signature() -> Iterator[Vector]:
    reason = Reason.BAD_SIGNATURE
    good = message()
    body, r, s = good[:-64], good[-64:-32], int.from_bytes(good[-32:], "big")
    yield "signed by another key under this kid", reason, signed(pack(first()), key=OTHER_KEY)
    yield "high s", reason, body + r + (ORDER - s).to_bytes(32, "big")
    yield "signature of zeros", reason, body + bytes(64)
    yield "signature of ones", reason, body + b"\xff" * 64
    yield "r is zero", reason, body + bytes(32) + good[-32:]
    yield "s is zero", reason, body + r + bytes(32)
    yield "r is the order", reason, body + ORDER.to_bytes(32, "big") + good[-32:]
    yield "s is the order", reason, body + r + ORDER.to_bytes(32, "big")
    yield "r and s swapped", reason, body + good[-32:] + r
    yield "last bit of the signature", reason, good[:-1] + bytes([good[-1] ^ 1])
    yield "value changed after signing", reason, good.replace(b"\x02\xf9\x4d\x60", b"\x02\xf9\x4d\x61")
    yield "seq changed after signing", reason, good.replace(b"\x82\x03\x07", b"\x82\x03\x08")
    yield (
        "prev changed after signing",
        reason,
        good.replace(b"\x58\x20" + bytes(32), b"\x58\x20" + b"\x01" * 32),
    )
    yield "signature of another message", reason, body + message(seq=8)[-64:]
    yield "bad signature comes before a payload that is no SenML", reason, signed(b"\xff", key=OTHER_KEY)
    yield (
        "bad signature comes before a wrong name",
        reason,
        signed(pack(first(bn="urn:dev:sensorhub:x:y:")), key=OTHER_KEY),
    )


def name_mismatch() -> Iterator[Vector]:
    reason = Reason.NAME_MISMATCH
    yield "another node", reason, message(node="dingling")
    yield "another site", reason, message(site="graz")
    yield "names swapped", reason, message(site=NODE, node=SITE)
    yield "a longer node name", reason, message(node=NODE + "2")
    for what, name in (
        ("no final colon", BASE_NAME[:-1]),
        ("upper case", BASE_NAME.upper()),
        ("another namespace", "urn:dev:mac:0024befffe804ff1:"),
        ("empty", ""),
        ("a line feed after it", BASE_NAME + "\n"),
        ("NUL after it", BASE_NAME + "\0"),
    ):
        yield f"base name: {what}", reason, signed(pack(first(bn=name)))
    yield (
        "wrong name comes before a missing unit",
        reason,
        signed(pack(first(bn="urn:dev:sensorhub:beijing:x:", u=...))),
    )
    yield (
        "wrong name comes before an unknown channel",
        reason,
        signed(pack(first(bn="urn:dev:sensorhub:beijing:x:", n="magic"))),
    )
    yield "wrong name comes before the future", reason, message(node="dingling", base_time=NOW + 3600)


def not_senml() -> Iterator[Vector]:
    reason = Reason.NOT_SENML

    def case(what: str, *records: Any) -> Vector:
        return what, reason, signed(pack(*records))

    good = pack(first())
    yield "empty payload", reason, signed(b"")
    yield "payload not CBOR", reason, signed(b"\xff")
    yield (
        "SenML JSON",
        reason,
        signed(b'[{"bn":"urn:dev:sensorhub:beijing:aotizhongxin:","n":"temperature","u":"Cel","v":21.5}]'),
    )
    yield "a map, not an array", reason, signed(cbor.encode(first()))
    yield "no record", reason, signed(b"\x80")
    yield "a byte after the array", reason, signed(good + b"\x00")
    yield "indefinite array", reason, signed(b"\x9f" + good[1:] + b"\xff")
    yield "array length in two bytes", reason, signed(b"\x98\x01" + good[1:])
    yield "array longer than its items", reason, signed(b"\x82" + good[1:])
    yield "record keys out of order", reason, signed(b"\x81\xa5\x01\x63Cel\x00\x6btemperature" + good[18:])
    yield "a key twice", reason, signed(b"\x81\xa6" + good[2:15] + good[2:])
    yield (
        "value in binary32 that binary16 holds",
        reason,
        signed(good.replace(b"\xf9\x4d\x60", b"\xfa\x41\xac\x00\x00")),
    )
    yield (
        "value in binary64 that binary16 holds",
        reason,
        signed(good.replace(b"\xf9\x4d\x60", b"\xfb\x40\x35\x80" + bytes(5))),
    )
    yield "integer in two bytes", reason, signed(good.replace(b"\xf9\x4d\x60", b"\x18\x15"))
    yield "name in chunks", reason, signed(good.replace(b"\x6btemperature", b"\x7f\x6btemperature\xff"))
    yield "name not UTF-8", reason, signed(good.replace(b"\x6btemperature", b"\x6btemperatur\xff"))
    yield "value a bignum", reason, signed(good.replace(b"\xf9\x4d\x60", b"\xc2\x41\x15"))
    yield "value a decimal fraction", reason, signed(good.replace(b"\xf9\x4d\x60", b"\xc4\x82\x20\x18\xd7"))
    yield case("record an array", first(), [0, "temperature"])
    yield case("record an integer", 5)
    yield case("empty second record", first(), {})
    yield case("no base name", first(bn=...))
    yield case("base name bytes", first(bn=BASE_NAME.encode()))
    yield case("base name in the second record", {0: "rain", 1: "mm", 2: 0}, first())
    yield case("base name again", first(), {0: "rain", 1: "mm", 2: 0, -2: BASE_NAME})
    yield case("base time again", first(), {0: "rain", 1: "mm", 2: 0, -3: NOW})
    yield case("no base time although synchronised", first(bt=...))
    yield case("base time a float", first(bt=1.7e9))
    yield case("base time null", first(bt=None))
    yield case("base time true", first(bt=True))
    yield case("base time relative (SenML: below 2**28)", first(bt=1000))
    yield case("base time 2**29 - 1", first(bt=2**29 - 1))
    yield case("base time 2**36", first(bt=2**36))
    yield case("base time 2**64 - 1", first(bt=2**64 - 1))
    yield case("base time negative", first(bt=-1))
    yield (
        "base time with time quality 0",
        reason,
        signed(pack(first()), cbor.encode(header(km65539=[0, 600]))),
    )
    yield (
        "base time null with time quality 0",
        reason,
        signed(pack(first(bt=None)), cbor.encode(header(km65539=[0, 600]))),
    )
    yield case("base unit", first() | {-4: "Cel"})
    yield case("base value", first() | {-5: 1.0})
    yield case("base version", first() | {-1: 10})
    yield case("sum", first() | {5: 1.0})
    yield case("update time", first() | {7: 60})
    yield case("text key", first() | {"n_": 1})
    yield case("string value", first(v=...) | {3: "hot"})
    yield case("boolean value", first(v=...) | {4: True})
    yield case("no name", first(n=...))
    yield case("no unit", first(u=...))
    yield case("no value", first(v=...))
    yield case("name a number", first(n=5))
    yield case("unit null", first(u=None))
    yield case("value text", first(v="21.5"))
    yield case("value bytes", first(v=b"\x15"))
    yield case("value true", first(v=True))
    yield case("value null", first(v=None))
    yield case("value an array", first(v=[21.5]))
    yield case("value 2**53", first(v=2**53))
    yield case("value -2**53", first(v=-(2**53)))
    yield case("value 2**64 - 1", first(v=2**64 - 1))
    yield case("value and data", first(d=b"\x00"))
    yield case("data with a unit", first(n="frame_sha256", u="/", v=..., d=bytes(32)))
    yield case("data as text", first(n="frame_sha256", u=..., v=..., d="00"))
    yield case("time 0 written out", first(t=0))
    yield case("time 0.0 written out", first(t=0.0))
    yield case("time -0.0 written out", first(t=-0.0))
    yield case("time text", first(t="1"))
    yield case("time true", first(t=True))
    yield case("time absolute (2**28)", first(t=2**28))
    yield case("time -2**28", first(t=-(2**28)))
    yield case("time 2**64 - 1", first(t=2**64 - 1))
    yield case("time in binary64 beyond the limit", first(t=1e300))
    yield case("257 records", first(), *[{0: "rssi", 1: "dBm", 2: -1}] * 256)
    yield case("structure comes before an unknown channel", first(n="magic"), {0: "rain", 1: "mm"})
    yield case("structure comes before NaN", first(v=float("nan")), {0: "rain", 2: 1})
    yield "nested 8 deep", reason, signed(b"\x81" * 9 + b"\x00")


def unknown_channel() -> Iterator[Vector]:
    reason = Reason.UNKNOWN_CHANNEL

    def case(what: str, *records: Any) -> Vector:
        return what, reason, signed(pack(*records))

    yield case("a channel not in the table", first(n="magic"))
    yield case("an empty name", first(n=""))
    yield case("a channel in upper case", first(n="Temperature"))
    yield case("a name with NUL", first(n="temperature\0"))
    yield case("a very long name", first(n="t" * 1000))
    yield case("degrees Fahrenheit", first(u="degF"))
    yield case("an empty unit", first(u=""))
    yield case("mg/m3 instead of ug/m3", first(n="pm2_5", u="mg/m3"))
    yield case("the unit of another channel", first(n="pressure", u="Cel"))
    yield case("the second record is unknown", first(), {0: "magic", 1: "Cel", 2: 1})
    yield case("a number for a data channel", first(n="frame_sha256", u="", v=1))
    yield case("data for a number channel", first(u=..., v=..., d=bytes(4)))
    yield case("unknown channel comes before NaN", first(v=float("nan")), {0: "magic", 1: "Cel", 2: 1})
    yield "unknown channel comes before the future", reason, signed(pack(first(n="magic", bt=NOW + 10_000)))


def not_finite() -> Iterator[Vector]:
    reason = Reason.NOT_FINITE
    good = pack(first(), {0: "rain", 1: "mm", 2: 21.5, 6: 21.5})
    patterns = [
        ("NaN", "f97e00"), ("infinity", "f97c00"), ("minus infinity", "f9fc00"), ("NaN with a payload", "f97c01"),
        ("NaN in binary32", "fa7fc00000"), ("infinity in binary32", "fa7f800000"), ("minus infinity in binary32", "faff800000"),
        ("NaN in binary32 with a payload", "fa7f800001"), ("NaN in binary64", "fb7ff8000000000000"),
        ("infinity in binary64", "fb7ff0000000000000"), ("NaN in binary64 with a payload", "fbfff0000000000001"),
    ]  # fmt: skip
    for what, encoded in patterns:
        number = bytes.fromhex(encoded)
        yield f"value {what}", reason, signed(good.replace(b"\xf9\x4d\x60", number, 1))
        yield f"time {what}", reason, signed(good.replace(b"\x06\xf9\x4d\x60", b"\x06" + number))
    yield "NaN comes before the future", reason, signed(pack(first(v=float("nan"), bt=NOW + 10_000)))


def future() -> Iterator[Vector]:
    reason = Reason.FUTURE
    yield "61 s ahead", reason, message(base_time=NOW + 61)
    yield "61 s ahead by satellite clock", reason, message(base_time=NOW + 61, tq=3)
    yield "a year ahead", reason, message(base_time=NOW + 31_536_000)
    yield "the year 4147", reason, message(base_time=2**36 - 1)
    yield "by its record time", reason, message([("rain", 0, 0), ("rain", 0, 60.5)], base_time=NOW)
    yield (
        "one record of many",
        reason,
        message([("rain", 0, 0), ("rain", 0, 3600), ("rain", 0, -60)], base_time=NOW),
    )


def announces() -> Iterator[Vector]:
    fields: dict[str, Any] = {
        "site": SITE, "node": NODE, "boot": 3, "tq": 2, "uptime": 9, "kind": "station", "hardware": "esp32", "firmware": "1.0.0",
        "channels": [("temperature", "Cel")], "claim": None, "oldest": 1,
    }  # fmt: skip
    content: dict[int, Any] = {
        0: BASE_NAME,
        1: NODE_PUBLIC,
        2: "station",
        3: "esp32",
        4: "1.0.0",
        5: [["temperature", "Cel"]],
        6: None,
        7: 1,
    }
    protected = cbor.encode(header(km65537=[3, 0]))
    good = encode_announce(NODE_KEY, **fields)

    def case(
        what: str, reason: Reason, key: PrivateKey = NODE_KEY, drop: int | None = None, **changes: Any
    ) -> Vector:
        changed = content | {int(name[1:]): value for name, value in changes.items()}
        changed.pop(drop, None)  # type: ignore[arg-type]
        return what, reason, signed(cbor.encode(changed), protected, key=key)

    yield "cut off", Reason.NOT_CBOR, good[:-1]
    yield "seq 7", Reason.NOT_COSE, signed(cbor.encode(content))
    yield (
        "prev not zero",
        Reason.NOT_COSE,
        signed(cbor.encode(content), cbor.encode(header(km65537=[3, 0], km65538=b"\x01" * 32))),
    )
    yield (
        "ES256",
        Reason.WRONG_ALGORITHM,
        signed(cbor.encode(content), cbor.encode(header(k1=-7, km65537=[3, 0]))),
    )
    yield case("another's public key", Reason.UNKNOWN_KID, k1=public_key_of(OTHER_KEY))
    yield case("signed by another key", Reason.BAD_SIGNATURE, key=OTHER_KEY)
    yield "last bit of the signature", Reason.BAD_SIGNATURE, good[:-1] + bytes([good[-1] ^ 1])
    point = b"\x11" * 64
    yield (
        "a public key that is no point",
        Reason.BAD_SIGNATURE,
        signed(cbor.encode(content | {1: point}), cbor.encode(header(k4=kid(point), km65537=[3, 0]))),
    )
    yield (
        "of another node",
        Reason.NAME_MISMATCH,
        encode_announce(NODE_KEY, **(fields | {"node": "dingling"})),
    )
    yield case(
        "wrong name comes before a missing kind",
        Reason.NAME_MISMATCH,
        k0="urn:dev:sensorhub:beijing:x:",
        drop=2,
    )
    yield "payload an array", Reason.NOT_SENML, signed(cbor.encode([1, 2]), protected)
    yield "payload a SenML pack", Reason.NOT_SENML, signed(pack(first()), protected)
    yield "payload empty", Reason.NOT_SENML, signed(b"", protected)
    yield case("no public key", Reason.NOT_SENML, drop=1)
    yield case("a compressed public key", Reason.NOT_SENML, k1=NODE_KEY.public_key.format())
    yield case("no name", Reason.NOT_SENML, drop=0)
    yield case("no claim key", Reason.NOT_SENML, drop=6)
    yield case("no oldest number", Reason.NOT_SENML, drop=7)
    yield case("an unknown key", Reason.NOT_SENML, k8=1)
    yield case("name bytes", Reason.NOT_SENML, k0=BASE_NAME.encode())
    yield case("kind empty", Reason.NOT_SENML, k2="")
    yield case("kind of 65 characters", Reason.NOT_SENML, k2="k" * 65)
    yield case("hardware a number", Reason.NOT_SENML, k3=32)
    yield case("firmware with an escape sequence", Reason.NOT_SENML, k4="\x1b[2J")
    yield case("channels a map", Reason.NOT_SENML, k5={0: "Cel"})
    yield case("a channel without unit", Reason.NOT_SENML, k5=[["temperature"]])
    yield case("a channel with unit null", Reason.NOT_SENML, k5=[["temperature", None]])
    yield case("a channel twice", Reason.NOT_SENML, k5=[["rain", "mm"], ["rain", "mm"]])
    yield case("claim text", Reason.NOT_SENML, k6="secret")
    yield case("claim empty", Reason.NOT_SENML, k6=b"")
    yield case("claim of 65 bytes", Reason.NOT_SENML, k6=bytes(65))
    yield case("oldest number 0", Reason.NOT_SENML, k7=0)
    yield case("oldest number negative", Reason.NOT_SENML, k7=-1)
    yield case("oldest number null", Reason.NOT_SENML, k7=None)
    yield case("oldest number true", Reason.NOT_SENML, k7=True)
    yield case("oldest number a float", Reason.NOT_SENML, k7=1.0)
    yield case("oldest number beyond 2**53 - 1", Reason.NOT_SENML, k7=2**53)
    yield case("unknown channel", Reason.UNKNOWN_CHANNEL, k5=[["magic", "Cel"]])
    yield case("unknown unit", Reason.UNKNOWN_CHANNEL, k5=[["temperature", "K"]])


GROUPS = (
    too_large, not_cbor, not_cose, wrong_algorithm, unknown_kid, bad_signature, name_mismatch, not_senml, unknown_channel,
    not_finite, future,
)  # fmt: skip


def refused_vectors() -> dict[str, Any]:
    vectors = [("data", *vector) for group in GROUPS for vector in group()]
    vectors += [("announce", *vector) for vector in announces()]
    return {
        "about": "Messages that must be refused, each with the first reason that applies. 'keys' holds every enrolled public key.",
        "site": SITE,
        "node": NODE,
        "now": NOW,
        "future_tolerance": TOLERANCE,
        "keys": [NODE_PUBLIC.hex()],
        "vectors": [
            {"leaf": leaf, "what": what, "reason": reason.value, "message": raw.hex()}
            for leaf, what, reason, raw in vectors
        ],
    }
