"""Fixtures that several rooms' tests share."""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes to make is the machine's affair, which may be busy
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def worlds():
    """The module that builds logs for tests of proofs and datasets."""
    path = Path(__file__).parent / "vectors" / "proofs" / "world.py"
    spec = importlib.util.spec_from_file_location("proof_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sample(worlds):
    """A small log with two nodes, messages and verdicts."""
    return worlds.sample()
