"""Why a message is refused: the reasons, in the order in which they are looked for."""

from __future__ import annotations

from enum import StrEnum

from sensorhub.errors import SensorhubError


class Reason(StrEnum):
    """Reasons for refusing a message; the order of the members is the order of the checks."""

    TOO_LARGE = "too-large"
    NOT_CBOR = "not-cbor"
    NOT_COSE = "not-cose"
    WRONG_ALGORITHM = "wrong-algorithm"
    UNKNOWN_KID = "unknown-kid"
    BAD_SIGNATURE = "bad-signature"
    NAME_MISMATCH = "name-mismatch"
    NOT_SENML = "not-senml"
    UNKNOWN_CHANNEL = "unknown-channel"
    NOT_FINITE = "not-finite"
    FUTURE = "future"


class WireError(SensorhubError):
    """Raised when bytes are not an acceptable message.

    Attributes:
        reason: the first reason of the fixed order that applies.
        detail: what was found, for a person; never the signed content itself.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[WireError], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)
