import importlib.util
import sys
from pathlib import Path

import pytest

_NAME = "proof_world"
if _NAME not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        _NAME, Path(__file__).parents[1] / "vectors" / "proofs" / "world.py"
    )
    sys.modules[_NAME] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_NAME])


@pytest.fixture(scope="session")
def worlds():
    """The module that builds logs for tests."""
    return sys.modules[_NAME]


@pytest.fixture
def sample(worlds):
    """A small log with two nodes, messages and verdicts."""
    return worlds.sample()
