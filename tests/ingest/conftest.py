"""Fixtures of the ingest tests; the parts they are made of stand in `ingest_parts.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# test modules are imported by path, so what they share needs a place to be imported from
sys.path.insert(0, str(Path(__file__).parent))

from ingest_parts import Gateway, Node, eventually, forget_session

from sensorhub.ingest.broker import EmbeddedBroker


@pytest.fixture(scope="session")
def shared_broker(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker"), port=free_port(), kind="mosquitto") as broker:
        yield broker


@pytest.fixture
def own_broker(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "own", port=free_port(), kind="mosquitto") as broker:
        yield broker


@pytest.fixture
def gateway(tmp_path: Path, shared_broker: EmbeddedBroker) -> Iterator[Gateway]:
    made = Gateway(tmp_path / "data", shared_broker)
    made.data_dir.mkdir()
    yield made
    made.stop()
    made.broker = shared_broker
    forget_session(made)


@pytest.fixture
def node(shared_broker: EmbeddedBroker) -> Iterator[Node]:
    made = Node("roof")
    made.connect(shared_broker)
    yield made
    made.disconnect()


@pytest.fixture
def enrolled(gateway: Gateway, node: Node) -> Node:
    """A running gateway's enrolled node."""
    gateway.start()
    node.announce(gateway.claims.add(node.name))
    eventually(lambda: node.receipts == [(0, 0)])
    node.receipts.clear()
    return node
