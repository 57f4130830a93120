"""MQTT client ids that stay the same and that nobody can guess."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

from sensorhub.errors import SensorhubError

PATTERN: Final = re.compile("g[0-9a-f]{22}")
"""23 letters and digits, which every broker takes (MQTT 3.1.1, section 3.1.3.1)."""


def kept_client_id(path: Path) -> str:
    """The client id in this file, made when there is none: random, since who knows it could end the session.

    Raises:
        SensorhubError: it cannot be kept.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if PATTERN.fullmatch(found := path.read_text(encoding="ascii").strip()):
            return found
    made = "g" + secrets.token_hex(11)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made + "\n")
    except OSError as error:
        raise SensorhubError(f"cannot write {path}: {error.strerror}") from error
    return made
