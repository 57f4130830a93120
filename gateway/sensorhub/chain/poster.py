"""Follows the log and keeps the newest signed checkpoint of it in contract `GatewayLog`.

One step looks at the head in the contract, brings the records in line with it, and then does the one thing
that is due: open the log, send or replace a transaction, sign the next checkpoint, or wait. Every step may be
the first after a crash, so nothing that matters is kept in memory only.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import coincurve

from sensorhub.chain import digest
from sensorhub.chain.contract import Fees, GatewayLogContract, Head, Posted, Prepared, cannot_pay
from sensorhub.chain.digest import ChainCheckpoint
from sensorhub.chain.errors import ChainError, ForkError, RefusedError
from sensorhub.chain.records import Anchored, InFlight, Outgoing, Records, Signed
from sensorhub.chain.requests import Act, Request, RequestState
from sensorhub.errors import SensorhubError
from sensorhub.log.entries import Genesis, decode_entry
from sensorhub.log.merkle import leaf_hash
from sensorhub.log.note import Checkpoint
from sensorhub.log.reader import LogReader

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.5
LAST_PAUSE_S: Final = 60.0
"""After an error: the pause doubles from the first to the last."""
IDLE_POLL_S: Final = (0.5, 30.0)
"""Shortest and longest pause between looks at the chain when nothing is due; a tenth of the interval."""
FLIGHT_POLL_S: Final = (0.25, 4.0)
"""Pause while a transaction waits: short at first, long after `PATIENCE_S`."""
PATIENCE_S: Final = 10.0
REPLACE_AFTER_S: Final = 90.0
"""A transaction that is in no block after this long is replaced by one with higher fees and the same nonce."""
RAISE: Final = 1.25
"""Nodes want at least a tenth more to replace a transaction."""
ADOPT_BLOCKS: Final = 500_000
"""How far back lost records are made anew from events; of older checkpoints only the newest is needed."""
REFUSALS: Final = frozenset(
    {
        "unknown log",
        "log is closed",
        "empty range",
        "signer is zero",
        "wrong signature",
        "signature has high s",
    }
)
"""Words of the contract after which asking again is of no use."""
CLOCK: Final = lambda: time.time_ns() // 1_000_000  # noqa: E731


class StatusSink(Protocol):
    """Where the status goes: `sensorhub.status.StatusFile`."""

    def write(self, fields: Mapping[str, Any], /) -> None:
        """Replaces what was there."""


class Poster:
    """Posts checkpoints of one log.

    Args:
        reader: the log; it may still be empty.
        contract: where to post.
        key: the log's signer, which also pays for the transactions. Nothing else may send from its account.
        path: `chain.sqlite` in the data directory.
        interval_s: seconds between checkpoints while the log grows.
        confirmations: blocks on top of a checkpoint before it counts as final.
        max_fee_gwei: most to pay per gas.
        owner: 20-byte address that may rotate, close and flag; only used when the log is opened.
        replace_after_s: how long a transaction may wait before it is replaced.
        clock: Unix ms.

    Raises:
        ChainError: the records are in use or cannot be opened.
    """

    name = "chain"

    def __init__(
        self,
        reader: LogReader,
        contract: GatewayLogContract,
        key: coincurve.PrivateKey,
        path: Path,
        *,
        interval_s: float = 3600.0,
        confirmations: int = 3,
        max_fee_gwei: float = 100.0,
        owner: bytes = digest.NO_OWNER,
        replace_after_s: float = REPLACE_AFTER_S,
        clock: Callable[[], int] = CLOCK,
    ) -> None:
        self._reader = reader
        self._contract = contract
        self._key = key
        self.address = digest.address(key.public_key)
        self._interval_s = interval_s
        self._confirmations = confirmations
        self._max_fee_gwei = max_fee_gwei
        self._owner = owner
        self._replace_after_s = replace_after_s
        self._clock = clock
        self._records = Records(path)
        self._log_id: bytes | None = None
        self._chain_id = 0
        self._checked = False  # whether chain and contract were looked at since the last error
        self._seen: bytes | None = None  # head in the contract that was compared with the log
        self._opening: tuple[Prepared, int] | None = None
        self._sent: bytes | None = None  # transaction this process is sure to have handed over
        self._raise = 1.0
        self._state = "starting"
        self._error: str | None = None
        self._failures = 0

    def close(self) -> None:
        """Lets the records go."""
        self._records.close()

    def cursor(self) -> int:
        """Entries that the newest checkpoint in the contract covers."""
        newest = self._records.newest() if self._log_id else None
        return newest.signed.checkpoint.size if newest else 0

    def status(self) -> dict[str, Any]:
        """Fields of the status file; sizes in entries, gas per post, hashes and addresses in hex."""
        newest = self._records.newest() if self._log_id else None
        posted, gas_mean = self._records.gas()
        size = self._reader.size()
        covered = newest.signed.checkpoint.size if newest else 0
        return {
            "state": self._state,
            "cursor": covered,
            "log_size": size,
            "lag": max(0, size - covered),
            "posted": posted,
            "last_seq": newest.signed.checkpoint.seq if newest else 0,
            "last_size": covered,
            "last_tx": "0x" + newest.tx.hex() if newest else None,
            "last_block": newest.block if newest else None,
            "last_confirmed": newest.confirmed if newest else None,
            "gas_last": newest.gas if newest else None,
            "gas_mean": None if gas_mean is None else round(gas_mean),
            "signer": "0x" + self.address.hex(),
            "contract": "0x" + self._contract.address.hex(),
            "chain_id": self._chain_id or None,
            "requests": len(self._records.requests()),
            "failures": self._failures,
            "error": self._error,
        }

    def run(self, stop: threading.Event, status: StatusSink | None = None) -> None:
        """Steps until `stop` is set. Errors are shown in the status and tried again with growing pauses."""
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                delay = self.step()
                pause = FIRST_PAUSE_S
                self._error = None
            except (SensorhubError, sqlite3.Error, OSError) as error:
                self._state = "alarm" if isinstance(error, ForkError) else "retrying"
                if str(error) != self._error:
                    logger.warning("%s", error)
                self._error = str(error)
                self._failures += 1
                delay, pause = pause, min(2 * pause, LAST_PAUSE_S)
            deadline = time.monotonic() + delay
            while not stop.is_set():
                if status is not None:
                    status.write(self.status())
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                stop.wait(min(left, 1.0))

    def step(self) -> float:
        """Does the next thing that is due; seconds until it is worth asking again.

        Raises:
            ForkError: the chain tells another story of this log; nothing is posted.
            ChainError: the chain cannot be asked or refuses; calling again later may help.
            LogError: the log cannot be read.
        """
        try:
            return self._step()
        except ChainError:
            self._checked = False
            raise

    def _step(self) -> float:
        if self._log_id is None and not self._identify():
            self._state = "waiting for the log"
            return IDLE_POLL_S[0]
        assert self._log_id is not None
        if not self._checked:
            self._check_chain()
            self._checked = True
        self._follow_requests()  # before the head, which then has what they changed
        head = self._contract.head(self._log_id)
        if not head.opened:
            if self._records.newest() is not None:
                self._withdraw(0)
            return self._open()
        if head.signer != self.address:
            self._follow_requests()  # what handed the log over may have been mined since they were looked at
            raise ForkError(
                f"the contract lets 0x{head.signer.hex()} sign for this log, and the key here is 0x{self.address.hex()}: "
                "it was handed over, or somebody opened it first. Configure the right key, or begin a new log"
            )
        self._opening = None
        self._align(head)
        self._confirm()
        try:
            acting = self._act(head)
            if acting is not None:
                return acting
            if head.closed:
                raise ForkError(
                    "the log is closed in the contract: no checkpoint can follow. Begin a new log"
                )
            return self._advance()
        except RefusedError:
            if self._moved(head):
                return 0.0
            raise

    def _moved(self, head: Head) -> bool:
        """Whether the contract has gone on since `head` was read: then a refusal of what was made for it means nothing."""
        assert self._log_id is not None
        return self._contract.head(self._log_id) != head

    def _identify(self) -> bool:
        if self._reader.size() == 0:
            return False
        genesis = self._reader.entry(0)
        self._genesis = decode_entry(genesis)
        self._log_id = leaf_hash(genesis)
        return True

    def _check_chain(self) -> None:
        chain_id = self._contract.check()
        genesis = self._genesis
        if isinstance(genesis, Genesis) and genesis.contract is not None:
            named = (genesis.chain_id, genesis.contract)
            if named != (chain_id, self._contract.address):
                raise ForkError(
                    f"this log was begun for contract 0x{genesis.contract.hex()} on chain {genesis.chain_id}; the settings "
                    f"lead to 0x{self._contract.address.hex()} on chain {chain_id}. A log is anchored in one place only"
                )
        assert self._log_id is not None
        self._records.identify(chain_id, self._contract.address, self._log_id)
        self._chain_id = chain_id

    def _sign(self, struct_hash: bytes) -> bytes:
        return digest.sign(
            digest.typed_digest(struct_hash, self._chain_id, self._contract.address), self._key
        )

    def _open(self) -> float:
        """Reserves and opens the log; which of the two is due is seen from the contract, so a crash does no harm."""
        assert self._log_id is not None
        self._state = "opening the log"
        if self._opening is not None:
            prepared, sent_ms = self._opening
            waiting = self._clock() - sent_ms < self._replace_after_s * 1000
            if (
                waiting
                and self._contract.nonce(self.address) == prepared.nonce
                and self._contract.receipt(prepared.tx) is None
            ):
                return self._flight_poll(sent_ms)
            self._opening = None
        # The salt only has to be unknown to others until the log is open; made from the key it survives a crash.
        salt = hashlib.sha256(b"sensorhub: salt of a reservation" + self._key.secret + self._log_id).digest()
        nonce = self._contract.nonce(self.address)
        fees = self._contract.fees(self._max_fee_gwei, raised=self._raise)
        commitment = digest.commitment(self._log_id, self.address, self._owner, salt)
        try:
            if not self._contract.reserved(commitment):
                if self._contract.head(self._log_id).opened:
                    return 0.0  # opened since the head was read, which used the reservation up
                prepared = self._contract.prepare_reserve(self._key, commitment, nonce=nonce, fees=fees)
            else:
                prepared = self._contract.prepare_open(
                    self._key,
                    self._log_id,
                    signer=self.address,
                    owner=self._owner,
                    salt=salt,
                    signature=self._sign(digest.open_hash(self._log_id, self.address, self._owner)),
                    nonce=nonce,
                    fees=fees,
                )
            self._contract.send(prepared.raw)
        except RefusedError as error:
            if self._contract.nonce(self.address) != nonce:
                return 0.0  # what was sent before was mined in this moment, and another thing is due now
            raise self._explained(error) from error
        self._raise = 1.0
        self._opening = (prepared, self._clock())
        return FLIGHT_POLL_S[0]

    def _align(self, head: Head) -> None:
        """Makes the records say what the contract says."""
        if head.empty:
            on_chain = 0
        else:
            found = self._records.seq_of(head.hash)
            on_chain = self._adopt(head) if found is None else found
        arrived = self._records.outgoing_until(on_chain)
        if arrived:
            self._records.record([self._settled(one) for one in arrived])
            self._raise = 1.0
        newest = self._records.newest()
        if newest is not None and newest.signed.checkpoint.seq > on_chain:
            self._withdraw(on_chain)
            newest = self._records.newest()
        if newest is not None and self._seen != head.hash:
            self._compare(newest.signed.checkpoint)
        self._seen = head.hash

    def _withdraw(self, seq: int) -> None:
        count = self._records.withdraw(seq)
        logger.warning(
            "%d checkpoints vanished from the chain (a reorganisation, or a chain begun anew)", count
        )

    def _settled(self, out: Outgoing) -> Anchored:
        """Finds the transaction that brought a checkpoint into the contract: ours, or a relay's."""
        one = out.signed.checkpoint
        receipt = self._contract.receipt(out.flight.tx) if out.flight else None
        if receipt is None or not receipt.succeeded:
            for event in self._contract.history(one.log_id, seq=one.seq):
                if event.checkpoint == one:
                    receipt = self._contract.receipt(event.tx)
                    break
        if receipt is None:
            raise ChainError(
                f"checkpoint {one.seq} is in the contract, but the RPC server shows no event of it yet"
            )
        return Anchored(out.signed, receipt.tx, receipt.block, receipt.gas, confirmed=False)

    def _adopt(self, head: Head) -> int:
        """Takes checkpoints over that are in the contract and not in the records, if they fit the log."""
        assert self._log_id is not None
        events = self._lineage(head.hash, ADOPT_BLOCKS) or self._lineage(head.hash, None)
        if not events:
            raise ChainError("the RPC server does not show the event of the checkpoint in the contract yet")
        events.reverse()
        self._compare(events[-1].checkpoint)
        below = events[0].checkpoint.seq - 1
        waiting = self._records.outgoing_until(below)
        if waiting:
            self._records.record([self._settled(one) for one in waiting])
        adopted = []
        for event in events:
            receipt = self._contract.receipt(event.tx)
            signature = self._contract.signature(event) or b""
            signed = Signed(event.checkpoint, signature, b"", self._clock())
            adopted.append(
                Anchored(signed, event.tx, event.block, receipt.gas if receipt else 0, confirmed=False)
            )
        self._records.record(adopted, replace=True)
        last = events[-1].checkpoint.seq
        logger.warning(
            "took checkpoints %d to %d over from the chain: they were not in the records", below + 1, last
        )
        return last

    def _lineage(self, newest: bytes, depth: int | None) -> list[Posted]:
        """Events back from the head to one that the records know, newest first; without a depth, the head's only."""
        assert self._log_id is not None
        events: list[Posted] = []
        wanted = newest
        for event in self._contract.history(self._log_id, depth=depth):
            if event.checkpoint.struct_hash() != wanted:
                continue
            events.append(event)
            wanted = event.checkpoint.prev
            if depth is None or wanted == digest.NO_PREV or self._records.seq_of(wanted) is not None:
                break
        return events

    def _compare(self, checkpoint: ChainCheckpoint) -> None:
        size = self._reader.size()
        if checkpoint.size > size:
            raise ForkError(
                f"the contract holds checkpoint {checkpoint.seq} of {checkpoint.size} entries, and the log here has {size}: "
                "an old copy of the log was restored, or another gateway uses this key. Nothing is posted. Bring the "
                "complete log back, or begin a new log with new keys"
            )
        if self._reader.root(checkpoint.size) != checkpoint.root:
            raise ForkError(
                f"the contract holds checkpoint {checkpoint.seq} of {checkpoint.size} entries, and the log here has other "
                "entries at the same places: it was changed, or another gateway uses this key. Nothing is posted. "
                "Run `sensorhub log fsck`, and bring the right log back"
            )

    def _confirm(self) -> None:
        """Follows posts that are not final: a reorganisation may have moved them."""
        unconfirmed = self._records.unconfirmed()
        if not unconfirmed:
            return
        latest = self._contract.block_number()
        for one in unconfirmed:
            receipt = self._contract.receipt(one.tx)
            if receipt is None or not receipt.succeeded:
                moved = self._settled(Outgoing(one.signed, None))
                self._records.move(one.signed.checkpoint.seq, moved.tx, moved.block, moved.gas)
            elif receipt.block != one.block:
                self._records.move(one.signed.checkpoint.seq, receipt.tx, receipt.block, receipt.gas)
            elif latest - receipt.block >= self._confirmations:
                self._records.confirm(one.signed.checkpoint.seq)

    def _advance(self) -> float:
        out = self._records.outgoing()
        if out is None:
            wait = self._due_in()
            signed = self._next() if wait <= 0 else None
            if signed is None:
                self._state = "idle"
                poll = min(max(self._interval_s / 10, IDLE_POLL_S[0]), IDLE_POLL_S[1])
                return min(max(wait, 0.05), poll) if wait > 0 else poll
            self._records.add(signed)
            out = Outgoing(signed, None)
        self._state = "posting"
        if out.flight is not None:
            return self._watch(out, out.flight)
        self._post(out, self._contract.nonce(self.address))
        return FLIGHT_POLL_S[0]

    def _follow_requests(self) -> None:
        """Looks what became of requests that were sent or mined."""
        waiting = [(one, flight) for one, flight in self._records.requests() if flight is not None]
        latest = self._contract.block_number() if waiting else 0
        for one, flight in waiting:
            assert flight is not None
            receipt = self._contract.receipt(flight.tx)
            if receipt is None:
                if one.state is RequestState.MINED:
                    self._records.carry(
                        one.id, flight
                    )  # a reorganisation took it away: the same is sent again
                    self._sent = None
            elif not receipt.succeeded:
                self._records.conclude(
                    one.id, RequestState.REFUSED, block=receipt.block, error="the transaction failed"
                )
            else:
                final = latest - receipt.block >= self._confirmations
                state = RequestState.DONE if final else RequestState.MINED
                self._records.conclude(one.id, state, block=receipt.block)

    def _act(self, head: Head) -> float | None:
        """Carries out what other processes ask for, one act at a time; None when a checkpoint may go on."""
        out = self._records.outgoing()
        if out is not None and out.flight is not None:
            return None  # its nonce comes first
        for one, flight in self._records.requests():
            if one.state is RequestState.MINED:
                continue
            self._state = "acting"
            nonce = self._contract.nonce(self.address)
            if flight is None:
                self._carry(one, head, nonce)
                return FLIGHT_POLL_S[0]
            if nonce != flight.nonce:
                # Mined in this moment, or pushed aside for good: the next look tells which.
                if self._contract.receipt(flight.tx) is None:
                    self._records.carry(one.id, None)
                return 0.0
            waited_s = (self._clock() - flight.sent_ms) / 1000
            if waited_s >= self._replace_after_s or waited_s < 0:
                self._raise = min(self._raise * RAISE, 100.0)
                self._carry(one, head, nonce)
            elif self._sent != flight.tx:
                self._contract.send(flight.raw)
                self._sent = flight.tx
            return self._flight_poll(flight.sent_ms)
        return None

    def _carry(self, one: Request, head: Head, nonce: int) -> None:
        fees = self._contract.fees(self._max_fee_gwei, raised=self._raise)
        try:
            prepared = self._prepared(one, head, nonce, fees)
        except RefusedError as error:
            if error.reason not in REFUSALS:
                raise self._explained(error) from error
            if self._moved(head):
                return
            logger.warning("the contract refuses request %d (%s): %s", one.id, one.kind, error.reason)
            self._records.conclude(one.id, RequestState.REFUSED, error=error.reason)
            return
        # Written down first, as with checkpoints.
        self._records.carry(
            one.id, InFlight(prepared.tx, prepared.raw, nonce, fees.most, fees.tip, self._clock())
        )
        try:
            self._contract.send(prepared.raw)
        except RefusedError as error:
            raise self._explained(error) from error
        self._sent = prepared.tx
        self._raise = 1.0

    def _prepared(self, one: Request, head: Head, nonce: int, fees: Fees) -> Prepared:
        assert self._log_id is not None
        if one.kind is Act.FLAG:
            assert one.start is not None
            assert one.stop is not None
            hashed = digest.flag_hash(self._log_id, head.nonce, one.start, one.stop, one.reason)
            return self._contract.prepare_flag(
                self._key,
                self._log_id,
                one.start,
                one.stop,
                one.reason,
                signature=self._sign(hashed),
                nonce=nonce,
                fees=fees,
            )
        if one.kind is Act.ROTATE:
            return self._contract.prepare_rotate(
                self._key,
                self._log_id,
                one.signer,
                proof=one.proof,
                signature=self._sign(digest.rotate_hash(self._log_id, head.nonce, one.signer)),
                nonce=nonce,
                fees=fees,
            )
        signature = self._sign(digest.close_hash(self._log_id, head.nonce))
        return self._contract.prepare_close(
            self._key, self._log_id, signature=signature, nonce=nonce, fees=fees
        )

    def _due_in(self) -> float:
        made = self._records.last_made_ms()
        if made is None:
            return 0.0
        passed = (self._clock() - made) / 1000
        # A clock that was set back must not stop the posting.
        return self._interval_s - passed if passed >= 0 else 0.0

    def _next(self) -> Signed | None:
        """Signs the log's newest checkpoint for the chain; None when it covers nothing new."""
        assert self._log_id is not None
        note = self._reader.checkpoint()
        if note is None:
            return None
        tree = Checkpoint.parse(note.decode("utf-8").partition("\n\n")[0] + "\n")
        newest = self._records.newest()
        before = newest.signed.checkpoint if newest else None
        covered = before.size if before else 0
        if tree.size <= covered:
            return None
        if self._reader.root(tree.size) != tree.root:
            raise ChainError(
                f"the checkpoint file of the log names another root for {tree.size} entries than the log has: run "
                "`sensorhub log fsck`"
            )
        checkpoint = ChainCheckpoint(
            self._log_id,
            before.seq + 1 if before else 1,
            tree.size,
            tree.root,
            before.struct_hash() if before else digest.NO_PREV,
            self._entry_ms(covered),
            self._entry_ms(tree.size - 1),
        )
        return Signed(checkpoint, self._sign(checkpoint.struct_hash()), note, self._clock())

    def _entry_ms(self, index: int) -> int:
        entry = decode_entry(self._reader.entry(index))
        for name in ("received_ms", "ms"):
            if hasattr(entry, name):
                return int(getattr(entry, name))
        return 0  # the genesis entry says no time

    def _post(self, out: Outgoing, nonce: int) -> None:
        one = out.signed.checkpoint
        newest = self._records.newest()
        before = newest.signed.checkpoint if newest else None
        self._compare(one)
        path = self._reader.consistency(before.size, one.size) if before else []
        fees = self._contract.fees(self._max_fee_gwei, raised=self._raise)
        signature = out.signed.signature or self._sign(one.struct_hash())
        try:
            prepared = self._contract.prepare_post(
                self._key, before, one, path, signature, nonce=nonce, fees=fees
            )
            # Written down first: whatever happens while it is sent, it is known what may be on its way.
            flight = InFlight(prepared.tx, prepared.raw, nonce, fees.most, fees.tip, self._clock())
            self._records.attach(one.seq, flight)
            self._contract.send(prepared.raw)
        except RefusedError as error:
            self._records.attach(one.seq, None)
            raise self._explained(error) from error
        self._sent = prepared.tx

    def _watch(self, out: Outgoing, flight: InFlight) -> float:
        """Looks after a transaction of which the contract shows nothing yet."""
        seq = out.signed.checkpoint.seq
        receipt = self._contract.receipt(flight.tx)
        if receipt is not None:
            if not receipt.succeeded:
                self._records.attach(seq, None)
                raise ChainError(
                    f"the chain ran the transaction 0x{flight.tx.hex()} of checkpoint {seq}, and it failed"
                )
            return 0.0  # mined since we asked for the head
        nonce = self._contract.nonce(self.address)
        if nonce != flight.nonce:
            # Mined in this moment, or never to be mined: the next look at the head tells which.
            if self._contract.receipt(flight.tx) is None:
                self._records.attach(seq, None)
            return 0.0
        waited_s = (self._clock() - flight.sent_ms) / 1000
        if waited_s >= self._replace_after_s or waited_s < 0:
            self._replace(out, flight)
        elif self._sent != flight.tx:
            self._resend(seq, flight)
        return self._flight_poll(flight.sent_ms)

    def _replace(self, out: Outgoing, flight: InFlight) -> None:
        fees = self._contract.fees(self._max_fee_gwei, raised=self._raise)
        if fees.most < flight.max_fee * RAISE or fees.tip < flight.tip * RAISE:
            needed = max(flight.max_fee / max(fees.most, 1), flight.tip / max(fees.tip, 1)) * RAISE
            raised = self._contract.fees(self._max_fee_gwei, raised=self._raise * needed)
            if raised.most < flight.max_fee * RAISE or raised.tip < flight.tip * RAISE:
                # The limit forbids a higher fee: all that is left is to make sure that the node still has it.
                self._resend(out.signed.checkpoint.seq, flight)
                return
            self._raise *= needed
        logger.info("replacing the transaction of checkpoint %d", out.signed.checkpoint.seq)
        self._post(out, flight.nonce)
        self._raise = 1.0

    def _resend(self, seq: int, flight: InFlight) -> None:
        try:
            self._contract.send(flight.raw)
        except RefusedError as error:
            if "nonce" not in error.reason.lower():
                self._records.attach(seq, None)
            raise self._explained(error) from error
        self._sent = flight.tx

    def _flight_poll(self, sent_ms: int) -> float:
        young = self._clock() - sent_ms < PATIENCE_S * 1000
        return FLIGHT_POLL_S[0] if young else FLIGHT_POLL_S[1]

    def _explained(self, error: RefusedError) -> ChainError:
        if "underpriced" in error.reason.lower():
            self._raise = min(self._raise * RAISE, 100.0)
        return cannot_pay(error, self.address, self._chain_id) or error
