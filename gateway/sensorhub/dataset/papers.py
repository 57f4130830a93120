"""The data sheet for people and the Croissant description for machines; both follow from the manifest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sensorhub.channels import BY_NAME
from sensorhub.verify.manifest import (
    CROISSANT,
    DATA,
    ENTRIES,
    FORMAT,
    MANIFEST,
    MULTIPROOF,
    NOTE,
    Listed,
    Manifest,
)
from sensorhub.verify.rows import COLUMNS

DESCRIPTIONS: Final = {
    "node": "name of the node that measured",
    "channel": "what was measured",
    "unit": "SenML unit of the value",
    "time": "when, UTC; null when the node had no clock and nothing dates it",
    "value": "the number, as the node signed it; null for a data channel",
    "data": "the bytes of a data channel; null for a number",
    "score": "0 (do not use) to 1 (trust); null when not judged",
    "flags": "reasons as bits: 0 range, 1 spike, 2 stuck, 3 drift, 4 offset, 5 noise, 6 dropout, 7 replay, "
    "8 isolated, 9 regional event (real, keep), 10 time suspect, 11 sensor fault, 12 blocked, 13 fogged, 14 moved, 15 over-exposed; null when not judged",
    "judge": "version of the rules, and SHA-256 of the model when one took part",
    "time_quality": "0 uptime only, 1 held over, 2 NTP within 24 h, 3 GNSS",
    "received": "when the gateway received the message, UTC",
    "message": "log index of the signed message",
    "record": "position in that message",
    "boot": "how often the node had started",
    "seq": "number of the message within the life of the node's key",
    "kid": "key id: first 8 bytes of the SHA-256 of the public key, hex",
    "verdict": "log index of the verdict that gave the score",
}
"""What each column holds, in words."""

_CROISSANT_TYPES: Final = {
    "time": "sc:DateTime",
    "received": "sc:DateTime",
    "value": "sc:Float",
    "score": "sc:Float",
    "flags": "sc:Integer",
    "time_quality": "sc:Integer",
    "message": "sc:Integer",
    "record": "sc:Integer",
    "boot": "sc:Integer",
    "seq": "sc:Integer",
    "verdict": "sc:Integer",
}


def datasheet(manifest: Manifest, nodes: Sequence[str], channels: Sequence[str]) -> str:
    """`README.md` of a dataset."""
    about, counts, anchor = manifest.about, manifest.counts, manifest.anchor
    created = datetime.fromtimestamp(about.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"# {about.title}",
        "",
        about.description,
        "",
        f"- Published by: {about.creator or 'not told'}",
        f"- Licence: {about.licence or 'not told'}",
    ]
    if about.attribution:
        lines.append(f"- Attribution: {about.attribution}")
    lines += [
        f"- Exported: {created}",
        f"- Rows: {counts.rows:,} from {counts.messages:,} signed messages of {counts.nodes} nodes",
        f"- Nodes: {', '.join(nodes)}",
        f"- Channels: {', '.join(channels)}",
        f"- Time span asked for: {_span(manifest)}",
        f"- Judged readings only: {'yes' if manifest.selection.judged else 'no'}",
        f"- Log: {manifest.origin}, id {manifest.log_id.hex()}, {manifest.size:,} entries",
        f"- Anchored: {_anchored(manifest)}" if anchor else "- Anchored: not yet when this was exported",
        "",
        "## How to trust it",
        "",
        "Every row follows from a message that a node signed. Check all of it, without asking who made it:",
        "",
        "    tools/verify dataset DIRECTORY --rpc URL",
        "",
        f"The evidence is in `{ENTRIES}` (log entries), `{MULTIPROOF}` (hashes that lead to the root) and `{NOTE}`",
        "(the signed root). A score tells how far to trust a reading; train on the score, do not drop rows blindly:",
        "flag 9 marks real regional events.",
        "",
        f"## Columns of `{DATA}`",
        "",
        "| column | holds |",
        "|---|---|",
        *(f"| {name} | {DESCRIPTIONS[name]} |" for name in COLUMNS),
        "",
        "## Units",
        "",
        "| channel | unit | what |",
        "|---|---|---|",
        *(f"| {name} | {BY_NAME[name].unit or '-'} | {BY_NAME[name].title} |" for name in channels),
        "",
        f"`{MANIFEST}` ({FORMAT}) lists every file with its SHA-256; `{CROISSANT}` describes the same to machines.",
        "",
    ]
    return "\n".join(lines)


def _span(manifest: Manifest) -> str:
    start, stop = manifest.selection.start, manifest.selection.stop
    if start is None and stop is None:
        return "all"
    return f"{_moment(start)} to {_moment(stop)}"


def _moment(seconds: int | None) -> str:
    return (
        "open" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def _anchored(manifest: Manifest) -> str:
    anchor = manifest.anchor
    assert anchor is not None
    where = "" if anchor.tx is None else f", transaction 0x{anchor.tx.hex()} in block {anchor.block}"
    return f"checkpoint {anchor.checkpoint.seq} in contract 0x{anchor.contract.hex()} of chain {anchor.chain_id}{where}"


def croissant(manifest: Manifest, data: Listed) -> str:
    """`croissant.json`: ML Commons Croissant 1.0, http://mlcommons.org/croissant/1.0."""
    about = manifest.about
    created = datetime.fromtimestamp(about.created_ms / 1000, UTC).isoformat(timespec="seconds")
    described = {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "column": "cr:column",
            "data": {"@id": "cr:data", "@type": "@json"},
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "extract": "cr:extract",
            "field": "cr:field",
            "fileObject": "cr:fileObject",
            "recordSet": "cr:recordSet",
            "source": "cr:source",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about.title,
        "description": about.description,
        "license": about.licence,
        "creditText": about.attribution,
        "creator": {"@type": "sc:Organization", "name": about.creator},
        "dateCreated": created,
        "identifier": f"sensorhub:{manifest.log_id.hex()}:{manifest.size}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": DATA,
                "name": DATA,
                "contentUrl": DATA,
                "contentSize": f"{data.size} B",
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": data.sha256.hex(),
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "readings",
                "name": "readings",
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"readings/{name}",
                        "name": name,
                        "description": DESCRIPTIONS[name],
                        "dataType": _CROISSANT_TYPES.get(name, "sc:Text"),
                        "source": {"fileObject": {"@id": DATA}, "extract": {"column": name}},
                    }
                    for name in COLUMNS
                ],
            }
        ],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"
