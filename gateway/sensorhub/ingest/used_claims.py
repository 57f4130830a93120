"""Claims between the enrolment that used them and the moment when they are struck from their file.

The log comes first: a crash in between leaves a claim in the file that an enrolment in the log has used. It is not
honoured again, and struck at the next start.
"""

from __future__ import annotations

from sensorhub.log.entries import NodeEntry, NodeEvent, decode_entry
from sensorhub.log.reader import LogReader
from sensorhub.nodes.claims import Claim, ClaimError, Claims
from sensorhub.nodes.registry import Registry
from sensorhub.wire import WireError, decode_announce


class UsedClaims:
    """Finds claims that nobody has used yet, and strikes those that were.

    Args:
        claims: the file of waiting claims.

    Attributes:
        problem: why that file cannot be read or written at the moment, or None.
    """

    def __init__(self, claims: Claims) -> None:
        self.problem: str | None = None
        self._claims = claims
        self._owed: list[tuple[str, bytes]] = []

    def find(self, node: str, claim: bytes | None) -> Claim | None:
        """What a claim that is still good grants to a node, else None."""
        if claim is None or (node, claim) in self._owed:
            return None
        try:
            grant = self._claims.find(node, claim)
        except ClaimError as error:
            self.problem = str(error)
            return None
        self.problem = None
        return grant

    def owe(self, node: str, claim: bytes) -> None:
        """Notes a claim as used; `spend` strikes it once its enrolment is on disk."""
        self._owed.append((node, claim))

    def spend(self) -> None:
        """Strikes the used claims from the file, as far as that can be written."""
        while self._owed:
            node, claim = self._owed[0]
            try:
                self._claims.redeem(node, claim)
                self.problem = None
            except ClaimError as error:
                # stays in the list, so the claim is not honoured again; the next round tries once more
                self.problem = str(error)
                return
            self._owed.pop(0)

    def recall(self, registry: Registry, reader: LogReader, site: str) -> None:
        """Strikes claims whose enrolment is logged but which a crash left in the file."""
        try:
            if not self._claims.waiting():
                return
        except ClaimError as error:
            self.problem = str(error)
            return
        for index in registry.indices:
            entry = decode_entry(reader.entry(index))
            if isinstance(entry, NodeEntry) and entry.event in (NodeEvent.ENROL, NodeEvent.ROTATE):
                try:
                    announce = decode_announce(entry.evidence, site=site, node=entry.node)
                except WireError:
                    continue
                if announce.claim is not None:
                    self.owe(entry.node, announce.claim)
        self.spend()
