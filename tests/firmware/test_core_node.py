"""The whole node, as a process of either interpreter, against a real broker and a gateway that sends receipts."""

from __future__ import annotations

import json
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from node_harness import RESET, ROWS, START, Broker, Gateway, Node, until


@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_the_client_against_a_real_broker(
    interpreter: str, device: Any, broker: Broker, tmp_path: Path
) -> None:
    file = Path(__file__).with_name("broker_mqtt.py")
    names = [
        line[10:].split("(")[0]
        for line in file.read_text().splitlines()
        if line.startswith("async def test_")
    ]
    results = device.run(file, names, interpreter, tmp_path, {"BROKER_PORT": str(broker.port)})
    assert names
    for result in results.values():
        assert result.passed, result.output


def test_every_row_arrives_once_in_order_and_the_spool_is_freed(node: Node, gateway: Gateway) -> None:
    node.configure()
    node.start()
    assert node.wait() == 0, node.output
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]
    assert [message.signed.seq for message in gateway.log] == list(range(1, ROWS + 1))
    assert gateway.gaps == gateway.clones == 0
    assert not gateway.refused
    first = gateway.log[1]
    assert first.pack.names == ("temperature", "pressure", "wind_speed")
    assert first.pack.values == (pytest.approx(0.1, rel=1e-6), 1001, 1)
    assert gateway.log[0].pack.names == ("temperature", "pressure")  # the missing value is left out
    assert all(message.signed.tq == 2 for message in gateway.log)
    status = node.status
    assert status["receipt"] == status["seq"] == ROWS
    assert status["missed"] == status["dropped"] == status["sensor_errors"] == 0


def test_announce_tells_what_the_node_is(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"exit_at_end": False}, hardware="test board")
    node.start()
    until(lambda: gateway.announces and gateway.log, "an announce and data")
    node.end(signal.SIGTERM)
    announce = gateway.announces[0]
    assert (announce.kind, announce.hardware, announce.firmware) == ("weather", "test board", "0.1.0")
    assert ("wind_speed", "m/s") in announce.channels
    assert announce.claim == bytes.fromhex("00112233445566778899aabbccddeeff")


def test_status_says_online_then_offline_on_purpose_or_by_will(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"exit_at_end": False})
    for number in (signal.SIGTERM, signal.SIGKILL):
        gateway.status.clear()
        node.start()
        until(lambda: [s["state"] for s in gateway.status][-1:] == ["online"], "online")
        assert node.end(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        until(lambda: gateway.status[-1]["state"] == "offline", "offline")


def test_values_do_not_depend_on_the_speed(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"speed": 100_000})
    node.start()
    assert node.wait() == 0
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]
    assert node.status["missed"] == 0


def test_one_message_carries_a_whole_publish_interval(node: Node, gateway: Gateway) -> None:
    node.configure(publish=6 * 3600)
    node.start()
    assert node.wait() == 0
    assert len(gateway.log) == ROWS // 6
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]


def test_readings_before_the_first_sync_carry_uptime(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"unset": 2 * 3600})
    node.start()
    assert node.wait() == 0
    undated = [message for message in gateway.log if message.signed.tq == 0]
    assert undated
    assert all(message.pack.base_time is None for message in undated)
    synced = next(message for message in gateway.log if message.signed.tq == 2)
    boot = synced.pack.base_time - synced.signed.uptime
    assert [boot + message.signed.uptime for message in undated] == [
        START + 3600 * n for n in range(len(undated))
    ]
    assert gateway.times == [START + 3600 * n for n in range(len(undated), ROWS)]


def test_a_node_that_never_learns_the_time_announces_and_sends_all_the_same(
    node: Node, gateway: Gateway
) -> None:
    node.configure(sim={"unset": 10**9})
    node.start()
    assert node.wait() == 0
    assert [message.signed.seq for message in gateway.log] == list(range(1, ROWS + 1))
    assert all(message.signed.tq == 0 and message.pack.base_time is None for message in gateway.log)
    first = gateway.log[0].signed.uptime
    assert [message.signed.uptime - first for message in gateway.log] == [3600 * n for n in range(ROWS)]
    assert node.status["time_quality"] == 0
    assert node.status["last_error"].startswith("time: ")


