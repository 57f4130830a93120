"""Key, boot counter and sequence numbers: what power loss at any instruction must not repeat."""

# ruff: noqa: SIM105 - MicroPython has no contextlib and a TimeoutError of its own

from sensornode.state import BLOCK, State


class PowerCut(Exception):
    pass


class Nvs:
    """NVS that loses power before its n-th change. `eager`: as on the chip, where a set is durable before the
    commit; otherwise only a commit makes anything durable, and all of it at once."""

    def __init__(self, eager):
        self.eager = eager
        self.durable = {}
        self.restart(None)

    def restart(self, power):
        self.values = dict(self.durable)
        self.power = power

    def spend(self):
        if self.power is not None:
            if not self.power:
                raise PowerCut
            self.power -= 1

    def get_int(self, key, default):
        return self.values.get(key, default)

    def get_blob(self, key, length):
        return self.values.get(key)

    def put(self, key, value):
        if self.eager:
            self.spend()
            self.durable[key] = value
        self.values[key] = value

    set_int = set_blob = put

    def commit(self):
        self.spend()
        self.durable = dict(self.values)


def live(nvs, used, spool, messages):
    """One boot: number, spool and send messages. `spool` is the newest record, as the spool would tell it."""
    state = State(nvs)
    boot = state.boot
    assert ("boot", boot) not in used
    used.add(("boot", boot))
    state.resume(spool[0], True)
    for _ in range(messages):
        seq = state.take_seq()
        nvs.spend()  # the power may go while the message is signed or written
        spool[0] = (boot, seq, seq.to_bytes(32, "big"))
        assert seq not in used, seq
        used.add(seq)
    return state


def test_no_number_comes_twice_wherever_the_power_goes():
    for eager in (False, True):
        for first in range(3 * BLOCK):
            nvs = Nvs(eager)
            used = set()
            spool = [None]
            for power in (first, 2, 0, 5, BLOCK + 3, 1, None):
                nvs.restart(power)
                try:
                    live(nvs, used, spool, 2 * BLOCK)
                except PowerCut:
                    pass
            seqs = sorted(seq for seq in used if isinstance(seq, int))
            # none is left out while the spool is whole; while it is still empty it proves nothing
            assert seqs == list(range(seqs[0], seqs[-1] + 1))
            assert seqs[0] % BLOCK == 1


def test_numbers_go_on_behind_the_reserved_block_when_the_spool_is_gone_or_torn():
    nvs = Nvs(False)
    state = State(nvs)
    taken = [state.take_seq() for _ in range(BLOCK + 1)]
    assert taken == list(range(1, BLOCK + 2))
    nvs.restart(None)
    lost = State(nvs)
    lost.resume(None, True)
    assert lost.take_seq() == 2 * BLOCK + 1
    assert lost.prev == bytes(32)
    newest = (1, 2 * BLOCK + 1, b"p" * 32)
    nvs.restart(None)
    whole = State(nvs)
    whole.resume(newest, True)
    assert whole.take_seq() == 2 * BLOCK + 2
    nvs.restart(None)
    torn = State(nvs)
    torn.resume(newest, False)
    assert torn.take_seq() == 3 * BLOCK + 2
    assert torn.prev == b"p" * 32


def test_numbers_that_were_sent_while_the_spool_could_not_be_read_are_not_used_again_when_it_can():
    for kept in range(1, BLOCK + 1):  # up to all of a block
        nvs = Nvs(False)
        state = State(nvs)
        for _ in range(kept):
            state.take_seq()
        used = set(range(1, kept + 1))
        for blind in (1, 2, BLOCK, BLOCK + 1):
            nvs.restart(None)
            state = State(nvs)
            state.resume(None, True, True)
            for _ in range(blind):
                seq = state.take_seq()
                assert seq not in used, (kept, blind)
                used.add(seq)
        nvs.restart(None)
        state = State(nvs)
        state.resume((1, kept, bytes(32)), True)
        assert state.take_seq() > max(used)


def test_numbers_never_go_on_below_what_a_blind_start_has_told_the_gateway_wherever_the_power_goes():
    for eager in (False, True):
        for kept in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1):
            for power in range(8):
                nvs = Nvs(eager)
                state = State(nvs)
                for _ in range(kept):
                    state.take_seq()
                nvs.restart(power)
                told = 0
                try:
                    state = State(nvs)
                    state.resume(None, True, True)
                    told = state.floor  # from here on the gateway may be told
                    assert told == state.next > kept
                    state.take_seq()
                except PowerCut:
                    pass
                for _ in range(3):  # flash can be read again; the first message may not be kept at once
                    nvs.restart(None)
                    state = State(nvs)
                    state.resume((1, kept, bytes(32)) if kept else None, True)
                    assert state.floor >= told
                    assert state.next >= told
                    seq = state.next
                    assert seq > kept
                state.take_seq()
                nvs.restart(None)
                state = State(nvs)
                state.resume((5, seq, bytes(32)), True)
                assert state.next == seq + 1


def test_a_blind_start_after_another_writes_only_what_has_changed():
    nvs = Nvs(False)
    State(nvs).take_seq()
    floors = []
    for taken, writes in ((0, True), (0, False), (1, False), (0, True)):
        nvs.restart(None)
        state = State(nvs)
        nvs.power = 2 if writes else 0
        state.resume(None, True, True)
        floors.append(state.floor)
        nvs.power = None
        for _ in range(taken):
            state.take_seq()
    assert floors == [BLOCK + 2, BLOCK + 2, BLOCK + 2, 2 * BLOCK + 3]


def test_a_spool_older_than_the_reservation_is_not_believed():
    nvs = Nvs(False)
    for _ in range(3 * BLOCK):
        State(nvs).take_seq()
        nvs.restart(None)
    state = State(nvs)
    state.resume((1, 5, bytes(32)), True)
    assert state.take_seq() > BLOCK


def test_a_spool_newer_than_the_reservation_is_believed():
    state = State(Nvs(False))
    state.resume((9, 1000, bytes(32)), False)
    assert state.take_seq() == 1001


def test_the_key_is_made_once_and_is_in_range():
    tries = [bytes(32), b"\xff" * 32, bytes(31) + b"\x07", bytes(31) + b"\x08"]
    nvs = Nvs(False)
    first = State(nvs, lambda count: tries.pop(0))
    assert first.secret == bytes(31) + b"\x07"
    assert first.fresh
    nvs.restart(None)
    second = State(nvs, lambda count: tries.pop(0))
    assert second.secret == first.secret
    assert not second.fresh
    assert second.boot == 2


def test_lost_messages_are_counted_over_the_life_of_the_node():
    nvs = Nvs(False)
    State(nvs).count_dropped(3)
    nvs.restart(None)
    State(nvs).count_dropped(4)
    nvs.restart(None)
    assert State(nvs).dropped == 7
