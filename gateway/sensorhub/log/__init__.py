"""The transparency log: an RFC 9162 Merkle log, kept and served as C2SP tlog-tiles.

The parts stand in modules of their own and are imported from there, so that the verifier can load the pure
ones (`merkle`, `note`, `entries`) without anything else: see README.md beside this file.
"""
