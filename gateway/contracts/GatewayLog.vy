# pragma version ~=0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title GatewayLog: one append-only head for every gateway log
@license Apache-2.0
@notice Keeps, for each log, the newest checkpoint of an RFC 9162 Merkle tree (SHA-256) and lets it move only
        forward: every new checkpoint must be signed by the log's signer, follow the one before it, and prove
        with an RFC 9162 consistency proof that the old tree is a prefix of the new one. A gateway that
        rewrote or dropped an old entry therefore cannot post again. Nothing is ever deleted and there is no
        administrator: no address may change the head of a log that is not its own, nor the code.
@dev Of the newest checkpoint only its EIP-712 struct hash is stored, and a post names that checkpoint again
     in its call data: one slot is read and one is changed for each post, none is added, whatever the log's
     size. What was posted is in the one event of each post. Signatures are EIP-712, as (r, vs) of ERC-2098.
     WARNING: the contract vouches for the order and the append-only growth of a log, never for the truth of
     an entry; `start` and `end` are the gateway's own clock and are not compared with the block's.
"""

struct Checkpoint:
    logId: bytes32  # RFC 9162 leaf hash of the log's entry 0
    seq: uint64  # 1 for the first, then one more each time
    size: uint64  # entries in the tree
    root: bytes32  # RFC 9162 tree hash of these entries
    prev: bytes32  # EIP-712 struct hash of the checkpoint before; zero for the first
    start: uint64  # Unix ms at which the first newly covered entry was received
    end: uint64  # the same of the last newly covered entry


# What a new checkpoint adds to the head; its logId, seq and prev follow from the head.
struct Next:
    size: uint64
    root: bytes32
    start: uint64
    end: uint64


struct Head:
    hash: bytes32  # EIP-712 struct hash of the newest checkpoint; zero before the first
    signer: address
    owner: address
    nonce: uint64
    closed: bool


struct Log:
    # signer in bits 0-159, closed in bit 160; zero for a log never opened. A post reads it, only.
    state: uint256
    # struct hash of the newest checkpoint; zero before the first
    head: bytes32
    # owner in bits 0-159, nonce in 160-223; its own slot because a post need not touch it
    admin: uint256


event Reserved:
    commitment: indexed(bytes32)


event Opened:
    logId: indexed(bytes32)
    signer: indexed(address)
    owner: indexed(address)


event Posted:
    logId: indexed(bytes32)
    seq: indexed(uint64)
    size: uint64
    root: bytes32
    prev: bytes32
    start: uint64
    end: uint64


event Rotated:
    logId: indexed(bytes32)
    signer: indexed(address)
    replaced: indexed(address)


event Closed:
    logId: indexed(bytes32)
    head: bytes32


event Flagged:
    logId: indexed(bytes32)
    fromSize: uint64
    toSize: uint64
    reason: String[MAX_REASON]


# The longest proof of a tree of less than 2**64 entries: one hash a level and the starting one.
MAX_PATH: constant(uint256) = 65
MAX_REASON: constant(uint256) = 256

CLOSED: constant(uint256) = 1 << 160
ADDRESS_MASK: constant(uint256) = 2**160 - 1
EIP712_PREFIX: constant(bytes2) = 0x1901
# RFC 9162 section 2.1.1: what an interior node hashes before its two children.
INTERIOR: constant(bytes1) = 0x01
LOW_255: constant(uint256) = 2**255 - 1
# Half the order of secp256k1: of the two valid s of a signature only the lower one is accepted.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
CHECKPOINT_TYPE: constant(bytes32) = keccak256(
    "Checkpoint(bytes32 logId,uint64 seq,uint64 size,bytes32 root,bytes32 prev,uint64 start,uint64 end)"
)
OPEN_TYPE: constant(bytes32) = keccak256("Open(bytes32 logId,address signer,address owner)")
ROTATE_TYPE: constant(bytes32) = keccak256("Rotate(bytes32 logId,uint64 nonce,address signer)")
CLOSE_TYPE: constant(bytes32) = keccak256("Close(bytes32 logId,uint64 nonce)")
FLAG_TYPE: constant(bytes32) = keccak256(
    "Flag(bytes32 logId,uint64 nonce,uint64 fromSize,uint64 toSize,string reason)"
)
NAME_HASH: constant(bytes32) = keccak256("GatewayLog")
VERSION_HASH: constant(bytes32) = keccak256("1")

DEPLOYED_CHAIN_ID: immutable(uint256)
DEPLOYED_SEPARATOR: immutable(bytes32)

logs: HashMap[bytes32, Log]
# @notice The block in which a commitment was reserved; zero when it never was, or was used.
reservations: public(HashMap[bytes32, uint256])


@deploy
def __init__():
    DEPLOYED_CHAIN_ID = chain.id
    DEPLOYED_SEPARATOR = self._separator()


@external
def reserve(commitment: bytes32):
    """
    @notice First step of opening a log: claims it without naming it, so that nobody who watches the
            transaction pool can take the log in front of its gateway.
    @dev Reserving again changes nothing. Anyone may send this.
    @param commitment keccak256(abi.encode(logId, signer, owner, salt)); see `open`.
    """
    if self.reservations[commitment] == 0:
        self.reservations[commitment] = block.number
        log Reserved(commitment=commitment)


@external
def open(logId: bytes32, signer: address, owner: address, salt: bytes32, r: bytes32, vs: bytes32):
    """
    @notice Second step: opens a log that was reserved in an earlier block. Who comes first keeps the id for
            ever, since two heads for one log would let a gateway tell two stories.
    @dev Anyone may send this; signer and owner are fixed by the commitment.
         WARNING: a log id is not secret. Someone who read entry 0 of a log before it was opened can open it
         first and so keep its gateway from anchoring that log (he cannot post a checkpoint that carries
         the gateway's signed note, so he forges nothing). Open a log before publishing it, and keep the salt
         secret until `open`. Once `open` is seen in the pool, a thief needs two blocks: send it with a fee
         that is mined soon.
         WARNING: the owner may replace the signer at any time without its consent. Give the zero address to
         have no owner: then a lost signer key can never be replaced.
    @param logId RFC 9162 leaf hash of the log's entry 0.
    @param signer Address whose EIP-712 signature every checkpoint must carry.
    @param owner Address that may rotate, close and flag by a plain transaction, or zero for none.
    @param salt The secret in the commitment; 32 random bytes.
    @param r First half of the signer's signature of Open(logId, signer, owner).
    @param vs ERC-2098 second half.
    """
    commitment: bytes32 = keccak256(abi_encode(logId, signer, owner, salt))
    reserved: uint256 = self.reservations[commitment]
    assert reserved != 0, "not reserved"
    assert reserved < block.number, "reserved in this block"
    assert self.logs[logId].state == 0, "log exists"
    assert signer != empty(address), "signer is zero"
    self._check(keccak256(abi_encode(OPEN_TYPE, logId, signer, owner)), signer, r, vs)
    self.reservations[commitment] = 0
    self.logs[logId].state = convert(signer, uint256)
    self.logs[logId].admin = convert(owner, uint256)
    log Opened(logId=logId, signer=signer, owner=owner)


@external
def post(head: Checkpoint, next: Next, path: DynArray[bytes32, MAX_PATH], r: bytes32, vs: bytes32):
    """
    @notice Moves the head of a log forward by one checkpoint.
    @dev Anyone may relay it: the signature, not the sender, decides. What is signed is
         Checkpoint(head.logId, head.seq + 1, next.size, next.root, struct hash of head, next.start, next.end),
         with seq 1 and a zero prev when the log has no checkpoint yet. A checkpoint must cover at least one
         new entry; there is no heartbeat of equal size, because `start` and `end` would describe nothing.
         WARNING: a signed checkpoint can be relayed by whoever sees it. Sign only what may be public.
         WARNING: the first checkpoint has nothing to be consistent with; whatever tree it names is the
         tree that all later ones must extend.
    @param head The newest checkpoint, exactly as posted; for the first post, the log id and zeros.
    @param next What the new checkpoint adds.
    @param path RFC 9162 section 2.1.4 consistency proof from head.size to next.size; empty for the first.
    @param r First half of the signature.
    @param vs ERC-2098 second half.
    """
    state: uint256 = self.logs[head.logId].state
    assert state != 0, "unknown log"
    assert state & CLOSED == 0, "log is closed"
    assert next.size > head.size, "log did not grow"

    stored: bytes32 = self.logs[head.logId].head
    if stored == empty(bytes32):
        assert head.seq == 0 and head.size == 0, "not the head"
        assert len(path) == 0, "not consistent"
    else:
        assert stored == keccak256(abi_encode(CHECKPOINT_TYPE, head)), "not the head"
    seq: uint64 = head.seq + 1
    hashed: bytes32 = keccak256(
        abi_encode(CHECKPOINT_TYPE, head.logId, seq, next.size, next.root, stored, next.start, next.end)
    )
    self._check(hashed, convert(convert(state & ADDRESS_MASK, uint160), address), r, vs)

    if stored != empty(bytes32):
        # RFC 9162 section 2.1.4.2; fn, sn, fr and sr are its names. "Shift right until" is a division by the
        # lowest set bit.
        old: uint256 = convert(head.size, uint256)
        step: uint256 = old & unsafe_sub(0, old)
        fn: uint256 = unsafe_div(unsafe_sub(old, 1), step)
        sn: uint256 = unsafe_div(unsafe_sub(convert(next.size, uint256), 1), step)
        fr: bytes32 = head.root
        sr: bytes32 = head.root
        seeded: bool = step == old
        for c: bytes32 in path:
            if seeded:
                assert sn != 0, "not consistent"
                if fn & 1 == 0 and fn != sn:
                    sr = sha256(concat(INTERIOR, sr, c))
                else:
                    fr = sha256(concat(INTERIOR, c, fr))
                    sr = sha256(concat(INTERIOR, c, sr))
                    if fn & 1 == 0:
                        step = fn & unsafe_sub(0, fn)
                        fn = unsafe_div(fn, step)
                        sn = unsafe_div(sn, step)
                fn >>= 1
                sn >>= 1
            else:
                seeded = True
                fr = c
                sr = c
        assert sn == 0 and fr == head.root and sr == next.root, "not consistent"

    self.logs[head.logId].head = hashed
    log Posted(
        logId=head.logId,
        seq=seq,
        size=next.size,
        root=next.root,
        prev=stored,
        start=next.start,
        end=next.end,
    )


@external
def rotate(logId: bytes32, signer: address, proofR: bytes32, proofVs: bytes32, r: bytes32, vs: bytes32):
    """
    @notice Hands a log to a new signer.
    @dev Either sent by the owner (then r and vs are not looked at), or by anyone with the present signer's
         signature. The new signer signs the same Rotate struct, which proves that somebody holds its key.
         WARNING: checkpoints signed by the old key that are not yet on the chain become void.
         WARNING: a closed log cannot be rotated.
    @param logId The log.
    @param signer The new signer.
    @param proofR First half of the new signer's signature of Rotate(logId, nonce, signer).
    @param proofVs ERC-2098 second half.
    @param r First half of the present signer's signature of the same struct.
    @param vs ERC-2098 second half.
    """
    state: uint256 = self._live(logId)
    assert signer != empty(address), "signer is zero"
    replaced: address = convert(convert(state & ADDRESS_MASK, uint160), address)
    hashed: bytes32 = keccak256(abi_encode(ROTATE_TYPE, logId, self._nonce(logId), signer))
    self._check(hashed, signer, proofR, proofVs)
    self._authorise(logId, replaced, hashed, r, vs)
    self.logs[logId].state = (state & ~ADDRESS_MASK) | convert(signer, uint256)
    log Rotated(logId=logId, signer=signer, replaced=replaced)


@external
def close(logId: bytes32, r: bytes32, vs: bytes32):
    """
    @notice Ends a log: no checkpoint is accepted after this, and what was posted stays.
    @dev By the owner's transaction, or the signer's signature of Close(logId, nonce).
         WARNING: there is no way to open it again. A signed Close stays good until the nonce moves, so never
         hand one out before it is meant.
    @param logId The log.
    @param r First half of the signer's signature; not looked at when the owner sends.
    @param vs ERC-2098 second half.
    """
    state: uint256 = self._live(logId)
    hashed: bytes32 = keccak256(abi_encode(CLOSE_TYPE, logId, self._nonce(logId)))
    self._authorise(logId, convert(convert(state & ADDRESS_MASK, uint160), address), hashed, r, vs)
    self.logs[logId].state = state | CLOSED
    log Closed(logId=logId, head=self.logs[logId].head)


@external
def flag(
    logId: bytes32,
    fromSize: uint64,
    toSize: uint64,
    reason: String[MAX_REASON],
    r: bytes32,
    vs: bytes32,
):
    """
    @notice Says that the entries with fromSize <= index < toSize should not be relied on. Deletes nothing:
            the entries stay provable, and so does the flag. The range may reach beyond the newest
            checkpoint, up to 2**64 - 1 for "from here on".
    @dev By the owner's transaction, or the signer's signature of Flag(logId, nonce, fromSize, toSize, reason).
         Works on a closed log too. WARNING: a flag cannot be taken back.
    @param logId The log.
    @param fromSize Index of the first flagged entry.
    @param toSize Index after the last flagged entry.
    @param reason Why, for people; at most 256 bytes of UTF-8.
    @param r First half of the signer's signature; not looked at when the owner sends.
    @param vs ERC-2098 second half.
    """
    state: uint256 = self.logs[logId].state
    assert state != 0, "unknown log"
    assert fromSize < toSize, "empty range"
    hashed: bytes32 = keccak256(
        abi_encode(FLAG_TYPE, logId, self._nonce(logId), fromSize, toSize, keccak256(reason))
    )
    self._authorise(logId, convert(convert(state & ADDRESS_MASK, uint160), address), hashed, r, vs)
    log Flagged(logId=logId, fromSize=fromSize, toSize=toSize, reason=reason)


@external
@view
def head(logId: bytes32) -> Head:
    """
    @notice The struct hash of a log's newest checkpoint, and who may move it on.
    @dev A log that was never opened has a zero signer. The checkpoint itself is in the newest Posted event of
         the log; a contract that needs it takes it as an argument and compares its struct hash. `hash` is
         also the `prev` that the next checkpoint must carry.
    @param logId The log.
    """
    state: uint256 = self.logs[logId].state
    admin: uint256 = self.logs[logId].admin
    return Head(
        hash=self.logs[logId].head,
        signer=convert(convert(state & ADDRESS_MASK, uint160), address),
        owner=convert(convert(admin & ADDRESS_MASK, uint160), address),
        nonce=convert(admin >> 160, uint64),
        closed=state & CLOSED != 0,
    )


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    """
    @notice EIP-712 domain separator of this contract on this chain.
    """
    return self._domain()


@internal
@view
def _live(logId: bytes32) -> uint256:
    state: uint256 = self.logs[logId].state
    assert state != 0, "unknown log"
    assert state & CLOSED == 0, "log is closed"
    return state


@internal
@view
def _nonce(logId: bytes32) -> uint256:
    return self.logs[logId].admin >> 160


@internal
def _authorise(logId: bytes32, signer: address, hashed: bytes32, r: bytes32, vs: bytes32):
    # The nonce moves whoever acted, so a signature prepared before an act of the owner is void after it.
    admin: uint256 = self.logs[logId].admin
    if convert(msg.sender, uint256) != admin & ADDRESS_MASK:
        self._check(hashed, signer, r, vs)
    self.logs[logId].admin = admin + (1 << 160)


@internal
@view
def _separator() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPE, NAME_HASH, VERSION_HASH, chain.id, self))


@internal
@view
def _domain() -> bytes32:
    # After a chain split the id changes and signatures of one side must not count on the other.
    if chain.id == DEPLOYED_CHAIN_ID:
        return DEPLOYED_SEPARATOR
    return self._separator()


@internal
@view
def _check(hashed: bytes32, signer: address, r: bytes32, vs: bytes32):
    s: uint256 = convert(vs, uint256) & LOW_255
    assert s <= HALF_ORDER, "signature has high s"
    digest: bytes32 = keccak256(concat(EIP712_PREFIX, self._domain(), hashed))
    recovered: address = ecrecover(
        digest, 27 + (convert(vs, uint256) >> 255), convert(r, uint256), s
    )
    # ecrecover answers zero for a signature that belongs to no key.
    assert recovered != empty(address) and recovered == signer, "wrong signature"
