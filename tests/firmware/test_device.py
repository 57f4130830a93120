"""Every firmware test, under MicroPython and under CPython."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_device(device_test: tuple[Path, str, str], device_result: Callable[..., Any]) -> None:
    result = device_result(*device_test)
    if not result.passed:
        pytest.fail(result.output, pytrace=False)
    print(result.output)
