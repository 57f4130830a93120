"""What the contract accepts and what it refuses, on py-evm and on anvil."""

import os
import subprocess
import sys
from dataclasses import replace

import coincurve
import pytest

from sensorhub.chain import digest
from sensorhub.chain.contract import GatewayLogContract
from sensorhub.chain.devchain import DEV_KEY
from sensorhub.chain.digest import ChainCheckpoint
from sensorhub.chain.errors import ChainError, RefusedError
from sensorhub.settings import load

RELAY = coincurve.PrivateKey(DEV_KEY)


def refused(reason):
    return pytest.raises(RefusedError, match=reason)


def wire_code(gateway, call, *arguments):
    """Calls a method of the contract with exactly these arguments; RefusedError when it reverts."""
    contract = gateway.chain.contract
    with contract._asking(call):
        return getattr(contract._contract.functions, call)(*arguments).call()


def test_the_first_checkpoint_takes_any_tree_and_an_empty_path(gateway):
    gateway.post(7)
    head = gateway.chain.contract.head(gateway.log_id)
    assert head.hash == gateway.head.struct_hash()
    assert head.signer == gateway.address
    assert (head.owner, head.nonce, head.closed) == (digest.NO_OWNER, 0, False)


def test_the_first_checkpoint_with_a_path_is_refused(gateway):
    with refused("not consistent"):
        gateway.prepare(gateway.next(7), [bytes(32)])


def test_a_log_grows_and_every_post_leaves_one_event(gateway):
    receipts = [gateway.post(size) for size in (1, 2, 3, 64, 65, 300)]
    events = list(gateway.chain.contract.history(gateway.log_id))
    assert [event.checkpoint.size for event in events] == [300, 65, 64, 3, 2, 1]
    assert [event.tx for event in reversed(events)] == [receipt.tx for receipt in receipts]
    assert events[0].checkpoint == gateway.head
    assert events[0].checkpoint.prev == events[1].checkpoint.struct_hash()
    for receipt in receipts:
        assert len(gateway.chain.web3.eth.get_transaction_receipt(receipt.tx)["logs"]) == 1


def test_a_forged_path_is_refused_at_every_place(gateway):
    gateway.post(91)
    checkpoint = gateway.next(203)
    path = gateway.path(203)
    for place in range(len(path)):
        forged = list(path)
        forged[place] = bytes([forged[place][0] ^ 1]) + forged[place][1:]
        with refused("not consistent"):
            gateway.prepare(checkpoint, forged)
    gateway.prepare(checkpoint, path)


def test_paths_of_another_length_are_refused(gateway):
    gateway.post(91)
    checkpoint, path = gateway.next(203), gateway.path(203)
    wrong = [[], path[:-1], path[1:], [*path, bytes(32)], [*path, path[-1]], [path[0], *path], path[::-1]]
    for candidate in [*wrong, [os.urandom(32)] * 65]:
        with refused("not consistent"):
            gateway.prepare(checkpoint, candidate)


def test_a_power_of_two_needs_no_old_root_in_the_path(gateway):
    """RFC 9162 leaves the old root out there, and a path that repeats it is not canonical."""
    gateway.post(64)
    checkpoint, path = gateway.next(200), gateway.path(200)
    with refused("not consistent"):
        gateway.prepare(checkpoint, [gateway.head.root, *path])
    gateway.prepare(checkpoint, path)


def test_a_path_that_cannot_be_is_refused_by_the_abi(gateway):
    gateway.post(91)
    with pytest.raises(ChainError):
        gateway.prepare(gateway.next(203), [bytes(32)] * 66)


def test_a_log_that_shrank_is_refused(gateway):
    gateway.post(91)
    for size in (90, 1, 0):
        with refused("did not grow"):
            gateway.prepare(gateway.next(size), [])


def test_the_same_size_is_refused_even_with_the_same_root(gateway):
    gateway.post(91)
    with refused("did not grow"):
        gateway.prepare(gateway.next(91), [])


@pytest.mark.parametrize("place", [0, 45, 90])
def test_a_rewritten_old_entry_is_refused_whatever_the_path(gateway, naive_tree, place):
    gateway.post(91)
    leaves = list(gateway.tree.leaves)
    leaves[place] = os.urandom(32)
    rewritten = naive_tree(leaves)
    checkpoint = gateway.next(203, root=rewritten.root(203))
    for path in (rewritten.consistency(91, 203), gateway.path(203)):
        with refused("not consistent"):
            gateway.prepare(checkpoint, path)


