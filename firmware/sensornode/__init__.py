"""Firmware of a sensorhub node."""

__version__ = "0.1.0"
