"""Nodes as hardware/*/node.toml describes them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from hardware_build import schema  # noqa: E402

NODES = ("air", "bench", "camera", "weather")


@pytest.fixture(scope="session")
def nodes():
    return schema.nodes()


@pytest.fixture(params=NODES)
def node(request, nodes):
    return nodes[request.param]


@pytest.fixture
def board(node):
    return schema.board_of(node)


@pytest.fixture
def bench(nodes):
    """The smallest node, to be spoilt."""
    return nodes["bench"]


@pytest.fixture
def devkit(bench):
    return schema.board_of(bench)
