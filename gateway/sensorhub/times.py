"""Times as people and programs write them, for the command line and the HTTP API alike."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from sensorhub.errors import SensorhubError

#: The years 1 to 9999, which is what every date library can show; Unix seconds, the end excluded for dates.
EARLIEST: Final = -62_135_596_800
LATEST: Final = 253_402_300_800
#: What `parse_time` takes, for errors and descriptions.
WRITTEN: Final = "ISO 8601, such as 2016-12-21, 2016-12-21T08:00 (UTC) or 2016-12-21T16:00+08:00, or Unix seconds, such as 1482307200"

_SHOWN: Final = 60
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
# The extended format with calendar dates (RFC 3339, appendix A), as `fromisoformat` alone takes any letter between date
# and time, even the sign of an offset.
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?",
    re.ASCII,
)


def parse_time(text: str) -> float:
    """The Unix seconds that `text` means: ISO 8601, in UTC unless it says otherwise, or a number of seconds.

    A date alone is its beginning.

    Raises:
        SensorhubError: it is neither, or not of the years 1 to 9999.
    """
    seconds = None
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif _ISO.fullmatch(text):
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            pass  # such as the 30th of February
        else:
            seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    if seconds is None or not EARLIEST <= seconds <= LATEST:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        raise SensorhubError(f"{shown!r} is no time of the years 1 to 9999: give {WRITTEN}")
    return seconds
