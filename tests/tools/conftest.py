"""What the flash tool is tested against: a mock of the chip's boot loader, MicroPython, a broker and a gateway."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(Path(__file__).parent)]

from flash_parts import Board, Gateway, Tool, micropython_image  # noqa: E402


@pytest.fixture(scope="session")
def image_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "ESP32_GENERIC.bin"
    path.write_bytes(micropython_image())
    return path


@pytest.fixture
def board(tmp_path):
    """A mock of an ESP32's boot loader with 4 MB of flash."""
    mock = Board(tmp_path)
    yield mock
    mock.stop()


@pytest.fixture(scope="session")
def micropython():
    from fleet import micropython

    return micropython()


@pytest.fixture
def tool(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    return Tool(home)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    found = Gateway(tmp_path_factory.mktemp("gateway"))
    yield found
    found.stop()
