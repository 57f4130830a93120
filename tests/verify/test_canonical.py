import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.verify import canonical
from sensorhub.verify.errors import VerifyError

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)


@given(OBJECTS)
def test_what_is_written_is_read_again(value):
    try:
        data = canonical.dump(value)
    except UnicodeEncodeError:
        return
    assert canonical.load(data) == value


@given(OBJECTS, st.data())
def test_no_other_bytes_give_the_same_value(value, data):
    try:
        text = canonical.dump(value)
    except UnicodeEncodeError:
        return
    position = data.draw(st.integers(0, len(text) - 1))
    changed = bytearray(text)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        again = canonical.load(bytes(changed))
    except VerifyError:
        return
    # false == 0 in Python, so values are compared with their types
    assert repr(again) != repr(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"a": 1}\n', "not in canonical form from byte 1 (line 1)"),
        (b'{\n  "a": 1\n}', "not in canonical form"),
        (b'{\n  "a": 1\n}\n\n', "not in canonical form"),
        (b'{\n  "a": "\\u0041"\n}\n', "not in canonical form"),
        (b'{\n  "a": 1,\n  "a": 1\n}\n', "a: the member is written twice"),
        (b'{\n  "a": 1.0\n}\n', "1.0 is not an integer"),
        (b'{\n  "a": 1e3\n}\n', "1e3 is not an integer"),
        (b'{\n  "a": NaN\n}\n', "NaN is not an integer"),
        (b'{\n  "a": "\\ud800"\n}\n', "half of a surrogate pair"),
        (b"[]\n", "the top is not a JSON object"),
        (b"{\n", "not JSON at line 2"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "nested deeper"),
        (b'{\n  "a": ' + b"9" * 5000 + b"\n}\n", "not a number that fits"),
        (b" " * (canonical.MAX_FILE_BYTES + 1), "the largest file"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_other_text_is_refused_with_the_reason(text, problem):
    with pytest.raises(VerifyError) as raised:
        canonical.load(text)
    assert problem in str(raised.value)


def test_the_form_is_that_of_ecmascript_and_the_digest_covers_all_but_itself():
    value = {"format": "x/1", "list": [], "object": {"é": "—\n\x01"}}
    assert canonical.dump(value) == (
        '{\n  "format": "x/1",\n  "list": [],\n  "object": {\n    "é": "—\\n\\u0001"\n  }\n}\n'.encode()
    )
    sealed = canonical.seal(value)
    assert list(sealed) == [*value, "digest"]
    assert sealed["digest"] == hashlib.sha256(canonical.dump(value)).hexdigest()
    assert canonical.digest_holds(sealed)
    assert not canonical.digest_holds({**sealed, "list": [1]})
    assert json.loads(canonical.dump(sealed)) == sealed


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (canonical.base64_bytes, "QQ"),
        (canonical.base64_bytes, "QR=="),
        (canonical.base64_bytes, "Q Q="),
        (canonical.base64_bytes, "-_-_"),
        (canonical.base64_bytes, 5),
        (canonical.hash_base64, "QQ=="),
        (canonical.address, "0x" + "A" * 40),
        (canonical.address, "a" * 40),
        (canonical.address, "0x" + "a" * 38),
        (canonical.address, "0x" + "\u0661" * 40),
        (canonical.sha256_hex, "0x" + "a" * 64),
        (canonical.uint, -1),
        (canonical.uint, True),
        (canonical.uint, "1"),
        (canonical.uint, canonical.MAX_INTEGER + 1),
        (canonical.boolean, 1),
        (canonical.names, ["b", "a"]),
        (canonical.names, ["a", "a"]),
    ],
)
def test_a_field_that_is_not_in_its_one_form_is_named(read, value):
    with pytest.raises(VerifyError) as raised:
        read(value, "some.field[2]")
    assert raised.value.where.startswith("some.field[2]")
