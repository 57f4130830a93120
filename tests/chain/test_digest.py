"""The pure hashes and signatures: against eth_account, against the contract, and light to import."""

import contextlib
import subprocess
import sys

import coincurve
import eth_keys
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from sensorhub.chain import digest
from sensorhub.chain.digest import ChainCheckpoint, SignatureError

hashes = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20)
uint64 = st.integers(0, 2**64 - 1)
checkpoints = st.builds(ChainCheckpoint, hashes, uint64, uint64, hashes, hashes, uint64, uint64)
keys = st.integers(1, digest.ORDER - 1).map(lambda number: coincurve.PrivateKey(number.to_bytes(32, "big")))

TYPES = {
    "Checkpoint": [
        "bytes32 logId",
        "uint64 seq",
        "uint64 size",
        "bytes32 root",
        "bytes32 prev",
        "uint64 start",
        "uint64 end",
    ],
    "Open": ["bytes32 logId", "address signer", "address owner"],
    "Rotate": ["bytes32 logId", "uint64 nonce", "address signer"],
    "Close": ["bytes32 logId", "uint64 nonce"],
    "Flag": ["bytes32 logId", "uint64 nonce", "uint64 fromSize", "uint64 toSize", "string reason"],
}


def message(kind, values, chain_id, contract):
    """The struct as eth_account understands it."""
    fields = [dict(zip(("type", "name"), field.split(), strict=True)) for field in TYPES[kind]]
    domain = {
        "name": "GatewayLog",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": "0x" + contract.hex(),
    }
    named = {field["name"]: value for field, value in zip(fields, values, strict=True)}
    named = {name: "0x" + value.hex() if isinstance(value, bytes) else value for name, value in named.items()}
    return encode_typed_data(domain_data=domain, message_types={kind: fields}, message_data=named)


def values_of(one):
    return (one.log_id, one.seq, one.size, one.root, one.prev, one.start, one.end)


@given(checkpoints, st.integers(1, 2**63), addresses, keys)
def test_a_checkpoint_is_signed_as_eth_account_signs_it(checkpoint, chain_id, contract, key):
    typed = message("Checkpoint", values_of(checkpoint), chain_id, contract)
    hashed = digest.digest(checkpoint, chain_id, contract)
    assert typed.body == checkpoint.struct_hash()
    assert typed.header == digest.domain_separator(chain_id, contract)
    signature = digest.sign(hashed, key)
    assert signature == bytes(Account.sign_message(typed, key.secret).signature)
    assert digest.recover(hashed, signature) == digest.address(key.public_key)
    assert (
        Account.recover_message(typed, signature=signature)[2:].lower()
        == digest.address(key.public_key).hex()
    )


@given(hashes, uint64, uint64, uint64, addresses, addresses, st.text(max_size=80))
def test_the_other_structs_hash_as_in_eth_account(log_id, nonce, start, stop, signer, owner, reason):
    domain = (1, bytes(20))
    assert message("Open", (log_id, signer, owner), *domain).body == digest.open_hash(log_id, signer, owner)
    assert message("Rotate", (log_id, nonce, signer), *domain).body == digest.rotate_hash(
        log_id, nonce, signer
    )
    assert message("Close", (log_id, nonce), *domain).body == digest.close_hash(log_id, nonce)
    flagged = message("Flag", (log_id, nonce, start, stop, reason), *domain).body
    assert flagged == digest.flag_hash(log_id, nonce, start, stop, reason)


def test_the_contract_uses_the_same_domain(chain):
    separator = chain.contract._contract.functions.DOMAIN_SEPARATOR().call()
    assert separator == digest.domain_separator(chain.chain_id, chain.contract.address)


@given(hashes, keys)
def test_the_short_form_of_a_signature_says_the_same(hashed, key):
    signature = digest.sign(hashed, key)
    assert digest.expand(*digest.compact(signature)) == signature


@given(hashes, keys, st.integers(0, 64), st.integers(1, 255))
def test_a_changed_signature_never_names_the_same_key(hashed, key, place, change):
    signature = bytearray(digest.sign(hashed, key))
    signature[place] ^= change
    with contextlib.suppress(SignatureError):
        assert digest.recover(hashed, bytes(signature)) != digest.address(key.public_key)


@pytest.mark.parametrize("length", [0, 64, 66])
def test_a_signature_has_65_bytes(length):
    with pytest.raises(SignatureError):
        digest.recover(bytes(32), bytes(length))


@pytest.mark.parametrize("changes", [{"log_id": b"short"}, {"root": bytes(33)}, {"seq": -1}, {"size": 2**64}])
def test_a_checkpoint_refuses_what_the_contract_cannot_hold(changes):
    fields = dict.fromkeys(("log_id", "root", "prev"), bytes(32)) | dict.fromkeys(
        ("seq", "size", "start", "end"), 0
    )
    with pytest.raises(ValueError, match="checkpoint"):
        ChainCheckpoint(**(fields | changes))


def test_eth_account_signs_with_the_native_library():
    """Without coincurve it falls back to Python silently, some twenty times slower."""
    assert type(eth_keys.keys.backend).__name__ == "CoinCurveECCBackend"
    assert type(Account._keys.backend).__name__ == "CoinCurveECCBackend"


def test_importing_it_loads_no_chain_client():
    """The verifier imports this module and must stay small."""
    heavy = ("web3", "eth_account", "eth_keys", "eth_tester", "aiohttp", "sqlite3", "numpy")
    code = f"import sys, sensorhub.chain.digest; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
