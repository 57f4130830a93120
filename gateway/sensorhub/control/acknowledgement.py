"""What a node says after an order, as the control process has heard it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sensorhub.errors import SensorhubError
from sensorhub.status import said_by_nodes

POLL_S: Final = 0.2


class RefusedError(SensorhubError):
    """Raised when the node says that it refuses the order."""


def heard(data_dir: Path, node: str) -> Mapping[str, Any]:
    """What the node last said of itself: `state`, `fw`, `boot`, `config`, `safe` ..., and when, `at_ms`; empty for nothing."""
    return said_by_nodes(data_dir).get(node, {})


def wait(
    data_dir: Path,
    node: str,
    done: Callable[[Mapping[str, Any]], bool],
    *,
    leaf: str,
    since_ms: int,
    known: str,
    seconds: float,
    show: Callable[[Mapping[str, Any]], None] = lambda _said: None,
) -> bool:
    """Waits until the node says that an order is in effect; False when it has not in time.

    Args:
        data_dir: the gateway's data directory.
        node: name of the node.
        done: whether what it says means that.
        leaf: kind of the order, `config` or `update`.
        since_ms: a moment before the order was left, Unix ms: refusals from before are of other orders.
        known: the refusal that it had told by then, or empty: a node repeats it whenever it says how it is, so the same
            words again are no refusal of this order.
        seconds: how long.
        show: called with what it last said.

    Raises:
        RefusedError: the node says that it refused it.
    """
    end = time.monotonic() + seconds
    while True:
        said = heard(data_dir, node)
        show(said)
        if done(said):
            return True
        refused = said.get("refused", "")
        if said.get("at_ms", 0) >= since_ms and refused != known and refused.startswith(f"{leaf}:"):
            raise RefusedError(f"{node} refuses the order: {refused.partition(':')[2].strip()}")
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)
