"""Errors of the dataset room."""

from __future__ import annotations

from sensorhub.errors import SensorhubError


class DatasetError(SensorhubError):
    """Raised when a proof or a dataset cannot be made; the text says why and what to do."""