def test_a_dropped_entry_is_refused(gateway, naive_tree):
    gateway.post(91)
    shorter = naive_tree(gateway.tree.leaves[:40] + gateway.tree.leaves[41:])
    with refused("not consistent"):
        gateway.prepare(gateway.next(203, root=shorter.root(203)), shorter.consistency(91, 203))


def test_a_replayed_post_is_refused(gateway):
    gateway.post(5)
    first = gateway.head
    gateway.post(9)
    with refused("not the head"):
        gateway.prepare(replace(gateway.next(9), seq=2), gateway.tree.consistency(5, 9), head=first)
    with refused("not the head"):
        gateway.prepare(first, [], head=ChainCheckpoint(gateway.log_id, 0, 0, bytes(32), bytes(32), 0, 0))


def test_the_head_must_be_named_exactly(gateway):
    gateway.post(5)
    gateway.post(9)
    for field in ("seq", "size", "root", "prev", "start", "end"):
        value = getattr(gateway.head, field)
        wrong = value + 1 if isinstance(value, int) else os.urandom(32)
        with refused("not the head"):
            gateway.prepare(gateway.next(20), head=replace(gateway.head, **{field: wrong}))


@pytest.mark.parametrize("changes", [{"seq": 4}, {"seq": 2}, {"prev": bytes(32)}, {"prev": b"\x01" * 32}])
def test_a_signature_for_another_place_in_the_chain_is_refused(gateway, changes):
    gateway.post(5)
    gateway.post(9)
    checkpoint = gateway.next(20)
    with refused("wrong signature"):
        gateway.prepare(checkpoint, signature=gateway.sign(replace(checkpoint, **changes).struct_hash()))


@pytest.mark.parametrize("field", ["log_id", "size", "root", "start", "end"])
def test_a_signature_of_other_fields_is_refused(gateway, field):
    gateway.post(5)
    checkpoint = gateway.next(20)
    value = getattr(checkpoint, field)
    other = replace(checkpoint, **{field: value + 1 if isinstance(value, int) else os.urandom(32)})
    with refused("wrong signature"):
        gateway.prepare(checkpoint, signature=gateway.sign(other.struct_hash()))


def test_another_domain_is_refused(gateway):
    checkpoint = gateway.next(5)
    for domain in ({"chain_id": 1}, {"contract": b"\x01" * 20}):
        with refused("wrong signature"):
            gateway.prepare(checkpoint, signature=gateway.sign(checkpoint.struct_hash(), **domain))


def test_another_key_is_refused(gateway):
    checkpoint = gateway.next(5)
    with refused("wrong signature"):
        gateway.prepare(
            checkpoint, signature=gateway.sign(checkpoint.struct_hash(), key=coincurve.PrivateKey())
        )


def test_signatures_that_belong_to_no_key_are_refused(gateway):
    """ecrecover answers the zero address for these, and no log has that as its signer."""
    checkpoint = gateway.next(5)
    zero_head = (gateway.log_id, 0, 0, bytes(32), bytes(32), 0, 0)
    following = (checkpoint.size, checkpoint.root, checkpoint.start, checkpoint.end)
    order = digest.ORDER.to_bytes(32, "big")
    one = (1).to_bytes(32, "big")
    for r, vs in [
        (bytes(32), bytes(32)),
        (bytes(32), one),
        (one, bytes(32)),
        (order, one),
        (b"\xff" * 32, one),
    ]:
        with refused("wrong signature"):
            wire_code(gateway, "post", zero_head, following, [], r, vs)


def test_the_other_s_of_a_signature_is_refused(gateway):
    """Of s and n - s both verify. The few high s that fit into the 255 bits of ERC-2098 are refused by value."""
    signature = gateway.sign(gateway.next(5).struct_hash())
    high = digest.ORDER - int.from_bytes(signature[32:64], "big")
    malleated = signature[:32] + high.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(digest.SignatureError, match="lower"):
        digest.recover(gateway.next(5).struct_hash(), malleated)
    head, following = (gateway.log_id, 0, 0, bytes(32), bytes(32), 0, 0), (5, bytes(32), 0, 0)
    cases = [
        (digest.HALF_ORDER, "wrong signature"),
        (digest.HALF_ORDER + 1, "high s"),
        (2**255 - 1, "high s"),
    ]
    for s, reason in cases:
        for parity in (0, 1 << 255):
            with refused(reason):
                wire_code(
                    gateway, "post", head, following, [], b"\x01" * 32, (s | parity).to_bytes(32, "big")
                )


