"""A wrong value is named with file, key, value and what is allowed."""

import pytest

from hardware_build import schema
from hardware_build.errors import HardwareError

TEXT = (schema.HARDWARE / "bench" / "node.toml").read_text()


def refused(tmp_path, before, after):
    assert before in TEXT
    folder = tmp_path / "bench"
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(TEXT.replace(before, after))
    with pytest.raises(HardwareError) as caught:
        schema.load_node(folder / "node.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("gpio = 22", "gpio = 99", ("pins[0].gpio is 99", "at most 48")),
        ('role = "i2c_scl"', 'role = "scl"', ("pins[0].role is 'scl'", "'i2c_scl', 'i2c_sda'")),
        ('chip = "esp32"', 'chip = "esp8266"', ("flash.chip is 'esp8266'", "'esp32', 'esp32s3'")),
        ("price = 1.60", "prize = 1.60", ("prize is no key", "price, price_100")),
        ("price = 1.60", 'price = "dear"', ("price is 'dear'", "a number, at least 0")),
        (
            'suppliers = ["DigiKey", "Mouser"]',
            'suppliers = ["DigiKey"]',
            ("suppliers is ['DigiKey']", "2 or more"),
        ),
        ('dated = "2026-11"', 'dated = "lately"', ("dated is 'lately'", "of the form")),
        ("price = 1.60\n", "", ("parts[2].price is missing", "a number")),
        ("interval_s = 10", "interval_s = 0", ("node.interval_s is 0", "at least 1")),
        ('built = "untested"', 'built = "maybe"', ("node.built is 'maybe'", "'untested', 'built'")),
        (
            'source = "datasheet"',
            'source = "hearsay"',
            ("source is 'hearsay'", "'measured', 'datasheet', 'recalled'"),
        ),
        ('mpn_from = "seen"', 'mpn_from = "shop"', ("mpn_from is 'shop'", "'seen', 'memory', 'standard'")),
    ],
)
def test_names_file_key_value_and_what_is_allowed(tmp_path, before, after, words):
    said = refused(tmp_path, before, after)
    assert "bench/node.toml: " in said
    for word in words:
        assert word in said


def test_a_node_is_named_as_its_folder(tmp_path):
    assert "node.name is 'other'" in refused(tmp_path, 'name = "bench"', 'name = "other"')


def test_says_when_it_is_not_toml(tmp_path):
    assert "is not TOML" in refused(tmp_path, "[node]", "[node")


def test_names_the_boards_there_are(tmp_path, bench):
    import msgspec

    other = msgspec.structs.replace(bench, node=msgspec.structs.replace(bench.node, board="esp8266"))
    with pytest.raises(HardwareError, match="esp32-devkitc-v4"):
        schema.board_of(other)
