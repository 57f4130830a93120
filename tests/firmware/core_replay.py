"""The replay driver: rows at their time, missing values left out."""

from sensornode.sensors import DriverError, load

TEXT = """time,temperature Cel,pressure hPa
1000,1.5,1019.0
4600,,1018.7
11800,-2,
"""


class Clock:
    now = None

    def uptime_ms(self):
        return 0

    def unix_ms(self, uptime):
        return None if self.now is None else self.now * 1000


class Services:
    def __init__(self):
        self.clock = Clock()
        self.interval = 3600


def sensor(text=TEXT, **options):
    with open("rows.csv", "w") as file:
        file.write(text)
    options["driver"] = "replay"
    options["file"] = "rows.csv"
    services = Services()
    return load(options, services), services.clock


async def test_each_instant_gives_its_own_row():
    replay, clock = sensor()
    assert replay.channels == (("temperature", "Cel"), ("pressure", "hPa"))
    found = []
    for clock.now in (999, 1000, 4600, 8200, 11800, 15400):
        found.append(await replay.read())
    assert found == [
        {},
        {"temperature": 1.5, "pressure": 1019},
        {"pressure": 1018.7},
        {},
        {"temperature": -2},
        {},
    ]
    assert replay.done


async def test_a_late_instant_gives_its_row_and_an_old_row_is_not_given():
    replay, clock = sensor()
    clock.now = 1007
    assert (await replay.read())["temperature"] == 1.5
    clock.now = 4600 + 3600
    assert await replay.read() == {}


async def test_rows_can_be_shifted_to_another_time():
    replay, clock = sensor(shift=500)
    clock.now = 1500
    assert (await replay.read())["temperature"] == 1.5


async def test_without_a_date_the_rows_come_one_by_one():
    replay, _ = sensor()
    for row in ({"temperature": 1.5, "pressure": 1019}, {"pressure": 1018.7}, {"temperature": -2}, {}, {}):
        assert await replay.read() == row


def test_a_row_of_the_table_that_cannot_work_is_refused():
    for text in ("", "time\n", "when,temperature Cel\n", "time,temperature\n"):
        try:
            sensor(text)
        except DriverError as error:
            assert "replay" in str(error)
        else:
            raise AssertionError(f"loaded {text!r}")
    for row in ({"driver": "nothing"}, {"driver": "replay", "file": "none.csv"}, {"driver": "replay"}):
        try:
            load(row, Services())
        except DriverError as error:
            assert row["driver"] in str(error)
        else:
            raise AssertionError(f"loaded {row!r}")
