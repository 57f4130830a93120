"""Addresses as text: what a person can click, and what a program can connect to."""

import urllib.parse

import pytest

from sensorhub.addresses import authority, dial_host, listens_everywhere


@pytest.mark.parametrize(
    ("host", "dialled", "everywhere", "text"),
    [
        ("127.0.0.1", "127.0.0.1", False, "127.0.0.1:8080"),
        ("localhost", "localhost", False, "localhost:8080"),
        ("hub.example", "hub.example", False, "hub.example:8080"),
        ("::1", "::1", False, "[::1]:8080"),
        ("fd00::12", "fd00::12", False, "[fd00::12]:8080"),
        ("0.0.0.0", "127.0.0.1", True, "127.0.0.1:8080"),
        ("::", "::1", True, "[::1]:8080"),
        ("0:0:0:0:0:0:0:0", "::1", True, "[::1]:8080"),
    ],
)
def test_hosts(host, dialled, everywhere, text):
    assert dial_host(host) == dialled
    assert listens_everywhere(host) == everywhere
    assert authority(dialled, 8080) == text
    parts = urllib.parse.urlsplit(f"http://{text}/")
    assert (parts.hostname, parts.port) == (dialled, 8080)


def test_an_authority_may_have_no_port():
    assert authority("::1") == "[::1]"
    assert authority("hub.example") == "hub.example"
