"""Rollups brought up to date: each dirty bucket is summarised anew from the messages that reach into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from sensorhub.channels import BY_NAME
from sensorhub.store.reader import Rows, unpack
from sensorhub.store.rollup import Columns, Summary, combine, summarise
from sensorhub.store.schema import FIVE_MINUTES, HOUR
from sensorhub.store.state import State

#: Dirty buckets this close together are read in one go: hourly messages are common.
MERGE_GAP: Final = HOUR

_INSERT_ROLLUP: Final = (
    "INSERT OR REPLACE INTO rollup_{} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

Between = Callable[[int, int, float, float, float], Rows]
"""Messages of a node and layout, one of which spans at most so many seconds, that reach into a range of time."""


def settle(db: sqlite3.Connection, state: State, between: Between) -> None:
    """Brings the rollups of every dirty bucket up to date, within the transaction that `db` is in."""
    state.write(db)
    directions = frozenset(
        number for name, number in state.channels.items() if BY_NAME[name].style == "direction"
    )
    sources: dict[int, list[tuple[int, float]]] = {}
    for (node, layout), span in state.sources.items():
        sources.setdefault(node, []).append((layout, span))
    by_node: dict[int, list[int]] = {}
    for node, bucket in sorted(state.dirty):
        by_node.setdefault(node, []).append(bucket)
    for node, buckets in by_node.items():
        _settle_node(db, state, between, node, buckets, sources.get(node, []), directions)
    db.execute("DELETE FROM dirty")
    state.dirty.clear()
    state.new_dirty.clear()


def _settle_node(
    db: sqlite3.Connection,
    state: State,
    between: Between,
    node: int,
    buckets: list[int],
    sources: list[tuple[int, float]],
    directions: frozenset[int],
) -> None:
    wanted = np.array(buckets, dtype=np.int64)
    parts: list[tuple[Any, ...]] = []
    for layout, span in sources:
        channels = np.array(state.layout_by_id[layout].channels, dtype=np.int64)
        seen: set[int] = set()
        for start, end in _runs(buckets, FIVE_MINUTES, MERGE_GAP):
            rows = between(node, layout, span, start, end)
            if not rows.ids:
                continue
            m = unpack(rows)
            m.score[m.clone] = -1
            bucket = np.floor(m.time / FIVE_MINUTES).astype(np.int64) * FIVE_MINUTES
            keep = ~np.isnan(m.value) & np.isin(bucket, wanted)
            if span:  # a message may reach into several runs, and counts once
                keep[[i for i, message in enumerate(rows.ids) if message in seen]] = False
                seen.update(rows.ids)
            channel = np.broadcast_to(channels, m.id.shape)
            parts.append(
                (channel[keep], m.time[keep], m.id[keep], m.value[keep], m.score[keep], m.flags[keep])
            )
    if not parts:
        return
    summaries = summarise(
        Columns(*(np.concatenate(each) for each in zip(*parts, strict=True))), FIVE_MINUTES, directions
    )
    db.executemany(
        _INSERT_ROLLUP.format("5m"),
        [(node, bucket, channel, *row) for (bucket, channel), row in summaries.items()],
    )
    hours = sorted({bucket // HOUR * HOUR for bucket, _ in summaries})
    touched = {(bucket // HOUR * HOUR, channel) for bucket, channel in summaries}
    hourly: dict[tuple[int, int], list[Summary]] = {}
    for start, end in _runs(hours, HOUR):
        for bucket, channel, *row in db.execute(
            "SELECT bucket, channel, n, mean, min, max, last, steadiness, trusted_n, trusted_mean,"
            " trusted_steadiness, flags, judged_n, score, flag_counts FROM rollup_5m WHERE node = ? AND bucket >= ? AND bucket < ?"
            " ORDER BY bucket, channel",
            (node, start, end),
        ):
            key = (bucket // HOUR * HOUR, channel)
            if key in touched:
                hourly.setdefault(key, []).append(Summary(*row))
    db.executemany(
        _INSERT_ROLLUP.format("1h"),
        [
            (node, hour, channel, *combine(found, direction=channel in directions))
            for (hour, channel), found in hourly.items()
        ],
    )


def _runs(buckets: list[int], seconds: int, gap: int = 0) -> list[tuple[int, int]]:
    """Ascending bucket starts as ranges (end excluded), joined over holes of at most `gap` seconds."""
    runs: list[tuple[int, int]] = []
    for bucket in buckets:
        if runs and bucket - runs[-1][1] <= gap:
            runs[-1] = (runs[-1][0], bucket + seconds)
        else:
            runs.append((bucket, bucket + seconds))
    return runs
