"""Signed notes and checkpoints: C2SP signed-note (Ed25519 only) and tlog-checkpoint.

A note is text, an empty line, and signature lines `— <key name> <base64(key id || signature)>`. A checkpoint
is a note whose text is the log's origin, its size and its root in base64, a line each.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sensorhub.errors import SensorhubError
from sensorhub.log.merkle import HASH_SIZE

#: signed-note's byte for Ed25519.
_ED25519: Final = b"\x01"
_PRIVATE: Final = "PRIVATE+KEY+"
_DASH: Final = "\u2014 "
#: More signature lines than any witnessed checkpoint needs; signed-note asks for at least 16.
MAX_SIGNATURES: Final = 64
#: A note is small; what is larger is no note.
MAX_NOTE: Final = 1_000_000


class NoteError(SensorhubError):
    """Raised when a note, a note key or a checkpoint is malformed, or no known key has signed it."""


def key_id(name: str, public_key: bytes) -> bytes:
    """The 4-byte id of an Ed25519 note key: it picks the key, it proves nothing."""
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or ord(character) < 0x20 for character in name):
        raise NoteError(
            f"a note key name has no spaces, control characters or '+' and is not empty: {name!r}"
        )


def _unbase64(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{what} is not base64: {error}") from error
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"{what} is not in the one base64 form of its bytes")
    return data


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """The public half of a note key: a name and 32 bytes of Ed25519."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != 32:
            raise NoteError(f"an Ed25519 public key has 32 bytes, not {len(self.public_key)}")

    @classmethod
    def parse(cls, text: str) -> NoteVerifier:
        """Reads a verifier key `<name>+<key id, 8 hex digits>+<base64(1 || public key)>`.

        Raises:
            NoteError: malformed, not Ed25519, or the id does not belong to the key.
        """
        parts = text.strip().split("+", 2)
        if len(parts) != 3:
            raise NoteError("a verifier key has the form name+id+key")
        name, id_hex, encoded = parts
        key = _unbase64(encoded, "the key of a verifier key")
        if len(key) != 33 or key[:1] != _ED25519:
            raise NoteError("the verifier key is not an Ed25519 key")
        verifier = cls(name, key[1:])
        if verifier.key_id.hex() != id_hex:
            raise NoteError(
                f"the verifier key of {name} says id {id_hex}, its key has {verifier.key_id.hex()}"
            )
        return verifier

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that signature lines carry."""
        return key_id(self.name, self.public_key)

    def __str__(self) -> str:
        encoded = base64.b64encode(_ED25519 + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes) is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class NoteSigner:
    """An Ed25519 note key.

    Args:
        name: key name, for a log its origin.
        seed: 32 secret bytes (RFC 8032, 5.1.5).
    """

    __slots__ = ("_key", "_seed", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != 32:
            raise NoteError(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        self._seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = NoteVerifier(name, self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"NoteSigner({self.verifier})"

    @classmethod
    def generate(cls, name: str) -> NoteSigner:
        """A new random key."""
        return cls(name, os.urandom(32))

    @classmethod
    def load(cls, path: Path | str) -> NoteSigner:
        """Reads a key file as `save` writes it.

        Raises:
            NoteError: no such file, or not a note signing key. The text never shows the key.
        """
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NoteError(f"cannot read the note key {path}: {error}") from error
        if not text.startswith(_PRIVATE):
            raise NoteError(f"{path} is not a note signing key ({_PRIVATE}name+id+key)")
        parts = text[len(_PRIVATE) :].split("+", 2)
        if len(parts) != 3:
            raise NoteError(f"{path} is not a note signing key ({_PRIVATE}name+id+key)")
        name, id_hex, encoded = parts
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise NoteError(f"the key in {path} is not base64") from None
        if len(key) != 33 or key[:1] != _ED25519:
            raise NoteError(f"the key in {path} is not an Ed25519 key")
        signer = cls(name, key[1:])
        if signer.key_id.hex() != id_hex:
            raise NoteError(f"the key in {path} does not belong to its id {id_hex}: the file is damaged")
        return signer

    def save(self, path: Path | str) -> None:
        """Writes the secret key to a new file of mode 0600, durable before this returns.

        Raises:
            NoteError: the file exists (a key is never overwritten) or cannot be written.
        """
        path = Path(path)
        encoded = base64.b64encode(_ED25519 + self._seed).decode()
        text = f"{_PRIVATE}{self.name}+{self.key_id.hex()}+{encoded}\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileExistsError:
            raise NoteError(f"{path} exists; a note key is never overwritten") from None
        except OSError as error:
            raise NoteError(f"cannot write the note key {path}: {error}") from error

    @property
    def name(self) -> str:
        """Key name."""
        return self.verifier.name

    @property
    def public_key(self) -> bytes:
        """Ed25519 public key, 32 bytes."""
        return self.verifier.public_key

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that signature lines carry."""
        return self.verifier.key_id

    @property
    def verifier_key(self) -> str:
        """The public half as signed-note text, `name+id+key`."""
        return str(self.verifier)

    def sign(self, text: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes, over note text."""
        return self._key.sign(text)


def sign_note(text: str, *signers: NoteSigner) -> bytes:
    """The note over `text`, which must end with a newline, with one signature line for each signer.

    Raises:
        NoteError: no signer, or text that a note cannot carry.
    """
    if not signers:
        raise NoteError("a note needs at least one signer")
    data = text.encode()
    if not text.endswith("\n") or any(byte < 0x20 and byte != 0x0A for byte in data):
        raise NoteError("the text of a note ends with a newline and has no other control characters")
    lines = []
    for signer in signers:
        encoded = base64.b64encode(signer.key_id + signer.sign(data)).decode()
        lines.append(f"{_DASH}{signer.name} {encoded}\n")
    return data + b"\n" + "".join(lines).encode()


def open_note(note: bytes, *verifiers: NoteVerifier) -> str:
    """The text of a note that at least one of `verifiers` has signed.

    Signatures of other keys are ignored, as signed-note asks; a bad signature of a known key refuses the
    whole note.

    Raises:
        NoteError: malformed, a known key's signature is wrong, or no known key has signed.
    """
    if len(note) > MAX_NOTE:
        raise NoteError(f"a note has at most {MAX_NOTE} bytes, this has {len(note)}")
    try:
        decoded = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError(f"a note is UTF-8 text: {error}") from error
    if any(byte < 0x20 and byte != 0x0A for byte in note):
        raise NoteError("a note has no control characters but newlines")
    cut = decoded.rfind("\n\n")
    if cut < 0:
        raise NoteError("a note has an empty line between its text and its signatures")
    text, block = decoded[: cut + 1], decoded[cut + 2 :]
    if not block or not block.endswith("\n"):
        raise NoteError("a note ends with signature lines, each closed by a newline")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"a note has at most {MAX_SIGNATURES} signatures, this has {len(lines)}")
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed = text.encode()
    verified = False
    for line in lines:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not encoded:
            raise NoteError(f"not a signature line: {line!r}")
        _check_name(name)
        data = _unbase64(encoded, "a note signature")
        if len(data) < 5:
            raise NoteError("a note signature has a key id of 4 bytes and then the signature")
        verifier = known.get((name, data[:4]))
        if verifier is None:
            continue
        if not verifier.verifies(signed, data[4:]):
            raise NoteError(f"the signature of {name} (key {data[:4].hex()}) on the note is wrong")
        verified = True
    if not verified:
        names = ", ".join(f"{name} (key {id_.hex()})" for name, id_ in known) or "nobody"
        raise NoteError(f"the note is not signed by {names}")
    return text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: `size` entries have the Merkle root `root` (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def format(self) -> str:
        """The text that is signed, three lines.

        Raises:
            NoteError: a field cannot stand in a checkpoint.
        """
        if not self.origin or "\n" in self.origin:
            raise NoteError(f"the origin of a checkpoint is one line, not {self.origin!r}")
        if self.size < 0 or len(self.root) != HASH_SIZE:
            raise NoteError("a checkpoint has a size of at least 0 and a root of 32 bytes")
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Reads the text of a checkpoint; extension lines are allowed and not kept.

        Raises:
            NoteError: malformed.
        """
        if not text.endswith("\n"):
            raise NoteError("a checkpoint ends with a newline")
        lines = text[:-1].split("\n")
        if len(lines) < 3 or not all(lines):
            raise NoteError("a checkpoint has the lines origin, size and root, none of them empty")
        origin, size, root = lines[:3]
        if not (size.isascii() and size.isdigit()) or len(size) > 19 or (size != "0" and size[0] == "0"):
            raise NoteError(
                f"the size of a checkpoint is a decimal number without leading zeros, not {size!r}"
            )
        hash_ = _unbase64(root, "the root of a checkpoint")
        if len(hash_) != HASH_SIZE:
            raise NoteError(f"the root of a checkpoint has 32 bytes, not {len(hash_)}")
        return cls(origin, int(size), hash_)


def open_checkpoint(note: bytes, *verifiers: NoteVerifier, origin: str | None = None) -> Checkpoint:
    """The checkpoint in a note that one of `verifiers` has signed, and of that origin if one is given.

    Raises:
        NoteError: as `open_note`, as `Checkpoint.parse`, or another log's origin.
    """
    checkpoint = Checkpoint.parse(open_note(note, *verifiers))
    if origin is not None and checkpoint.origin != origin:
        raise NoteError(f"the checkpoint is of the log {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint
