"""Times as people write them: on the command line and to the API."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.errors import SensorhubError
from sensorhub.times import EARLIEST, LATEST, parse_time

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES)  # noqa: DTZ001


@given(TIMES)
def test_what_a_program_writes_is_read_back(at):
    seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
    assert parse_time(at.isoformat()) == pytest.approx(seconds, abs=1e-4)
    assert parse_time(at.isoformat(" ", "seconds")) == pytest.approx(seconds, abs=1)
    assert parse_time(repr(seconds)) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "1482307200",
        "+1482307200.",
        "1.4823072e9",
        "2016-12-21T08:00",
        "2016-12-21 08:00",
        "2016-12-21T08:00:00",
        "2016-12-21T08:00:00.000Z",
        "2016-12-21T08:00:00,5Z",
        "2016-12-21T16:00+08:00",
        "2016-12-21T16:00:00+0800",
        "2016-12-20T18:00-14:00",
    ],
)
def test_ways_to_write_a_time(text):
    assert parse_time(text) == 1_482_307_200 + (0.5 if ",5" in text else 0)


def test_a_date_is_its_beginning_and_the_first_and_last_year_are_in():
    assert parse_time("1970-01-02") == 86_400
    assert parse_time("0001-01-01") == EARLIEST
    assert parse_time("9999-12-31T23:59:59") == LATEST - 1
    assert parse_time(str(LATEST)) == LATEST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "nan",
        "inf",
        "0x10",
        "1_000",
        " 5",
        "٣",
        "1e308",
        str(LATEST + 1),
        "2016-02-30",
        "2016-13-01",
        "2016-12-21T25:00",
        "2016-12-21T08",
        "2016-12-21T08:00 08:00",  # a + that a URL has made a blank
        "2016-12-21+08:00",  # a date has no offset; `fromisoformat` takes the sign for the letter before a time
        "2016-12-21x08:00",
        "2016-12-21T16:00+08",
        "2016-12-21T08:00+25:00",
        "2016-12-21T08:00Z ",
        "2016-12-21T08:00\n",
        "٢٠١٦-12-21",
        "16-12-21",
        "21.12.2016",
        "0001-01-01T00:00+01:00",
        "9999-12-31T23:59-01:00",
        "9" * 10_000,
    ],
    ids=lambda text: text[:30] or "nothing",
)
def test_what_is_no_time_says_what_would_be(text):
    with pytest.raises(
        SensorhubError, match="is no time of the years 1 to 9999: give ISO 8601, such as 2016-12-21, "
    ) as caught:
        parse_time(text)
    assert len(str(caught.value)) < 400
