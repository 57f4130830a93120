"""The drivers. One file is one kind of sensor, and the file's name is the driver's name in node.json.

A driver module has a class `Sensor`:

    Sensor(options, services)   options: the sensor's row of node.json; services.clock: the node's Clock;
                                services.interval: seconds from one read to the next
    channels                    ((channel, unit), ...), what it may return
    async read()                {channel: value}: numbers, or bytes for a data channel; a channel without a
                                value is left out. Any exception is a failed read: counted, and tried again at the next.
"""


class DriverError(Exception):
    """Raised when a sensor of node.json has no such driver or its driver refuses the row."""


def load(row, services):
    """Make the sensor of one row of node.json. Raises DriverError."""
    name = row["driver"]
    try:
        module = __import__("sensornode.sensors." + name, None, None, ("Sensor",))
        return module.Sensor(row, services)
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise DriverError("sensor %s: %s" % (name, error))