def test_nothing_is_lost_while_the_broker_is_away(node: Node, broker: Broker, gateway: Gateway) -> None:
    node.configure(sim={"speed": 72_000})
    node.start()
    until(lambda: len(gateway.log) > 5, "the first messages")
    broker.stop()
    time.sleep(0.5)
    broker.start()
    assert node.wait() == 0
    assert gateway.times == [START + 3600 * n for n in range(ROWS)]
    assert gateway.gaps == gateway.clones == 0
    assert node.status["connects"] > 1


def test_an_hour_at_1_hz_without_a_broker_is_kept_and_sent_later(
    node: Node, broker: Broker, gateway: Gateway
) -> None:
    rows = [f"{START + n},{n % 50}" for n in range(3700)]
    (node.folder / "replay.csv").write_text("\n".join(["time,temperature Cel", *rows]) + "\n")
    node.configure(interval=1, publish=60, sim={"speed": 2000})
    broker.stop()
    node.start()
    until(lambda: node.status.get("time", 0) >= START + 3600, "an hour to pass")
    assert node.status["connects"] == 0
    broker.start()
    assert node.wait() == 0
    assert gateway.times == [START + n for n in range(3700)]
    assert node.status["missed"] == node.status["dropped"] == gateway.gaps == 0
    assert len(gateway.log) < 70


def test_a_spool_that_cannot_be_read_stops_neither_measuring_nor_sending(
    node: Node, broker: Broker, gateway: Gateway
) -> None:
    rows = [f"{START + 3600 * n},{n % 50}" for n in range(1000)]  # more than all starts together sample
    (node.folder / "replay.csv").write_text("\n".join(["time,temperature Cel", *rows]) + "\n")
    node.configure(sim={"speed": 14_400, "exit_at_end": False})
    broker.stop()
    node.start()
    until(lambda: node.status.get("seq", 0) > 4, "some messages in the spool")
    node.end()
    kept = node.status["seq"]
    spool = node.folder / "flash" / "spool"
    spool.rename(spool.with_name("away"))
    spool.touch()
    broker.start()
    node.stay()
    until(lambda: len(gateway.log) > 3, "messages of now")
    assert gateway.status[-1]["spool"] == "memory"
    assert len(node.exits) == 3  # first it tried whether starting again helps
    assert node.process
    node.process.kill()
    seen = len(gateway.log)
    until(lambda: len(gateway.log) > seen + 3, "messages of the next start")
    node.stop()
    assert all(message.signed.seq > kept for message in gateway.log)
    spool.unlink()
    spool.with_name("away").rename(spool)
    newest = max(message.signed.seq for message in gateway.log)
    node.start()
    until(lambda: gateway.log[-1].signed.seq > newest + 3, "messages from flash again")
    assert "spool" not in gateway.status[-1]
    assert gateway.clones == 0
    assert not gateway.refused


def spooled(folder: Path) -> list[int]:
    """Sequence numbers of the records in the files of a spool, in order."""
    found = []
    for file in sorted(folder.glob("*.seg")):
        data = file.read_bytes()
        at = 0
        while at + 14 <= len(data):
            _, length, _, seq = struct.unpack_from(">IHII", data, at)
            at += 14 + length
            if at <= len(data):
                found.append(seq)
    return found


