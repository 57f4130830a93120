"""Hosts and ports as text, and as what one connects to."""

from __future__ import annotations

import ipaddress


def authority(host: str, port: int | None = None) -> str:
    """`host`, with `:port` when there is one, as it stands in a URL: brackets around an IPv6 address (RFC 3986, 3.2.2)."""
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if port is None else f"{bracketed}:{port}"


def listens_everywhere(host: str) -> bool:
    """Whether `host` is `0.0.0.0` or `::`: every address of the machine, and none to connect to (RFC 1122, 3.2.1.3)."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def dial_host(host: str) -> str:
    """Where a client on this machine reaches what listens on `host`."""
    if not listens_everywhere(host):
        return host
    return "::1" if ":" in host else "127.0.0.1"
