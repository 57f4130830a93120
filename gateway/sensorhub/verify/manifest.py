"""`sensorhub-dataset/1`: the manifest of a dataset directory, and the evidence beside the data.

manifest.json              what this module reads and writes
data.parquet               the readings, one row each
evidence/entries.bin       log entries: genesis, node entries, messages, verdicts
evidence/multiproof.bin    node hashes that lead from these entries to the root
evidence/note.txt          the signed checkpoint note
README.md                  data sheet for people
croissant.json             the same for machines (ML Commons Croissant)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sensorhub.log.merkle import HASH_SIZE
from sensorhub.verify import canonical
from sensorhub.verify.canonical import Members, to_base64, to_hex
from sensorhub.verify.errors import VerifyError
from sensorhub.verify.proof import Anchor, anchor_members, read_anchor
from sensorhub.verify.rows import Selection, read_selection

FORMAT: Final = "sensorhub-dataset/1"
MANIFEST: Final = "manifest.json"
DATA: Final = "data.parquet"
ENTRIES: Final = "evidence/entries.bin"
MULTIPROOF: Final = "evidence/multiproof.bin"
NOTE: Final = "evidence/note.txt"
README: Final = "README.md"
CROISSANT: Final = "croissant.json"
FILES: Final = (DATA, ENTRIES, MULTIPROOF, NOTE, README, CROISSANT)
"""Every file but the manifest, in the order in which the manifest lists them."""
METADATA_KEY: Final = b"sensorhub"
"""Key of the provenance in the Parquet schema metadata."""

_RECORD: Final = struct.Struct(">QH")


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a dataset: path below its directory, length in bytes, SHA-256."""

    path: str
    size: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class About:
    """What people should know of a dataset.

    Attributes:
        title: its name.
        description: what it is.
        creator: who publishes it.
        licence: SPDX identifier, or words.
        attribution: the sentence that has to be given with it; empty when none is asked.
        created_ms: when it was exported, Unix ms.
    """

    title: str
    description: str
    creator: str
    licence: str
    attribution: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is: rows, messages that gave them, nodes, entries of evidence."""

    rows: int
    messages: int
    nodes: int
    entries: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest.

    Attributes:
        about: title, licence and so on.
        selection: what was taken from the log.
        log_id: leaf hash of the genesis entry, 32 bytes.
        origin: origin line of the log.
        size: tree size for which the multiproof holds.
        root: tree root of that size, 32 bytes.
        counts: how much there is.
        anchor: the chain checkpoint of that size; None when that size was not posted.
        files: exactly FILES, in that order.
        digest_holds: whether the manifest's own digest fits.
    """

    about: About
    selection: Selection
    log_id: bytes
    origin: str
    size: int
    root: bytes
    counts: Counts
    anchor: Anchor | None
    files: tuple[Listed, ...]
    digest_holds: bool = True


def format_manifest(manifest: Manifest) -> bytes:
    """The canonical file of a manifest."""
    members = {
        "format": FORMAT,
        **_about_members(manifest.about),
        "log": _log_members(manifest),
        "selection": manifest.selection.as_json(),
        "counts": {
            "rows": manifest.counts.rows,
            "messages": manifest.counts.messages,
            "nodes": manifest.counts.nodes,
            "entries": manifest.counts.entries,
        },
        "anchor": None if manifest.anchor is None else anchor_members(manifest.anchor),
        "files": [
            {"path": listed.path, "bytes": listed.size, "sha256": listed.sha256.hex()}
            for listed in manifest.files
        ],
    }
    return canonical.dump(canonical.seal(members))


def provenance(manifest: Manifest) -> bytes:
    """What the Parquet file says of itself under METADATA_KEY: canonical JSON of part of the manifest."""
    return canonical.dump(
        {
            "format": FORMAT,
            **_about_members(manifest.about),
            "log": _log_members(manifest),
            "selection": manifest.selection.as_json(),
        }
    )


def parse_manifest(data: bytes) -> Manifest:
    """Reads a manifest.

    Raises:
        VerifyError: not exactly the format; names the member.
    """
    value = canonical.load(data)
    members = Members(value)
    canonical.check_format(members, FORMAT)
    about = About(
        title=members.text("title"),
        description=members.text("description"),
        creator=members.text("creator"),
        licence=members.text("licence"),
        attribution=members.text("attribution"),
        created_ms=members.uint("created"),
    )
    log = Members(members.raw("log"), "log")
    log_id = log.read("logId", canonical.bytes32)
    origin = log.text("origin")
    size = log.uint("size")
    root = log.read("root", canonical.hash_base64)
    log.done()
    selection = members.read("selection", read_selection)
    counts = members.read("counts", _counts)
    anchor = members.optional("anchor", read_anchor)
    files = members.array("files", _listed)
    members.read(canonical.DIGEST, canonical.sha256_hex)
    members.done()
    if tuple(listed.path for listed in files) != FILES:
        raise VerifyError("files", f"not exactly {', '.join(FILES)}")
    return Manifest(
        about, selection, log_id, origin, size, root, counts, anchor, files, canonical.digest_holds(value)
    )


def _about_members(about: About) -> dict[str, Any]:
    return {
        "title": about.title,
        "description": about.description,
        "creator": about.creator,
        "licence": about.licence,
        "attribution": about.attribution,
        "created": about.created_ms,
    }


def _log_members(manifest: Manifest) -> dict[str, Any]:
    return {
        "logId": to_hex(manifest.log_id),
        "origin": manifest.origin,
        "size": manifest.size,
        "root": to_base64(manifest.root),
    }


def _counts(value: Any, where: str) -> Counts:
    members = Members(value, where)
    counts = Counts(
        rows=members.uint("rows"),
        messages=members.uint("messages"),
        nodes=members.uint("nodes"),
        entries=members.uint("entries"),
    )
    members.done()
    return counts


def _listed(value: Any, where: str) -> Listed:
    members = Members(value, where)
    listed = Listed(
        path=members.text("path"),
        size=members.uint("bytes"),
        sha256=members.read("sha256", canonical.sha256_hex),
    )
    members.done()
    return listed


def format_entries(entries: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """The records of `evidence/entries.bin`: index (8 bytes), length (2 bytes), entry; big endian, ascending."""
    for index, entry in entries:
        yield _RECORD.pack(index, len(entry)) + entry


def parse_entries(data: bytes) -> list[tuple[int, bytes]]:
    """Reads `evidence/entries.bin`.

    Raises:
        VerifyError: cut off, or the indices do not ascend; names the byte.
    """
    entries: list[tuple[int, bytes]] = []
    at, last = 0, -1
    while at < len(data):
        if at + _RECORD.size > len(data):
            raise VerifyError(ENTRIES, f"cut off within a record head at byte {at}")
        index, length = _RECORD.unpack_from(data, at)
        if index <= last:
            raise VerifyError(ENTRIES, f"index {index} follows {last} at byte {at}")
        start = at + _RECORD.size
        at = start + length
        if at > len(data):
            raise VerifyError(ENTRIES, f"entry {index} is cut off")
        entries.append((index, data[start:at]))
        last = index
    return entries


def parse_multiproof(data: bytes) -> list[bytes]:
    """Reads `evidence/multiproof.bin`: hashes one after the other.

    Raises:
        VerifyError: not a whole number of hashes.
    """
    if len(data) % HASH_SIZE:
        raise VerifyError(MULTIPROOF, f"{len(data)} bytes are no whole number of hashes of {HASH_SIZE}")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