def passed_over(
    node: Node, broker: Broker, gateway: Gateway, rows: int, **more: Any
) -> tuple[Path, list[int]]:
    """Have a node keep 60 messages and more that never were sent, and then send newer ones from a start that cannot read them.

    Returns:
        The directory of the spool, which can be read again, and the numbers in it. The node is switched off.
    """
    lines = [f"{START + 3600 * n},{n % 50}" for n in range(rows)]
    (node.folder / "replay.csv").write_text("\n".join(["time,temperature Cel", *lines]) + "\n")
    sim = {"speed": 50_000, "exit_at_end": False}
    # files of 8 KB: the backlog is several of them
    node.configure(sim=sim, spool={"bytes": 262_144, "segments": 32})
    broker.stop()
    node.start()
    until(lambda: node.status.get("seq", 0) > 60, "several windows of messages in the spool")
    node.end()
    spool = node.folder / "flash" / "spool"
    kept = spooled(spool)
    spool.rename(spool.with_name("away"))
    spool.touch()
    broker.start()
    node.stay()
    until(lambda: len(gateway.log) > 3, "messages of a blind start")
    node.stop()
    assert not set(kept) & set(gateway.arrived)
    assert gateway.settled > kept[-1]  # receipts have passed over them
    spool.unlink()
    spool.with_name("away").rename(spool)
    node.configure(sim=sim, spool={"bytes": 262_144, "segments": 32}, **more)
    return spool, kept


def test_what_receipts_passed_over_during_a_blind_start_is_sent_once_flash_can_be_read(
    node: Node, broker: Broker, gateway: Gateway
) -> None:
    spool, kept = passed_over(node, broker, gateway, 3000)
    blind = gateway.settled
    node.start()
    until(lambda: gateway.settled > blind and spooled(spool)[0] > blind, "all that was passed over")
    until(lambda: gateway.log[-1].signed.seq > blind + 80, "newer messages")
    until(lambda: node.status.get("receipt", 0) > blind + 64, "receipts for them")
    assert node.status["dropped"] == 0
    node.end()
    assert gateway.clones == 0
    assert not gateway.refused
    old = [message.signed.seq for message in gateway.log if message.signed.seq in kept]
    assert old == kept
    assert gateway.arrived.count(kept[-1]) == 1
    gateway.arrived.clear()
    before = len(gateway.announces)
    node.start()
    until(lambda: len(gateway.announces) > before and len(gateway.arrived) > 3, "the next start")
    assert not set(kept) & set(gateway.arrived)


def test_receipts_that_show_nothing_free_nothing_of_what_was_passed_over(
    node: Node, broker: Broker, gateway: Gateway
) -> None:
    spool, kept = passed_over(node, broker, gateway, 3000)
    newest = gateway.settled
    gateway.refuse = set(range(10_000))  # it answers announces, with receipts above all that was passed over
    before = len(gateway.announces)
    node.start()
    until(lambda: len(gateway.announces) > before + 2, "some answers")
    until(lambda: max(gateway.arrived) > newest, "newer messages")
    assert spooled(spool)[: len(kept)] == kept
    node.end()
    assert spooled(spool)[: len(kept)] == kept
    gateway.refuse = set()
    node.start()
    until(lambda: spooled(spool)[0] > newest, "all that was passed over")
    assert set(kept) <= {message.signed.seq for message in gateway.log}


def test_power_cuts_while_what_was_passed_over_is_sent_lose_none_of_it(
    node: Node, broker: Broker, gateway: Gateway
) -> None:
    spool, kept = passed_over(node, broker, gateway, 4000)
    blind = gateway.settled
    chance = random.Random(2)
    for cut in range(40):
        node.start()
        began = len(gateway.announces)
        if cut % 2:
            until(lambda began=began: len(gateway.announces) > began, "a connection")
        time.sleep(chance.uniform(0.0, 0.3))
        node.end()
        left = spooled(spool)
        arrived = set(gateway.arrived)
        # whatever is not on flash any more has arrived
        assert not [seq for seq in kept if seq not in left and seq not in arrived]
        if left[0] > blind:
            break
    node.start()
    until(lambda: spooled(spool)[0] > blind, "all that was passed over")
    assert set(kept) <= {message.signed.seq for message in gateway.log}
    until(lambda: node.status.get("receipt", 0) > blind, "its status")
    assert node.status["dropped"] == 0
    assert gateway.clones == 0
    assert not gateway.refused


