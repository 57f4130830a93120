"""What a gateway signs for the chain: the EIP-712 hashes of contract `GatewayLog`, signed and recovered.

Pure functions over bytes. Nothing here talks to a chain, so the verifier may import it; keccak-256 comes from
eth-hash and secp256k1 from coincurve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import coincurve
from eth_hash.auto import keccak

from sensorhub.errors import SensorhubError

CHECKPOINT_TYPE: Final = (
    b"Checkpoint(bytes32 logId,uint64 seq,uint64 size,bytes32 root,bytes32 prev,uint64 start,uint64 end)"
)
DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
OPEN_TYPE: Final = b"Open(bytes32 logId,address signer,address owner)"
ROTATE_TYPE: Final = b"Rotate(bytes32 logId,uint64 nonce,address signer)"
CLOSE_TYPE: Final = b"Close(bytes32 logId,uint64 nonce)"
FLAG_TYPE: Final = b"Flag(bytes32 logId,uint64 nonce,uint64 fromSize,uint64 toSize,string reason)"
DOMAIN_NAME: Final = b"GatewayLog"
DOMAIN_VERSION: Final = b"1"

NO_PREV: Final = bytes(32)
"""`prev` of a log's first checkpoint."""
NO_OWNER: Final = bytes(20)
"""The owner address of a log that has none."""

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of secp256k1 (SEC 2, section 2.4.1)."""
HALF_ORDER: Final = ORDER // 2
_UINT64: Final = 1 << 64


class SignatureError(SensorhubError):
    """Raised when 65 bytes are no acceptable signature of a digest."""


@dataclass(frozen=True, slots=True)
class ChainCheckpoint:
    """One checkpoint as the contract knows it.

    Attributes:
        log_id: RFC 9162 leaf hash of the log's entry 0, 32 bytes.
        seq: 1 for the first checkpoint of a log, then one more each time.
        size: entries in the tree.
        root: RFC 9162 tree hash of these entries, 32 bytes.
        prev: `struct_hash()` of the checkpoint before, 32 zero bytes for the first.
        start: Unix milliseconds at which the first newly covered entry was received.
        end: the same of the last newly covered entry.

    Raises:
        ValueError: when a hash is not 32 bytes or a number does not fit uint64.
    """

    log_id: bytes
    seq: int
    size: int
    root: bytes
    prev: bytes
    start: int
    end: int

    def __post_init__(self) -> None:
        for name, hashed in (("log_id", self.log_id), ("root", self.root), ("prev", self.prev)):
            if len(hashed) != 32:
                raise ValueError(f"{name} of a checkpoint is 32 bytes, not {len(hashed)}")
        for name, number in (
            ("seq", self.seq),
            ("size", self.size),
            ("start", self.start),
            ("end", self.end),
        ):
            if not 0 <= number < _UINT64:
                raise ValueError(f"{name} of a checkpoint must fit 64 bits, {number} does not")

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct: independent of chain and contract; the `prev` of the next checkpoint."""
        return keccak(
            keccak(CHECKPOINT_TYPE)
            + self.log_id
            + _word(self.seq)
            + _word(self.size)
            + self.root
            + self.prev
            + _word(self.start)
            + _word(self.end)
        )


def domain_separator(chain_id: int, contract: bytes) -> bytes:
    """EIP-712 domain separator of a `GatewayLog` at a 20-byte address."""
    return keccak(
        keccak(DOMAIN_TYPE)
        + keccak(DOMAIN_NAME)
        + keccak(DOMAIN_VERSION)
        + _word(chain_id)
        + _address(contract)
    )


def typed_digest(struct_hash: bytes, chain_id: int, contract: bytes) -> bytes:
    """The 32 bytes that are signed for any struct of this domain (EIP-712, `encode`)."""
    return keccak(b"\x19\x01" + domain_separator(chain_id, contract) + struct_hash)


def digest(checkpoint: ChainCheckpoint, chain_id: int, contract: bytes) -> bytes:
    """The 32 bytes that a gateway signs for a checkpoint."""
    return typed_digest(checkpoint.struct_hash(), chain_id, contract)


def open_hash(log_id: bytes, signer: bytes, owner: bytes = NO_OWNER) -> bytes:
    """Struct hash the signer signs to open a log."""
    return keccak(keccak(OPEN_TYPE) + log_id + _address(signer) + _address(owner))


def rotate_hash(log_id: bytes, nonce: int, signer: bytes) -> bytes:
    """Struct hash that the present and the new signer sign to hand a log over."""
    return keccak(keccak(ROTATE_TYPE) + log_id + _word(nonce) + _address(signer))


def close_hash(log_id: bytes, nonce: int) -> bytes:
    """Struct hash that the signer signs to end a log."""
    return keccak(keccak(CLOSE_TYPE) + log_id + _word(nonce))


def flag_hash(log_id: bytes, nonce: int, start: int, stop: int, reason: str) -> bytes:
    """Struct hash that the signer signs to flag the entries start <= index < stop."""
    return keccak(
        keccak(FLAG_TYPE)
        + log_id
        + _word(nonce)
        + _word(start)
        + _word(stop)
        + keccak(reason.encode("utf-8"))
    )


def commitment(log_id: bytes, signer: bytes, owner: bytes, salt: bytes) -> bytes:
    """What `reserve` takes: keccak256(abi.encode(logId, signer, owner, salt))."""
    return keccak(log_id + _address(signer) + _address(owner) + salt)


def sign(hashed: bytes, key: coincurve.PrivateKey) -> bytes:
    """Signs a 32-byte digest: r‖s‖v, 65 bytes, low s, nonce of RFC 6979, v 27 or 28.

    The same key and digest always give the same bytes.
    """
    signature = key.sign_recoverable(hashed, hasher=None)
    return signature[:64] + bytes([27 + signature[64]])


def compact(signature: bytes) -> tuple[bytes, bytes]:
    """(r, vs) of ERC-2098, the form in which the contract takes a signature of 65 bytes."""
    _check_shape(signature)
    return signature[:32], bytes([signature[32] | (signature[64] - 27) << 7]) + signature[33:64]


def expand(r: bytes, vs: bytes) -> bytes:
    """The 65 bytes r‖s‖v of an ERC-2098 pair."""
    return r + bytes([vs[0] & 0x7F]) + vs[1:] + bytes([27 + (vs[0] >> 7)])


def recover(hashed: bytes, signature: bytes) -> bytes:
    """The 20-byte address whose key signed a digest.

    Accepts exactly what the contract accepts: 0 < r < n, 0 < s <= n/2, v 27 or 28.

    Raises:
        SignatureError: when the bytes are not such a signature.
    """
    _check_shape(signature)
    try:
        public = coincurve.PublicKey.from_signature_and_message(
            signature[:64] + bytes([signature[64] - 27]), hashed, hasher=None
        )
    except Exception as error:  # coincurve raises a bare Exception here
        raise SignatureError("the signature belongs to no key") from error
    return address(public)


def address(key: coincurve.PublicKey) -> bytes:
    """The 20-byte account address of a public key: the end of keccak256(x‖y)."""
    return keccak(key.format(compressed=False)[1:])[12:]


def _check_shape(signature: bytes) -> None:
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise SignatureError("a chain signature is 65 bytes r, s, v with v 27 or 28")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not 0 < r < ORDER or not 0 < s <= HALF_ORDER:
        raise SignatureError("r or s of the signature is out of range (s must be the lower of the two)")


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _address(raw: bytes) -> bytes:
    if len(raw) != 20:
        raise ValueError(f"an address is 20 bytes, not {len(raw)}")
    return raw.rjust(32, b"\0")