def test_anyone_may_relay(gateway):
    """The relay account pays in all these tests; it is neither signer nor owner."""
    receipt = gateway.post(5)
    sender = gateway.chain.web3.eth.get_transaction(receipt.tx)["from"]
    assert bytes.fromhex(sender[2:]) != gateway.address


def test_logs_do_not_mix(gateway, make_gateway):
    other = make_gateway(gateway.tree, key=gateway.key)
    other.open()
    gateway.post(5)
    other.post(9)
    with refused("not the head"):
        gateway.prepare(gateway.next(20), head=replace(other.head, log_id=gateway.log_id))
    checkpoint = gateway.next(20)
    with refused("wrong signature"):
        gateway.prepare(checkpoint, signature=gateway.sign(other.next(20).struct_hash()))


def test_a_log_that_was_never_opened_takes_no_post(make_gateway):
    stranger = make_gateway()
    with refused("unknown log"):
        stranger.prepare(stranger.next(5))
    assert not stranger.chain.contract.head(stranger.log_id).opened


class TestOpening:
    def test_needs_a_reservation(self, make_gateway):
        gateway = make_gateway()
        with refused("not reserved"):
            gateway.prepare_open()

    def test_is_bound_to_signer_owner_and_salt(self, make_gateway):
        gateway, thief = make_gateway(), coincurve.PrivateKey()
        gateway.reserve()
        with refused("not reserved"):
            gateway.prepare_open(salt=b"\x08" * 32)
        with refused("not reserved"):
            gateway.prepare_open(owner=b"\x09" * 20)
        stolen = digest.address(thief.public_key)
        signature = gateway.sign(digest.open_hash(gateway.log_id, stolen, digest.NO_OWNER), key=thief)
        with refused("not reserved"):
            gateway.prepare_open(signer=stolen, signature=signature)
        assert gateway.chain.send(gateway.prepare_open()).succeeded

    def test_needs_the_signers_own_signature(self, make_gateway):
        gateway = make_gateway()
        gateway.reserve()
        hashed = digest.open_hash(gateway.log_id, gateway.address, digest.NO_OWNER)
        with refused("wrong signature"):
            gateway.prepare_open(signature=gateway.sign(hashed, key=coincurve.PrivateKey()))

    def test_happens_once(self, gateway):
        gateway.reserve(salt=b"\x11" * 32)
        with refused("log exists"):
            gateway.prepare_open(salt=b"\x11" * 32)
        thief = coincurve.PrivateKey()
        address = digest.address(thief.public_key)
        gateway.reserve(signer=address)
        signature = gateway.sign(digest.open_hash(gateway.log_id, address, digest.NO_OWNER), key=thief)
        with refused("log exists"):
            gateway.prepare_open(signer=address, signature=signature)

    def test_uses_the_reservation_up(self, gateway):
        with refused("not reserved"):
            gateway.prepare_open()

    def test_reserving_again_does_not_reset_the_block(self, make_gateway):
        gateway = make_gateway()
        first = gateway.reserve()
        gateway.reserve()
        commitment = digest.commitment(gateway.log_id, gateway.address, digest.NO_OWNER, b"\x07" * 32)
        assert wire_code(gateway, "reservations", commitment) == first.block

    def test_is_refused_in_the_block_of_the_reservation(self, chain, make_gateway):
        """So a thief who sees `open` in the pool cannot reserve and open in front of it in one block."""
        gateway = make_gateway()
        contract, nonce, fees = chain.contract, chain.nonce(), chain.fees()
        commitment = digest.commitment(gateway.log_id, gateway.address, digest.NO_OWNER, b"\x07" * 32)
        reserve = contract.prepare_reserve(RELAY, commitment, nonce=nonce, fees=fees)
        # Estimated on a chain where the reservation exists, sent on one where it is still in the pool.
        snapshot = chain.snapshot()
        gateway.reserve()
        opening = contract.prepare_open(
            RELAY,
            gateway.log_id,
            signer=gateway.address,
            owner=digest.NO_OWNER,
            salt=b"\x07" * 32,
            signature=gateway.sign(digest.open_hash(gateway.log_id, gateway.address)),
            nonce=nonce + 1,
            fees=fees,
        )
        chain.revert(snapshot)
        chain.rpc("evm_setAutomine", False)
        try:
            contract.send(reserve.raw)
            contract.send(opening.raw)
            chain.mine()
        finally:
            chain.rpc("evm_setAutomine", True)
        first, second = contract.receipt(reserve.tx), contract.receipt(opening.tx)
        assert first.block == second.block
        assert (first.succeeded, second.succeeded) == (True, False)


