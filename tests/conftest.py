"""Fixtures that several rooms' tests share."""

import contextlib
import importlib.util
import os
import random
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes to make is the machine's affair, which may be busy
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

MANY_DESCRIPTORS = 200
"""More than what fixtures that others go on using leave open (browsers, brokers, test chains)."""


@pytest.fixture(scope="session")
def free_port():
    """A function that gives TCP ports on which nobody listens, for servers that bind them later or more than once.

    They lie below those from which the kernel serves whoever asks for any port, no port is given twice, and each worker
    of a parallel run has its own: nobody takes one while a server is not there yet or starts again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(20_000 + worker % 16, 32_000, 16))
    random.SystemRandom().shuffle(ports)
    left = iter(ports)

    def give() -> int:
        for port in left:
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                return port
        raise AssertionError("no port is left")

    return give


@pytest.fixture(scope="session")
def worlds():
    """The module that builds logs for tests of proofs and datasets."""
    path = Path(__file__).parent / "vectors" / "proofs" / "world.py"
    spec = importlib.util.spec_from_file_location("proof_world", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def few_descriptors_stay_open():
    """Fails the test that leaves hundreds of files open, not a later one: pyserial cannot wait for descriptors over 1,023."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    left = len(os.listdir("/proc/self/fd")) - before
    assert left < MANY_DESCRIPTORS, f"{left} more descriptors are open after the test than before"


@pytest.fixture
def sample(worlds):
    """A small log with two nodes, messages and verdicts."""
    return worlds.sample()
