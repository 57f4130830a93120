"""A small network whose log entries are made by the real encoders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cbor2
import pytest
from coincurve import PrivateKey

from sensorhub.log.entries import MessageEntry, NodeEntry, NodeEvent, VerdictEntry, encode_entry
from sensorhub.wire import encode_message, public_key_of

START = 1_700_006_400  # a midnight, UTC


class Network:
    """Writes entries as a gateway's log would hold them, with indices from 0."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.records: dict[int, int] = {}
        self._seq: dict[str, int] = {}
        self._previous: dict[str, bytes] = {}

    def key(self, node: str) -> PrivateKey:
        return PrivateKey(hashlib.sha256(node.encode()).digest())

    def add(self, entry: bytes) -> int:
        self.entries.append(entry)
        return len(self.entries) - 1

    def enrol(
        self, node: str, *, kind: str = "weather", event: NodeEvent = NodeEvent.ENROL, geohash: str = "u33db"
    ) -> int:
        return self.add(
            encode_entry(
                NodeEntry(
                    1, event, node, kind, public_key_of(self.key(node)), bytes(20), geohash, b"announce"
                )
            )
        )

    def message(
        self,
        node: str,
        base: int | None,
        records: Sequence[tuple[str, float | int | bytes, float]],
        *,
        tq: int = 2,
        boot: int = 1,
        uptime: int = 0,
        received: float | None = None,
        signed: bool = False,
    ) -> int:
        seq = self._seq[node] = self._seq.get(node, 0) + 1
        raw = encode_message(
            self.key(node),
            site="lab",
            node=node,
            boot=boot,
            seq=seq,
            prev=self._previous.get(node, bytes(32)),
            tq=0 if base is None else tq,
            uptime=uptime,
            base_time=base,
            records=records,
        )
        self._previous[node] = hashlib.sha256(raw).digest()
        index = self.add(encode_entry(MessageEntry(int((received or base or START) * 1000), raw)))
        self.records[index] = len(records)
        return index

    def verdict(self, verdicts: dict[int, Sequence[tuple[int, int]]], rules: str = "rules/1") -> int:
        return self.add(
            encode_entry(
                VerdictEntry(
                    1, b"", rules, tuple((i, tuple(map(tuple, pairs))) for i, pairs in verdicts.items())
                )
            )
        )

    def judge(self, index: int, score: int = 190, flags: int = 0) -> int:
        return self.verdict({index: [(score, flags)] * self.records[index]})

    def clone(self, node: str, *evidence: int) -> int:
        return self.add(
            encode_entry(
                NodeEntry(
                    1,
                    NodeEvent.CLONE,
                    node,
                    "",
                    public_key_of(self.key(node)),
                    None,
                    "",
                    cbor2.dumps(evidence),
                )
            )
        )

    def batch(self, start: int = 0, stop: int | None = None) -> list[tuple[int, bytes]]:
        stop = len(self.entries) if stop is None else stop
        return [(i, self.entries[i]) for i in range(start, stop)]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture(scope="session")
def make_network() -> type[Network]:
    return Network