def empty_means_none(gateway, struct_hash, key):
    """What the signature argument of an act is: the key's, or nothing when the owner itself sends."""
    return b"" if key is None else gateway.sign(struct_hash, key=key)


def rotate(gateway, new, *, proof=None, by="signer", nonce=0, sender=RELAY):
    """Hands the log to the key `new`."""
    chain, address = gateway.chain, digest.address(new.public_key)
    hashed = digest.rotate_hash(gateway.log_id, nonce, address)
    prepared = chain.contract.prepare_rotate(
        sender,
        gateway.log_id,
        address,
        proof=gateway.sign(hashed, key=proof or new),
        signature=empty_means_none(gateway, hashed, gateway.key if isinstance(by, str) else by),
        nonce=chain.contract.nonce(digest.address(sender.public_key)),
        fees=chain.fees(),
    )
    return chain.send(prepared)


def close(gateway, *, by="signer", nonce=0, sender=RELAY):
    """Ends the log."""
    chain, hashed = gateway.chain, digest.close_hash(gateway.log_id, nonce)
    prepared = chain.contract.prepare_close(
        sender,
        gateway.log_id,
        signature=empty_means_none(gateway, hashed, gateway.key if isinstance(by, str) else by),
        nonce=chain.contract.nonce(digest.address(sender.public_key)),
        fees=chain.fees(),
    )
    return chain.send(prepared)


def flag(gateway, start, stop, reason, *, by="signer", nonce=0, sender=RELAY):
    """Flags entries."""
    chain, hashed = gateway.chain, digest.flag_hash(gateway.log_id, nonce, start, stop, reason)
    prepared = chain.contract.prepare_flag(
        sender,
        gateway.log_id,
        start,
        stop,
        reason,
        signature=empty_means_none(gateway, hashed, gateway.key if isinstance(by, str) else by),
        nonce=chain.contract.nonce(digest.address(sender.public_key)),
        fees=chain.fees(),
    )
    return chain.send(prepared)


def flags(gateway):
    events = gateway.chain.contract._contract.events.Flagged.get_logs(
        from_block=0, argument_filters={"logId": gateway.log_id}
    )
    return [(event["args"]["fromSize"], event["args"]["toSize"], event["args"]["reason"]) for event in events]


class TestRotation:
    def test_hands_the_log_over(self, gateway):
        gateway.post(5)
        new = coincurve.PrivateKey()
        rotate(gateway, new)
        with refused("wrong signature"):
            gateway.prepare(gateway.next(9))
        gateway.key = new
        gateway.post(9)
        head = gateway.chain.contract.head(gateway.log_id)
        assert (head.signer, head.nonce) == (gateway.address, 1)

    def test_needs_both_keys(self, gateway):
        new, other = coincurve.PrivateKey(), coincurve.PrivateKey()
        with refused("wrong signature"):
            rotate(gateway, new, proof=other)
        for by in (other, new, None):
            with refused("wrong signature"):
                rotate(gateway, new, by=by)

    def test_cannot_be_replayed(self, gateway):
        first, new = gateway.key, coincurve.PrivateKey()
        rotate(gateway, new)
        gateway.key = new
        rotate(gateway, first, nonce=1)
        gateway.key = first
        with refused("wrong signature"):
            rotate(gateway, new, nonce=0)
        rotate(gateway, new, nonce=2)

    def test_to_nobody_is_refused(self, gateway):
        with refused("signer is zero"):
            wire_code(gateway, "rotate", gateway.log_id, "0x" + "00" * 20, *[bytes(32)] * 4)

    def test_of_an_unknown_or_closed_log_is_refused(self, make_gateway):
        gateway = make_gateway()
        with refused("unknown log"):
            rotate(gateway, coincurve.PrivateKey())
        gateway.open()
        close(gateway)
        with refused("log is closed"):
            rotate(gateway, coincurve.PrivateKey(), nonce=1)


class TestClosing:
    def test_ends_a_log_for_ever(self, gateway):
        gateway.post(5)
        close(gateway)
        head = gateway.chain.contract.head(gateway.log_id)
        assert head.closed
        assert head.hash == gateway.head.struct_hash()
        with refused("log is closed"):
            gateway.prepare(gateway.next(9))
        with refused("log is closed"):
            close(gateway, nonce=1)

    def test_needs_the_signer(self, gateway):
        for by in (coincurve.PrivateKey(), None):
            with refused("wrong signature"):
                close(gateway, by=by)


