"""The camera driver: what it reads, that it keeps no picture, and that it comes back from every fault."""

import asyncio
import os
import sys

sys.path.insert(0, os.getenv("PROJECT") + "/firmware/sim")

from hashlib import sha256

from camera import Camera, Street, crowd
from devices.time import Clock
from sensornode import senml
from sensornode.sensors import DriverError, load
from sensornode.sensors._part import SensorError
from sensornode.sensors.camera import _reason

SITE_KEY = bytes.fromhex(  # the generator: any point will do
    "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)


class Services:
    interval = 10
    site_key = None
    signed_sensors = False

    def __init__(self):
        self.clock = Clock()


class Recorder:
    """Remembers the frame that was given out last."""

    last = b""
    capture = Camera.capture

    @staticmethod
    def record(camera):
        frame = Recorder.capture(camera)
        Recorder.last = bytes(frame) if frame is not None else None
        return frame


Camera.capture = lambda self: Recorder.record(self)


def make(street=None, faults=(), services=None, **row):
    services = services or Services()
    Camera.street = street or Street(crowd(3, seed=2))
    Camera.faults = set(faults)
    Camera.live = None
    Camera.exposed = 0
    Camera.clock = services.clock.uptime_ms
    row["driver"] = "camera"
    return load(row, services), services.clock


async def reads(sensor, clock, count):
    for _ in range(count):
        values = await sensor.read()
        await clock.sleep_ms(10_000)
    return values


async def refused(work):
    try:
        await work
    except SensorError as error:
        return str(error)
    raise AssertionError("nothing was raised")


async def test_a_reading():
    sensor, clock = make(zones=[2, 1])
    first = await reads(sensor, clock, 1)
    assert not {"motion", "objects"} & set(first), "there is no background yet"
    values = await reads(sensor, clock, 5)
    assert set(values) == {name for name, _ in sensor.channels}
    names = ["luminance", "contrast", "sharpness", "overexposed", "motion", "objects", "frame_sha256"]
    names += ["motion_1", "motion_2"]
    assert set(values) == set(names)
    assert values["objects"] == 3
    assert 0.001 < values["motion"] < 0.02
    assert abs((values["motion_1"] + values["motion_2"]) / 2 - values["motion"]) < 0.001
    records = [(name, unit, values[name]) for name, unit in sensor.channels]
    assert senml.Pack("").add(records)


async def test_without_zones_there_are_no_channels_for_them():
    sensor, _ = make()
    assert not [name for name, _ in sensor.channels if name.startswith("motion_")]


async def test_the_hash_is_that_of_the_last_frame():
    sensor, _ = make()
    values = await sensor.read()
    assert values["frame_sha256"] == sha256(Recorder.last).digest()
    assert len(Recorder.last) == 160 * 120


async def test_frames_are_fresh():
    """The driver behind the camera keeps a frame from when its buffer was last free."""
    sensor, clock = make(frames=3, gap_ms=150)
    await reads(sensor, clock, 2)
    taken = []
    render = Camera.street.render

    def noted(now, width, height, out):
        taken.append(now)
        render(now, width, height, out)

    Camera.street.render = noted
    begin = clock.uptime_ms()
    await sensor.read()
    used = [now for now in taken if now >= begin]
    assert len(used) >= 3, taken
    assert max(used) >= begin + 300, taken


async def test_no_picture_stays():
    sensor, _ = make()
    await sensor.read()
    assert sensor._frame is None
    assert sensor.take_sealed() is None
    left = bytes(Camera.live._buffer)
    assert left != Recorder.last, "the buffer went back to the driver"


async def test_the_pins_reach_the_camera():
    pins = {"pclk": 22, "vsync": 25, "href": 23, "sda": 26, "scl": 27, "xclk": 0, "powerdown": 32}
    data = [5, 18, 19, 21, 36, 39, 34, 35]
    sensor, _ = make(data=data, mirror=True, size="HQVGA", **pins)
    await sensor.read()
    assert Camera.live.pins == data
    assert Camera.live._settings["hmirror"]
    assert Camera.live.get_pixel_width() == 240
    Camera.faults.add("dead")
    assert "sda 26, scl 27" in await refused(sensor.read())


async def test_every_fault_is_told_and_passes():
    texts = {
        "absent": "no sensor answers",
        "no psram": "PSRAM",
        "no frame": "no frame",
        "short": "9600 bytes for a frame of 160 by 120",
        "dead": "116",
    }
    for fault, text in texts.items():
        sensor, _ = make(faults=[fault])
        for _ in range(2):
            told = await refused(sensor.read())
            assert text in told, (fault, told)
            assert "camera at the board's pins" in told, (fault, told)
        Camera.faults.clear()
        assert "luminance" in await sensor.read(), fault
        Camera.faults.add(fault)
        if fault not in ("absent", "no psram"):
            await refused(sensor.read())
        Camera.faults.clear()
        assert "luminance" in await sensor.read(), fault


async def test_a_frozen_sensor_gives_no_readings():
    sensor, _clock = make()
    await sensor.read()
    Camera.faults.add("frozen")
    for _ in range(2):
        told = await refused(sensor.read())
        assert "same frame" in told, told
    Camera.faults.clear()
    assert "luminance" in await sensor.read()


async def test_black_night_is_not_a_frozen_sensor():
    sensor, clock = make(Street(light=lambda now: 0, noise=0))
    values = await reads(sensor, clock, 3)
    assert values["luminance"] == 0
    assert values["contrast"] == 0


async def test_a_read_that_is_cut_off_leaves_a_camera_that_works():
    sensor, _clock = make()
    await sensor.read()
    task = asyncio.create_task(sensor.read())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    cancelled = False
    try:
        await task
    except asyncio.CancelledError:
        cancelled = True
    assert cancelled
    assert Camera.live is None
    assert "luminance" in await sensor.read()


async def test_other_tasks_run_during_a_read():
    sensor, _ = make()
    turns = [0]

    async def other():
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await sensor.read()
    task.cancel()
    assert turns[0] > 40, turns


async def test_the_test_bars():
    sensor, _ = make()
    await sensor.self_test()
    assert not Camera.live._settings["colorbar"]
    assert "luminance" in await sensor.read()
    keep = Camera.set_colorbar
    Camera.set_colorbar = lambda self, on: None
    try:
        assert "no test bars" in await refused(sensor.self_test())
    finally:
        Camera.set_colorbar = keep
    assert "luminance" in await sensor.read()


def signed(site_key=SITE_KEY):
    services = Services()
    services.site_key = site_key
    services.signed_sensors = True
    return services


async def test_a_picture_leaves_only_sealed_and_when_it_is_due():
    sensor, clock = make(services=signed(), snapshot_s=25)
    taken = []
    for _ in range(7):
        values = await sensor.read()
        sealed = sensor.take_sealed()
        taken.append(sealed is not None)
        if sealed:
            assert sealed[72:104] == values["frame_sha256"] == sha256(Recorder.last).digest()
            assert Recorder.last[:64] not in bytes(sealed)
        assert sensor.take_sealed() is None
        await clock.sleep_ms(9_000)
    assert taken == [True, False, False, True, False, False, True], taken


def test_pictures_take_the_signature_of_the_site():
    unsigned = signed()
    unsigned.signed_sensors = False
    for services in (None, unsigned, signed(None)):
        try:
            make(services=services, snapshot_s=60)
        except DriverError as error:
            assert "site signed" in str(error)
        else:
            raise AssertionError


async def test_a_site_key_that_is_none_is_told():
    sensor, _ = make(services=signed(bytes(64)), snapshot_s=60)
    assert "site key" in await refused(sensor.read())


def test_rows_are_checked():
    wrong = (
        ({"size": "UXGA"}, "size"),
        ({"frames": 1}, "frames"),
        ({"frames": 16, "gap_ms": 2000}, "frames"),
        ({"zones": [4, 3]}, "zones"),
        ({"zones": 4}, "zones"),
        ({"data": [1, 2, 3]}, "data"),
        ({"data": [1, 2, 3, 4, 5, 6, 7, 8]}, "pclk"),
        ({"pixels": True}, "pixels"),
        ({"hertz": 50_000_000}, "hertz"),
    )
    for row, key in wrong:
        try:
            make(**row)
        except DriverError as error:
            assert key in str(error), (row, error)
        else:
            raise AssertionError(row)


def test_errors_say_what_to_do():
    assert "micropython-camera-API" in _reason(ImportError("no module named 'camera'"))
    assert "PSRAM" in _reason(MemoryError("Out of memory"))
    assert "PSRAM" in _reason(OSError(12, "ESP_ERR_NO_MEM"))
    assert "cable" in _reason(OSError("Camera not found"))
    assert "cable" in _reason(OSError(-0x20001, "ESP_ERR_CAMERA_NOT_DETECTED"))
    assert _reason(RuntimeError("Unknown error 0xffff")) == "failed (RuntimeError: Unknown error 0xffff)"
