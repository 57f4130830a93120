"""TLS that checks: the server's certificate against the CAs of a file, its name, and its dates.

MicroPython's `tls` checks nothing unless it is told to; that is what this module is for. The dates are compared with
the system clock, so the clock has to be set before the first connection.
"""

import sys

try:
    import tls
except ImportError:  # CPython
    import ssl as tls


def context(path):
    """Context for a client that trusts the CA certificates of a file, PEM or one in DER.

    Raises OSError when it cannot be read, ValueError when it holds no certificate.
    """
    with open(path, "rb") as file:
        data = file.read()
    made = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    made.verify_mode = tls.CERT_REQUIRED  # pyright: ignore[reportAttributeAccessIssue]  the stub is wrong: an int
    try:
        if sys.implementation.name == "micropython":
            made.load_verify_locations(data)
        else:  # CPython takes PEM as text
            made.load_verify_locations(cadata=data.decode() if data.startswith(b"-----BEGIN") else data)
    except (ValueError, OSError) as error:
        raise ValueError("%s: holds no CA certificate (%s)" % (path, error))
    return made
