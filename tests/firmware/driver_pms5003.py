"""PMS5003: frames in a noisy stream, warming up, resting."""

import random

from assembly import Node, fails, refused, settle
from devices.plantower import PMS5003

WANTED = {"pm1": 4, "pm2_5": 10, "pm10": 11}


def dust(interval=60, **options):
    node = Node(interval)
    part = node.bench.serial(PMS5003())
    return node, part, node.sensor("pms5003", tx=17, rx=16, **options)


async def warm(node, sensor):
    assert await sensor.read() == {}
    await node.clock.sleep_ms(30_000)


async def test_it_tells_dust_in_air_after_30_seconds():
    node, part, sensor = dust()
    assert await sensor.read() == {}
    await node.clock.sleep_ms(29_000)
    assert await sensor.read() == {}
    await node.clock.sleep_ms(1000)
    assert await sensor.read() == WANTED
    assert not part.active
    assert part.awake


async def test_every_command_has_its_sum():
    node, part, sensor = dust(interval=300)
    await warm(node, sensor)
    await sensor.read()
    assert b"\x42\x4d\xe1\x00\x00\x01\x70" in part.heard  # appendix II: passive
    assert b"\x42\x4d\xe2\x00\x00\x01\x71" in part.heard  # read
    assert b"\x42\x4d\xe4\x00\x00\x01\x73" in part.heard  # sleep
    assert b"\x42\x4d\xe4\x00\x01\x01\x74" in part.heard  # wake up
    sensor.close()
    await settle()


async def test_it_rests_between_reads_and_is_warm_for_the_next():
    node, part, sensor = dust(interval=300)
    await warm(node, sensor)
    assert await sensor.read() == WANTED
    assert not part.awake
    for _ in range(4):
        await node.clock.sleep_ms(200_000)
        assert not part.awake
        await node.clock.sleep_ms(99_900)
        assert part.awake
        assert 30_000 <= node.clock.uptime_ms() - part.fan_since <= 36_000
        assert await sensor.read() == WANTED
    sensor.close()
    await settle()


async def test_it_never_rests_when_told_so_or_when_read_often():
    for node, part, sensor in (dust(interval=300, sleep=False), dust(interval=60)):
        await warm(node, sensor)
        await sensor.read()
        assert part.awake
        await node.clock.sleep_ms(250_000)
        assert part.awake


async def test_a_read_that_comes_early_wakes_it():
    node, part, sensor = dust(interval=300)
    await warm(node, sensor)
    await sensor.read()
    sensor.close()  # nobody will wake it up
    await settle()
    assert not part.awake
    assert await sensor.read() == {}
    assert part.awake
    await node.clock.sleep_ms(30_000)
    assert await sensor.read() == WANTED
    sensor.close()
    await settle()


async def test_noise_before_a_frame_does_not_hide_it():
    node, part, sensor = dust()
    await warm(node, sensor)
    for noise in (b"\x00", b"\x42", b"\x42\x4d", b"\x42\x4d\x00", b"\x42\x42\x4d\x00\x1d", b"\xff" * 100):
        part.noise = noise
        assert await sensor.read() == WANTED, noise
    for _ in range(40):
        part.noise = bytes([random.choice((0, 28, 0x42, 0x4D, 0xFF)) for _ in range(random.getrandbits(6))])
        noise = part.noise
        assert await sensor.read() == WANTED, noise


async def test_a_false_beginning_in_the_noise_costs_no_frame():
    node, part, sensor = dust()
    await warm(node, sensor)
    part.noise = b"\x42\x4d\x00\x1c" + bytes(10)
    assert await sensor.read() == WANTED


async def test_damaged_frames_are_no_values():
    node, part, sensor = dust()
    await warm(node, sensor)
    part.wrong = 1
    await fails(sensor, "pms5003 at uart 1 (tx 17, rx 16)", "1 damaged frame")
    await warm(node, sensor)
    assert await sensor.read() == WANTED


async def test_a_frame_that_is_cut_off_is_made_up_for_by_the_next_read():
    node, part, sensor = dust()
    await warm(node, sensor)
    part.cut = [10]
    await fails(sensor, "bytes")
    await warm(node, sensor)
    assert await sensor.read() == WANTED


async def test_one_that_does_not_hear_is_still_listened_to():
    node, part, sensor = dust()
    part.deaf = True  # a broken wire to its RX: it sends once a second by itself
    await warm(node, sensor)
    assert await sensor.read() == WANTED


async def test_unplugged_and_back():
    node, part, sensor = dust()
    await warm(node, sensor)
    part.plugged = False
    await fails(sensor, "no measurement: 0 bytes")
    part.plugged = True
    part.power_up()
    await warm(node, sensor)
    assert await sensor.read() == WANTED


async def test_dust_that_cannot_be_is_refused():
    node, part, sensor = dust()
    await warm(node, sensor)
    part.values[4] = 0xFFFF
    await fails(sensor, "pm2_5 is 65535")


def test_rows_are_checked():
    node = Node()
    refused(lambda: node.sensor("pms5003", tx=17), "rx is missing")
    refused(lambda: node.sensor("pms5003", tx=17, rx=16, uart=0), "uart")
    node.sensor("pms5003", tx=17, rx=16)
    refused(lambda: node.sensor("pms5003", tx=17, rx=16), "uart 1 belongs to another row")