def test_a_node_that_sleeps_sends_what_was_passed_over_too(
    node: Node, broker: Broker, gateway: Gateway
) -> None:
    spool, kept = passed_over(node, broker, gateway, 3000, sleep=True)
    blind = gateway.settled
    node.reset_cause = 4  # machine.DEEPSLEEP_RESET
    node.stay()
    until(lambda: gateway.settled > blind and spooled(spool)[0] > blind, "all that was passed over")
    node.stop()
    assert set(kept) <= {message.signed.seq for message in gateway.log}
    assert gateway.clones == 0


@pytest.mark.parametrize("publish", [1, 4])
def test_a_node_that_sleeps_between_its_samples_loses_none(
    publish: int, node: Node, gateway: Gateway
) -> None:
    node.reset_cause = 4  # machine.DEEPSLEEP_RESET
    count = 12
    node.configure(
        sleep=True,
        publish=publish * 3600,
        sim={"speed": 20_000, "rtc": True, "exit_at_end": False, "awake": 30},
    )
    node.stay()
    until(lambda: len(gateway.log) >= count, "twelve samples")
    node.stop()
    assert gateway.times[:count] == [START + 3600 * n for n in range(count)]
    assert gateway.gaps == gateway.clones == 0
    assert "asleep" in {status["state"] for status in gateway.status}
    boots = [message.signed.boot for message in gateway.log[:count]]
    assert boots == sorted(set(boots))  # each sample in a life of its own
    connects = {announce.signed.boot for announce in gateway.announces}
    assert len(connects) <= count // publish + 3
    assert set(node.exits[:-1]) == {RESET}


def test_a_silent_gateway_costs_announces_and_not_the_spool(node: Node, gateway: Gateway) -> None:
    gateway.deaf = True
    node.configure(receipt=5)  # a receipt that a busy machine makes late would have messages sent again
    node.start()
    until(lambda: node.status.get("seq") == ROWS, "the end of the recording")
    assert not node.status["online"]
    assert node.status["receipt"] == 0
    gateway.deaf = False
    assert node.wait() == 0  # announces again
    assert gateway.arrived == list(range(1, ROWS + 1))


def test_unreceipted_messages_are_sent_again(node: Node, gateway: Gateway) -> None:
    node.configure(sim={"speed": 72_000})
    node.start()
    until(lambda: len(gateway.log) > 3, "the first messages")
    gateway.deaf = True
    time.sleep(0.5)
    gateway.deaf = False
    assert node.wait() == 0
    assert sorted(message.signed.seq for message in gateway.log) == list(range(1, ROWS + 1))
    assert gateway.clones == 0


def test_a_message_the_gateway_never_takes_does_not_hold_up_the_others(node: Node, gateway: Gateway) -> None:
    gateway.refuse = {3}
    node.configure()
    node.start()
    assert node.wait() == 0
    assert [message.signed.seq for message in gateway.log] == [1, 2, *range(4, ROWS + 1)]


def test_kill_at_random_moments_reuses_no_number_and_loses_nothing_spooled(
    node: Node, gateway: Gateway
) -> None:
    chance = random.Random(1)
    node.configure(sim={"speed": 72_000})
    for _ in range(8):
        node.start()
        time.sleep(chance.uniform(0.1, 0.5))
        if node.process.poll() is not None:
            break
        node.end()
    node.start()
    assert node.wait() == 0
    assert gateway.clones == gateway.gaps == 0
    assert not gateway.refused
    assert sorted(set(gateway.times)) == [START + 3600 * n for n in range(ROWS)]
    boots = [message.signed.boot for message in gateway.log]
    assert boots == sorted(boots)
    assert len({announce.signed.kid for announce in gateway.announces}) == 1


def test_the_output_holds_no_secret(node: Node, gateway: Gateway) -> None:
    node.configure(broker={"host": "127.0.0.1", "port": node.port, "password": "wrong-secret", "retry": 1})
    node.start()
    until(lambda: "not authorised" in node.status.get("last_error", ""), "the refusal")
    node.end(signal.SIGTERM)
    secret = json.loads((node.folder / "nvs-sensornode.json").read_text())["key"]
    assert secret not in node.output
    assert "wrong-secret" not in node.output