class TestFlagging:
    def test_says_so_and_deletes_nothing(self, gateway):
        gateway.post(9)
        before = gateway.chain.contract.head(gateway.log_id)
        flag(gateway, 3, 7, "Sensor im Regen: ungültig")
        flag(gateway, 8, 2**64 - 1, "", nonce=1)
        assert flags(gateway) == [(3, 7, "Sensor im Regen: ungültig"), (8, 2**64 - 1, "")]
        after = gateway.chain.contract.head(gateway.log_id)
        assert (after.hash, after.nonce) == (before.hash, 2)
        gateway.post(20)

    def test_works_on_a_closed_log(self, gateway):
        gateway.post(9)
        close(gateway)
        flag(gateway, 0, 9, "clock was wrong", nonce=1)
        assert flags(gateway) == [(0, 9, "clock was wrong")]

    def test_needs_the_signer_and_cannot_be_replayed(self, gateway):
        gateway.post(9)
        for by in (coincurve.PrivateKey(), None):
            with refused("wrong signature"):
                flag(gateway, 3, 7, "no", by=by)
        flag(gateway, 3, 7, "yes")
        with refused("wrong signature"):
            flag(gateway, 3, 7, "yes", nonce=0)

    def test_of_nothing_is_refused(self, gateway, make_gateway):
        for start, stop in [(3, 3), (4, 3)]:
            with refused("empty range"):
                flag(gateway, start, stop, "")
        with refused("unknown log"):
            flag(make_gateway(), 3, 7, "")


class TestOwner:
    """The owner here is the relay account; signatures are left empty."""

    @pytest.fixture
    def owned(self, make_gateway):
        gateway = make_gateway(owner=digest.address(RELAY.public_key))
        gateway.open()
        gateway.post(5)
        return gateway

    def test_acts_without_the_signer(self, owned):
        new = coincurve.PrivateKey()
        flag(owned, 0, 2, "stolen key", by=None)
        rotate(owned, new, by=None, nonce=1)
        owned.key = new
        owned.post(9)
        close(owned, by=None, nonce=2)
        head = owned.chain.contract.head(owned.log_id)
        assert (head.signer, head.owner, head.closed, head.nonce) == (
            owned.address,
            digest.address(RELAY.public_key),
            True,
            3,
        )

    def test_cannot_post(self, owned):
        with refused("wrong signature"):
            owned.prepare(owned.next(9), signature=owned.sign(owned.next(9).struct_hash(), key=RELAY))

    def test_still_needs_the_new_signers_proof(self, owned):
        with refused("wrong signature"):
            rotate(owned, coincurve.PrivateKey(), proof=RELAY, by=None)

    def test_voids_what_the_signer_signed_before(self, owned):
        chain, contract = owned.chain, owned.chain.contract
        early = owned.sign(digest.close_hash(owned.log_id, 0))
        flag(owned, 0, 1, "", by=None)
        stranger = coincurve.PrivateKey()
        chain.fund(digest.address(stranger.public_key))
        with refused("wrong signature"):
            contract.prepare_close(stranger, owned.log_id, signature=early, nonce=0, fees=chain.fees())


def test_what_deploying_prints_fits_under_the_settings_that_are_there(chain, tmp_path):
    key = tmp_path / "chain.key"
    key.touch(mode=0o600)
    key.write_text(DEV_KEY.hex())
    settings = tmp_path / "sensorhub.toml"
    settings.write_text(
        f'[gateway]\ndata_dir = "{tmp_path}"\n[chain]\nrpc_url = "{chain.url}"\nkey_file = "{key}"\n'
    )
    words = [sys.executable, "-m", "sensorhub", "--config", settings, "chain", "deploy"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "under [chain]" in done.stderr
    settings.write_text(settings.read_text() + done.stdout)
    found = load(settings).chain
    assert found.rpc_url == chain.url
    assert found.chain_id == chain.chain_id
    GatewayLogContract(chain.web3, bytes.fromhex(found.contract[2:])).check()


def test_nobody_deploys_without_money(chain):
    poor = coincurve.PrivateKey()
    account = "0x" + digest.address(poor.public_key).hex()
    with refused(f"account {account} cannot pay for the transaction: .* chain address") as said:
        GatewayLogContract.deploy(chain.web3, poor)
    assert "b'" not in str(said.value)
