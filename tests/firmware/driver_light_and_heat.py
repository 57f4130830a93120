"""TMP105, LM75 and BH1750."""

from assembly import Node, fails, near, refused
from devices.light_and_heat import BH1750, TMP105


async def test_tmp105_shows_every_sixteenth_of_a_degree():
    node = Node()
    part = TMP105()
    sensor = node.i2c("tmp105", part)
    for celsius in (-40, -0.0625, 0, 0.0625, 21.4375, 84.9375, 127.9375):
        part.celsius = celsius
        assert await sensor.read() == {"temperature": celsius}
    part.celsius = -55.0625
    await fails(sensor, "temperature is -55.0625")


async def test_tmp105_reads_the_table_of_its_datasheet():
    node = Node()
    part = TMP105()
    sensor = node.i2c("tmp105", part)
    send = part.send
    table = (
        (127.9375, 0x7FF),
        (100, 0x640),
        (75, 0x4B0),
        (0.25, 0x004),
        (0, 0),
        (-0.25, 0xFFC),
        (-25, 0xE70),
        (-55, 0xC90),
    )
    for celsius, code in table:  # SLLS648D, table 5
        part.send = lambda count, code=code: (
            send(count) if count == 1 else bytes((code >> 4, code << 4 & 0xFF))
        )
        assert await sensor.read() == {"temperature": celsius}


async def test_tmp105_sleeps_between_and_keeps_12_bits_after_a_brown_out():
    node = Node()
    part = TMP105()
    sensor = node.i2c("tmp105", part)
    part.celsius = 10.0625
    await sensor.read()
    part.power_up()  # 9 bits, and measuring all the time
    assert await sensor.read() == {"temperature": 10.0625}
    begun = node.clock.uptime_ms()
    await sensor.read()
    assert 320 <= node.clock.uptime_ms() - begun < 340


async def test_a_part_that_loses_its_power_while_it_converts_is_noticed():
    node = Node()
    part = TMP105()
    sensor = node.i2c("tmp105", part)
    write = part.receive

    def fades(data):
        write(data)
        if len(data) > 1:
            part.power_up()

    part.receive = fades
    await fails(sensor, "0x00 after 0xe1")
    part.receive = write
    await sensor.read()


async def test_lm75_measures_with_its_own_bits():
    for name, bits, shown in (("lm75", 9, 21.5), ("lm75a", 11, 21.875)):
        node = Node()
        part = TMP105(0x4B, bits=bits, single=False)
        node.bench.plug(part)
        sensor = node.sensor("tmp105", scl=22, sda=21, address="0x4b", part=name)
        part.celsius = 21.9
        assert await sensor.read() == {"temperature": shown}
        part.celsius = -0.5
        assert await sensor.read() == {"temperature": -0.5}


async def test_lm75_that_is_none_is_noticed():
    part = TMP105()
    sensor = Node().i2c("tmp105", part, part="lm75")
    part.plugged = False
    await fails(sensor, "no answer", "0x48")
    part.plugged = True
    part.send = lambda count: b"\xff" * count
    await fails(sensor, "configuration is 0xff")


def test_an_unknown_part_is_refused():
    refused(lambda: Node().sensor("tmp105", scl=22, sda=21, part="lm76"), "part", "lm75a")


async def test_bh1750_shows_moonlight_and_sunlight():
    node = Node()
    part = BH1750()
    sensor = node.i2c("bh1750", part)
    for lux, step in ((0, 0), (0.25, 0.12), (12, 0.12), (300, 0.12), (1000, 2), (54_612, 2), (120_000, 2)):
        part.lux = lux
        near((await sensor.read())["illuminance"], lux, step)
    part.lux = 130_000
    await fails(sensor, "blinded")
    assert node.bench.longest_ms < 2


async def test_bh1750_waits_as_long_as_the_window_needs():
    node = Node()
    part = BH1750()
    sensor = node.i2c("bh1750", part)
    part.lux = 50_000
    await sensor.read()
    assert 81 <= node.clock.uptime_ms() < 90
    begun = node.clock.uptime_ms()
    part.lux = 1
    await sensor.read()
    assert 742 <= node.clock.uptime_ms() - begun < 760


async def test_bh1750_under_a_dome():
    node = Node()
    part = BH1750(0x5C)
    node.bench.plug(part)
    sensor = node.sensor("bh1750", scl=22, sda=21, address="0x5C", factor=1.5)
    part.lux = 1000
    near((await sensor.read())["illuminance"], 1500, 3)
    part.plugged = False
    await fails(sensor, "0x5c")
    part.plugged = True
    part.power_up()
    near((await sensor.read())["illuminance"], 1500, 3)
