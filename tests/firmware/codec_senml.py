"""SenML packs: the shape on the wire is tested with whole messages in codec_cose.py; here, how they are filled."""

from sensornode import cbor, senml

NAME = senml.base_name("beijing", "aotizhongxin")


def test_a_dated_pack():
    pack = senml.Pack(NAME, 1700000000)
    assert pack.add([("temperature", "Cel", 21.5), ("rssi", "dBm", -67)])
    assert pack.add([("temperature", "Cel", 21)], 60)
    assert cbor.decode(pack.encode()) == [
        {0: "temperature", 1: "Cel", 2: 21.5, -2: "urn:dev:sensorhub:beijing:aotizhongxin:", -3: 1700000000},
        {0: "rssi", 1: "dBm", 2: -67},
        {0: "temperature", 1: "Cel", 2: 21, 6: 60},
    ]


def test_a_pack_without_a_clock_has_no_base_time():
    pack = senml.Pack(NAME)
    pack.add([("temperature", "Cel", 21.5)], 5)
    assert cbor.decode(pack.encode()) == [{0: "temperature", 1: "Cel", 2: 21.5, 6: 5, -2: NAME}]


def test_bytes_are_a_data_value_without_unit():
    pack = senml.Pack(NAME)
    pack.add([("frame_sha256", None, b"digest")], 5)
    assert cbor.decode(pack.encode()) == [{0: "frame_sha256", 6: 5, 8: b"digest", -2: NAME}]


def test_a_full_pack_takes_no_part_of_an_interval():
    interval = [("temperature", "Cel", 20.1), ("humidity", "%RH", 50.1), ("pressure", "hPa", 1013.1)]
    pack = senml.Pack(NAME, 1700000000)
    added = 0
    while pack.add(interval, 60 * added):
        added += 1
    payload = pack.encode()
    assert pack.count == 3 * added == len(cbor.decode(payload))
    assert senml.MAX_PAYLOAD - 100 < len(payload) <= senml.MAX_PAYLOAD
    assert not pack.add(interval, 60 * added)
    assert pack.encode() == payload
    assert pack.add([("rain", "mm", 0)])


def test_a_pack_ends_at_256_records():
    pack = senml.Pack("n", 1700000000)
    for _ in range(256):
        assert pack.add([("a", "V", 1)])
    assert not pack.add([("a", "V", 1)])
    assert pack.count == len(cbor.decode(pack.encode())) == 256


def test_a_smaller_limit():
    pack = senml.Pack("n", 1700000000, 100)
    while pack.add([("battery_voltage", "V", 3.3)]):
        pass
    assert 60 < len(pack.encode()) <= 100


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_added():
    pack = senml.Pack(NAME, 1700000000)
    pack.add([("temperature", "Cel", 21.5)])
    before = pack.encode()
    for value in (float("nan"), float("inf"), float("-inf"), 1e39):
        try:
            pack.add([("humidity", "%RH", 50), ("temperature", "Cel", value)])
        except ValueError:
            pass
        else:
            raise AssertionError(value)
        assert pack.encode() == before
        assert pack.count == 1
