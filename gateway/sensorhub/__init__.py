"""sensorhub: a sensor network whose data can be believed."""

__version__ = "0.1.0"
