"""Calls that block - a name lookup, a scan for networks - beside the scheduler."""

import asyncio
import socket
import sys

try:
    import _thread
except ImportError:
    _thread = None

# The ESP32's sockets and radio let other threads run while they wait. Elsewhere lookups are quick.
THREADS = sys.platform == "esp32"


async def aside(function, *arguments):
    """Result of a function, computed in a thread of its own where that is useful; raises what it raises."""
    if not THREADS or not _thread:
        return function(*arguments)
    outcome = []

    def work():
        try:
            outcome.append((function(*arguments), None))
        except Exception as error:
            outcome.append((None, error))

    try:
        _thread.start_new_thread(work, ())
    except (OSError, RuntimeError, MemoryError):
        work()  # no room for a thread: better late than never
    while not outcome:
        await asyncio.sleep(0.02)
    result, error = outcome[0]
    if error:
        raise error
    return result


async def address(host, port):
    """What to connect to for a host: its address, looked up now; where lookups do not block, the name itself."""
    if not THREADS:
        return host
    found = await aside(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
    if not found:  # some versions raise nothing
        raise OSError("no address of " + host + " is known")
    return found[0][-1][0]
