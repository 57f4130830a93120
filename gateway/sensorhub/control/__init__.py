"""What the gateway's owner says to nodes: signed configuration and updates; and what a home automation may know.

Nothing here runs by itself or holds a node's data: `orders` makes signed bytes, `keys` keeps the two keys that sign
them, `discovery` follows the log.
"""

from sensorhub.control.keys import ControlKeyError, load_or_create_key
from sensorhub.control.orders import (
    MAX_ORDER_BYTES,
    Order,
    OrderError,
    open_order,
    sign_config,
    sign_update,
)

__all__ = [
    "MAX_ORDER_BYTES",
    "ControlKeyError",
    "Order",
    "OrderError",
    "load_or_create_key",
    "open_order",
    "sign_config",
    "sign_update",
]
