"""The answer of `/api/v1/status`: the state of the whole gateway at one glance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from sensorhub.log.note import NoteError
from sensorhub.status import SILENT_MS
from sensorhub.web.gateway import Gateway
from sensorhub.web.quality_api import muted_now

FOLLOWERS: Final = ("quality", "store", "chain")
#: Fields of the ingest process's status that are its own business, or far too long.
_PRIVATE: Final = frozenset(("pid", "process", "nodes"))


def summarise(gateway: Gateway) -> dict[str, Any]:
    """The answer; see README.md.

    Raises:
        UnavailableError: the log or the store has not been begun.
    """
    now = time.time_ns() // 1_000_000
    genesis = gateway.genesis
    size = gateway.log.size()
    processes = gateway.processes()
    warnings = list(_warnings(processes, now, chain=gateway.chain_configured))
    try:
        signed = gateway.signed()
    except NoteError as error:
        signed = None
        warnings.append(f"log: the checkpoint cannot be believed: {error}")
    chain = processes.get("chain", {})
    contract = "0x" + genesis.contract.hex() if genesis.contract else chain.get("contract")
    return {
        "time_ms": now,
        "gateway": {"site": genesis.site, "name": genesis.gateway, "origin": gateway.origin},
        "log": {
            "size": size,
            "checkpoint_size": signed.size if signed else 0,
            "root": signed.root.hex() if signed else None,
            "key": str(gateway.note_key),
        },
        "ingest": {
            name: value for name, value in processes.get("ingest", {}).items() if name not in _PRIVATE
        },
        "followers": {name: _follower(processes[name], size) for name in FOLLOWERS if name in processes},
        "store": gateway.ask(lambda store: store.counts()),
        "flags": gateway.ask(lambda store: store.flag_counts()),
        "quality": _quality(processes.get("quality", {})),
        "muted": muted_now(gateway),
        "chain": {
            "configured": gateway.chain_configured,
            "contract": contract,
            "chain_id": genesis.chain_id or chain.get("chain_id"),
            "posted": chain.get("posted") or 0,
            "gas_mean": chain.get("gas_mean"),
            "last": _last_post(chain),
        },
        "warnings": warnings,
    }


def _follower(record: Mapping[str, Any], size: int) -> dict[str, int]:
    cursor = record.get("cursor") or 0
    return {"cursor": cursor, "lag": max(0, size - cursor)}


def _quality(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in ("judge", "model", "model_error")}


def _last_post(chain: Mapping[str, Any]) -> dict[str, Any] | None:
    if not chain.get("last_tx"):
        return None
    return {
        "seq": chain.get("last_seq"),
        "size": chain.get("last_size"),
        "tx": chain.get("last_tx"),
        "block": chain.get("last_block"),
        "gas": chain.get("gas_last"),
    }


def _warnings(processes: Mapping[str, Mapping[str, Any]], now: int, *, chain: bool) -> Iterator[str]:
    for name, record in processes.items():
        if name == "chain" and not chain:
            continue  # left behind by a time when there was one
        silent = now - int(record.get("updated_ms") or 0)
        if silent > SILENT_MS:
            yield f"{name}: no sign of life for {_duration(silent // 1000)}; see its log, or start it again"
        if record.get("error"):
            yield f"{name}: {record['error']}"
        if record.get("model_error"):
            yield f"{name}: the model takes no part, neighbours and rules judge: {record['model_error']}"
        for text in record.get("warnings") or ():
            yield f"{name}: {text}"


def _duration(seconds: int) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
