"""RLP and the Merkle Patricia trie of Ethereum, as far as the receipts of one block need them.

Sources: Ethereum Yellow Paper, appendix B (RLP), C (hex-prefix) and D (trie); EIP-2718 and EIP-658 for
receipts. Reading is strict: RLP has one encoding for each value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from eth_hash.auto import keccak

from sensorhub.verify.errors import VerifyError

Item = bytes | list["Item"]
"""What RLP holds: a string, or a list of items."""

MAX_DEPTH: Final = 16
"""Nesting that is read; a receipt nests four deep."""
EMPTY: Final = b"\x80"
"""RLP of the empty string: an absent node."""


def encode(item: Item | Sequence[Item]) -> bytes:
    """RLP of a string or list."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _length(len(item), 0x80) + item
    body = b"".join(encode(part) for part in item)
    return _length(len(body), 0xC0) + body


def integer(value: int) -> bytes:
    """An integer as RLP wants it: big endian, no leading zero, empty for zero."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode(data: bytes) -> Item:
    """The item that `data` encodes.

    Raises:
        VerifyError: not exactly one item in its one encoding.
    """
    item, end = _decode(data, 0, 0)
    if end != len(data):
        raise VerifyError("RLP", f"{len(data) - end} bytes too many")
    return item


def _length(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes((offset + length,))
    size = integer(length)
    return bytes((offset + 55 + len(size),)) + size


def _decode(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    if depth > MAX_DEPTH:
        raise VerifyError("RLP", f"nested deeper than {MAX_DEPTH} levels")
    if at >= len(data):
        raise VerifyError("RLP", "cut off")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    offset = 0x80 if first < 0xC0 else 0xC0
    start, length = at + 1, first - offset
    if length > 55:
        start = at + 1 + length - 55
        digits = data[at + 1 : start]
        length = int.from_bytes(digits, "big")
        if len(digits) != start - at - 1 or digits[:1] == b"\0" or length < 56:
            raise VerifyError("RLP", f"a length at byte {at} is not in its shortest form")
    end = start + length
    if end > len(data):
        raise VerifyError("RLP", "cut off")
    if offset == 0x80:
        if length == 1 and data[start] < 0x80:
            raise VerifyError("RLP", f"a string at byte {at} is not in its shortest form")
        return data[start:end], end
    items: list[Item] = []
    while start < end:
        item, start = _decode(data, start, depth + 1)
        items.append(item)
    if start != end:
        raise VerifyError("RLP", f"the list at byte {at} ends within an item")
    return items, end


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _hex_prefix(nibbles: Sequence[int], leaf: bool) -> bytes:
    flag = 2 * leaf + len(nibbles) % 2
    padded = [flag, *([] if len(nibbles) % 2 else [0]), *nibbles]
    return bytes(high << 4 | low for high, low in zip(padded[::2], padded[1::2], strict=True))


def build(values: Mapping[bytes, bytes], key: bytes) -> tuple[bytes, list[bytes]]:
    """The root of a trie and the nodes that prove one of its values.

    Args:
        values: what the trie holds.
        key: the value to prove.

    Returns:
        (root hash, nodes from the root downwards; a node of less than 32 bytes is inside of the one above).
    """
    path: list[bytes] = []
    root = _build([(_nibbles(each), value) for each, value in sorted(values.items())], 0, _nibbles(key), path)
    node = encode(root)
    return keccak(node), [node, *reversed(path)]


def _build(
    pairs: Sequence[tuple[tuple[int, ...], bytes]],
    depth: int,
    wanted: tuple[int, ...] | None,
    path: list[bytes],
) -> Item:
    if not pairs:
        return b""
    if len(pairs) == 1:
        key, value = pairs[0]
        return [_hex_prefix(key[depth:], True), value]
    first, last = pairs[0][0], pairs[-1][0]
    shared = depth
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    if shared > depth:
        inside = wanted if wanted is not None and wanted[depth:shared] == first[depth:shared] else None
        return [
            _hex_prefix(first[depth:shared], False),
            _reference(_build(pairs, shared, inside, path), inside, path),
        ]
    branch: list[Item] = []
    for nibble in range(16):
        below = [pair for pair in pairs if len(pair[0]) > depth and pair[0][depth] == nibble]
        inside = wanted if wanted is not None and len(wanted) > depth and wanted[depth] == nibble else None
        branch.append(_reference(_build(below, depth + 1, inside, path), inside, path) if below else b"")
    ends_here = [value for key, value in pairs if len(key) == depth]
    return [*branch, ends_here[0] if ends_here else b""]


def _reference(node: Item, wanted: tuple[int, ...] | None, path: list[bytes]) -> Item:
    data = encode(node)
    if len(data) < 32:
        return node
    if wanted is not None:
        path.append(data)
    return keccak(data)


def prove(root: bytes, key: bytes, nodes: Sequence[bytes]) -> bytes:
    """The value that `nodes` prove to stand under `key` in the trie of that root.

    Raises:
        VerifyError: they prove no such thing, or there are more than needed.
    """
    left = list(nodes)
    reference: Item = root
    nibbles = _nibbles(key)
    while True:
        node = _resolve(reference, left, is_root=len(left) == len(nodes))
        if not isinstance(node, list):
            raise VerifyError("trie", "there is no value under this key")
        if len(node) == 17:
            if not nibbles:
                return _value(node[16], left)
            reference, nibbles = node[nibbles[0]], nibbles[1:]
        elif len(node) == 2 and isinstance(node[0], bytes) and node[0]:
            leaf, steps = _prefix(node[0])
            if nibbles[: len(steps)] != steps:
                raise VerifyError("trie", "there is no value under this key")
            nibbles = nibbles[len(steps) :]
            if leaf:
                if nibbles:
                    raise VerifyError("trie", "there is no value under this key")
                return _value(node[1], left)
            reference = node[1]
        else:
            raise VerifyError("trie", "a node is neither branch, extension nor leaf")


def _resolve(reference: Item, left: list[bytes], *, is_root: bool) -> Item:
    if isinstance(reference, list):
        return reference
    if len(reference) != 32:
        raise VerifyError("trie", "there is no value under this key")
    if not left:
        raise VerifyError("trie", "a node is missing")
    data = left.pop(0)
    if keccak(data) != reference or (len(data) < 32 and not is_root):
        raise VerifyError("trie", "a node is not the one that the node above names")
    return decode(data)


def _prefix(encoded: bytes) -> tuple[bool, tuple[int, ...]]:
    nibbles = _nibbles(encoded)
    flag = nibbles[0]
    if flag > 3 or (flag % 2 == 0 and nibbles[1] != 0):
        raise VerifyError("trie", "a node has a malformed prefix")
    return flag >= 2, nibbles[1:] if flag % 2 else nibbles[2:]


def _value(item: Item, left: Sequence[bytes]) -> bytes:
    if left:
        raise VerifyError("trie", "there are more nodes than needed")
    if not isinstance(item, bytes) or not item:
        raise VerifyError("trie", "there is no value under this key")
    return item
