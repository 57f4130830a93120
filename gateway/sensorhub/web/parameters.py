"""Reading the query of a request: strict, so that a mistyped parameter is not silently something else."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from aiohttp import web

from sensorhub.errors import SensorhubError
from sensorhub.times import WRITTEN, parse_time
from sensorhub.wire import NAME_PATTERN

_WHOLE: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_SHOWN: Final = 60
_TIMES: Final = f"a time of the years 1 to 9999: {WRITTEN}; in a URL, + is written %2B"


class ParameterError(SensorhubError):
    """Raised when a parameter of a request is not what it may be.

    Attributes:
        parameter: its name.
        value: what was given, shortened; None when it was left out.
        allowed: what would be right.
    """

    def __init__(self, parameter: str, value: str | None, allowed: str) -> None:
        self.parameter = shown(parameter)
        self.value = None if value is None else shown(value)
        self.allowed = allowed
        what = (
            f"the parameter {self.parameter} is missing"
            if value is None
            else f"{self.parameter} is {self.value!r}"
        )
        super().__init__(f"{what}; allowed is {allowed}")


class UnknownError(SensorhubError):
    """Raised when what a request names does not exist."""


def shown(text: str) -> str:
    """`text` as it may stand in an answer: short, and without what UTF-8 cannot carry."""
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return short.encode("utf-8", "backslashreplace").decode()


def whole(name: str, text: str, low: int, high: int) -> int:
    """The whole number that `text` is, from `low` to `high`.

    Raises:
        ParameterError: it is none, or outside.
    """
    if not _WHOLE.fullmatch(text) or not low <= int(text) <= high:
        raise ParameterError(name, text, f"a whole number from {low} to {high}")
    return int(text)


def node_name(name: str, text: str) -> str:
    """`text`, a well-formed name of a node.

    Raises:
        ParameterError: it is none.
    """
    if not NAME_PATTERN.fullmatch(text):
        raise ParameterError(
            name,
            text,
            "a node's name: up to 32 of a-z, 0-9 and '-', not led by '-'; /api/v1/nodes lists them",
        )
    return text


class Query:
    """The query parameters of a request.

    Args:
        request: the request.
        names: every parameter that it may have.

    Raises:
        ParameterError: there is another one, or one twice.
    """

    def __init__(self, request: web.Request, names: Collection[str]) -> None:
        self._values: dict[str, str] = {}
        for name, value in request.query.items():
            if name not in names:
                allowed = f"no such parameter, only {', '.join(names)}" if names else "no parameter here"
                raise ParameterError(name, value, allowed)
            if name in self._values:
                raise ParameterError(name, f"{self._values[name]}, {value}", "one value")
            self._values[name] = value

    def has(self, name: str) -> bool:
        """Whether it is given."""
        return name in self._values

    def node(self, name: str) -> str:
        """A node's name, which must be given."""
        text = self._values.get(name)
        if text is None:
            raise ParameterError(name, None, "a node's name; /api/v1/nodes lists them")
        return node_name(name, text)

    def choice(self, name: str, options: Collection[str], default: str | None = None) -> str:
        """One of `options`; it must be given when there is no default."""
        text = self._values.get(name, default)
        if text is None or text not in options:
            raise ParameterError(name, text, f"one of {', '.join(options)}")
        return text

    def time(self, name: str, default: float | None = None) -> float:
        """A time of the years 1 to 9999 as Unix seconds; it must be given when there is no default."""
        text = self._values.get(name)
        if text is None:
            if default is None:
                raise ParameterError(name, None, _TIMES)
            return default
        try:
            return parse_time(text)
        except SensorhubError:
            raise ParameterError(name, text, _TIMES) from None

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        text = self._values.get(name)
        return default if text is None else whole(name, text, low, high)
