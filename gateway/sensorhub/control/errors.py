"""What goes wrong on the way to the broker."""

from sensorhub.errors import SensorhubError


class ControlError(SensorhubError):
    """Raised when the broker cannot be reached or does not take a publication."""


class UnacknowledgedError(ControlError):
    """Raised when the broker was there and has not acknowledged a publication."""
