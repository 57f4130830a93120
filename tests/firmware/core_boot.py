"""The boot record: what starts, trials, and that a power cut at any change leaves one of two whole states."""

import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

import machine
import nodeboot
from nodeboot import NONE, PARTITION, SAFE_AFTER, TRIES, Life


class PowerCut(Exception):
    pass


class Nvs:
    """NVS whose power goes before its n-th change."""

    def __init__(self):
        self.values = {}
        self.power = None
        self.changes = 0

    def get_blob(self, key, length):
        value = self.values.get(key)
        return value if value and len(value) == length else None

    def set_blob(self, key, value):
        if self.power is not None:
            if not self.power:
                raise PowerCut
            self.power -= 1
        self.changes += 1
        self.values[key] = value

    def commit(self):
        pass


def boot(nvs, powered=False):
    life = Life(nvs)
    life.start(powered)
    return life


def test_a_new_node_starts_the_first_slot():
    life = boot(Nvs())
    assert (life.active, life.trial, life.failures, life.safe) == (0, NONE, 1, False)


def test_an_update_starts_on_trial_and_is_confirmed_by_a_receipt():
    nvs = Nvs()
    boot(nvs).begin_update(1, 1, 7, 5)
    life = boot(nvs)
    assert (life.active, life.slot, life.minimum) == (1, 0, 0)
    assert not life.well(False)  # to run for long is not enough
    assert life.on_trial
    assert life.well(True)
    life = boot(nvs)
    assert (life.active, life.slot, life.minimum, life.failures) == (1, 1, 5, 1)
    assert not life.takes_update(1)
    assert life.takes_update(2)


def test_without_a_receipt_the_former_application_comes_back():
    nvs = Nvs()
    boot(nvs).begin_update(1, 1, 7, 5)
    for _ in range(TRIES):
        assert boot(nvs, True).active == 1
    life = boot(nvs)
    assert (life.active, life.trial, life.minimum) == (0, NONE, 0)
    assert life.takes_update(1)  # perhaps the gateway was away: the same may come again


def test_an_image_in_a_partition_is_the_bootloaders_to_choose():
    nvs = Nvs()
    life = boot(nvs)
    life.begin_update(1, PARTITION, 7, 5)
    life = boot(nvs)
    assert (life.active, life.on_trial) == (0, True)
    life.well(True)
    assert (life.slot, life.trial, life.minimum) == (0, NONE, 5)


def test_the_minimum_never_sinks():
    nvs = Nvs()
    for sequence, minimum in ((1, 9), (2, 3)):
        life = boot(nvs)
        life.begin_update(sequence, 1 - life.active, 20, minimum)
        boot(nvs).well(True)
    assert Life(nvs).minimum == 9


def test_safe_mode_comes_after_failed_starts_and_ends_with_a_good_one():
    nvs = Nvs()
    for _ in range(SAFE_AFTER):
        assert not boot(nvs).safe
    life = boot(nvs)
    assert life.safe
    life.leave_safe_mode()
    life = boot(nvs)
    assert not life.safe  # one normal start
    assert boot(nvs).safe
    life = boot(nvs)
    life.well(False)
    assert not boot(nvs).safe
    for _ in range(300):
        life = boot(nvs)
    assert life.safe


def test_power_that_comes_and_goes_is_no_failure():
    nvs = Nvs()
    for _ in range(50):
        assert not boot(nvs, True).safe
    assert nvs.changes == 0


def test_a_running_node_writes_nothing_again_and_again():
    nvs = Nvs()
    life = boot(nvs)
    life.well(True)
    changes = nvs.changes
    for _ in range(5):
        life.well(True)
        life.well(False)
    assert nvs.changes == changes


def test_a_record_of_another_format_is_not_read():
    nvs = Nvs()
    life = boot(nvs)
    life.begin_update(4, 1, 7, 5)
    good = nvs.values["life"]
    for bad in (b"\x02" + good[1:], good[:-1], b""):
        nvs.values["life"] = bad
        assert boot(nvs).active == 0


def test_power_cut_at_every_change_leaves_a_whole_state():
    def live(nvs):
        """Everything a node may live through; yields what may start after each step."""
        boot(nvs)
        yield {0}
        life = Life(nvs)
        yield {0, 1}
        life.begin_update(1, 1, 7, 5)
        yield {1}
        life = boot(nvs)
        life.well(True)
        yield {1}
        life.begin_config(3)
        boot(nvs).well(True)
        yield {0, 1}
        life = boot(nvs)
        life.begin_update(2, 0, 8, 6)
        yield {0, 1}
        for _ in range(TRIES + 1):
            boot(nvs)
        yield {1}

    cut = 0
    while True:
        nvs = Nvs()
        nvs.power = cut
        allowed = {0}
        try:
            for step in live(nvs):
                allowed = step
        except PowerCut:
            pass
        left = nvs.power
        nvs.power = None
        life = Life(nvs)
        assert life.active in allowed, (cut, life.active, allowed)
        assert life.config in (0, 3)
        for _ in range(2 * TRIES):
            life = boot(nvs)
        assert not life.on_trial
        if left:
            break
        cut += 1
    assert cut >= 12


def test_a_node_whose_software_was_renewed_by_cable_counts_its_starts_anew():
    root = os.getcwd() + "/renewed"
    os.mkdir(root)
    nvs = Nvs()
    life = boot(nvs)
    life.config_seen = 3
    for _ in range(SAFE_AFTER + 1):
        life.start()
    assert Life(nvs).safe
    with open(root + "/" + nodeboot.RENEWED, "w"):
        pass
    machine.reset_cause = lambda: machine.SOFT_RESET
    life = nodeboot.start(root, nvs)
    assert (life.failures, life.safe) == (1, False)
    assert life.config_seen == 3  # all else is as it was
    assert nodeboot.RENEWED not in os.listdir(root)
    for _ in range(SAFE_AFTER):
        life = nodeboot.start(root, nvs)
    assert life.safe
    os.mkdir(root + "/" + nodeboot.RENEWED)  # what cannot be removed would let every start be the first
    assert nodeboot.start(root, nvs).safe


def test_a_power_cut_while_the_count_begins_anew_costs_nothing_else():
    for cut in (0, 1):
        root = f"{os.getcwd()}/renewed-{cut}"
        os.mkdir(root)
        nvs = Nvs()
        life = boot(nvs)
        life.slot = 1
        life.failures = SAFE_AFTER + 1
        life.save()
        with open(root + "/" + nodeboot.RENEWED, "w"):
            pass
        machine.reset_cause = lambda: machine.SOFT_RESET
        nvs.power = cut
        try:
            nodeboot.start(root, nvs)
        except PowerCut:
            assert cut == 0
        nvs.power = None
        life = Life(nvs)
        assert life.slot == 1
        assert life.failures == (1 if cut else SAFE_AFTER + 1)  # at worst it goes on as before


def test_the_slot_goes_on_the_import_path_and_a_node_without_slots_starts_too():
    root = os.getcwd() + "/flash"
    os.mkdir(root)
    nvs = Nvs()
    before = list(sys.path)
    nodeboot.start(root, nvs)
    assert sys.path == before
    for slot in nodeboot.SLOTS:
        os.mkdir(root + "/" + slot)
        os.mkdir(root + "/" + slot + "/sensornode")
    nodeboot.start(root, nvs)
    assert sys.path[0] == root + "/app_a"
    Life(nvs).begin_update(1, 1, 7, 5)
    nodeboot.start(root, nvs)
    assert sys.path[0] == root + "/app_b"
    sys.path[:] = before
