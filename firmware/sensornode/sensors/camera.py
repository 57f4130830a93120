"""A camera that keeps its pictures to itself: brightness, contrast, sharpness, motion, moving objects, hash of the frame.

OV2640 and its kind through the module `camera` of the micropython-camera-API firmware images, which need PSRAM. CAMERA.md
tells what the values mean, how wrong they are, and how a picture leaves the node when the site asks for one.

node.json: {"driver": "camera"} on an image made for the board; on a generic one with its pins, as on an AI-Thinker ESP32-CAM:

    {"driver": "camera", "data": [5, 18, 19, 21, 36, 39, 34, 35], "pclk": 22, "vsync": 25, "href": 23, "sda": 26, "scl": 27,
     "xclk": 0, "powerdown": 32}

`reset` is another pin, `hertz` the clock given on xclk (20000000). `size` (QQVGA) is the frame, `frames` (3) how many are looked
at for a reading, `gap_ms` (150) apart; `zones` ([1, 1]) how many columns and rows the picture is divided into, with a channel
motion_1, motion_2 ... for each when there are several; `smallest` (6) the pixels of the grid that an object has at
least; `mirror` and `flip` turn the picture.

`snapshot_s` seals one picture at the start and then one in that many seconds to the site's key. It is refused unless this row came
by configuration that the site signed.
"""

import asyncio
from hashlib import sha256

from micropython import const

from ..vision.scene import Scene
from ._part import Row, SensorError

_SIZES = ("R96X96", "QQVGA", "QCIF", "HQVGA", "R240X240", "QVGA")
_PINS = ("pclk", "vsync", "href", "sda", "scl", "xclk")
_ZONES = const(9)
_FRAME_MS = const(1000)  # a frame takes 40 to 400 ms, depending on size and clock
_POLL_MS = const(10)
_TWO_FRAMES_MS = const(200)  # for images whose camera does not say when it has a frame
_SETTLE = const(5)  # frames until exposure and white balance have found their place
_BURST_MS = const(7000)  # a read may take 10 s
_PIECE = const(4096)


class Sensor:
    def __init__(self, options, services):
        row = Row(options)
        self._clock = services.clock
        self._size = row.choice("size", _SIZES, "QQVGA")
        self._frames = row.whole("frames", 2, 16, 3)
        self._gap = row.whole("gap_ms", 40, 2000, 150)
        if self._frames * (self._gap + 250) > _BURST_MS:
            row.fail("frames", "fewer: all of them take more than %d s" % (_BURST_MS // 1000))
        self._zones = columns, rows = _pair(row, row.take("zones", [1, 1]))
        self._smallest = row.whole("smallest", 1, 1000, 6)
        self._mirror = row.flag("mirror", False)
        self._flip = row.flag("flip", False)
        self._wiring = _wiring(row)
        self._snapshot_ms = 1000 * row.whole("snapshot_s", 10, 31_536_000, 0)
        row.end()
        self._site_key = None
        if self._snapshot_ms:
            self._site_key = getattr(services, "site_key", None)
            if not self._site_key or not getattr(services, "signed_sensors", False):
                raise ValueError(
                    "snapshot_s counts only in a table of sensors that the site signed, with its key in node.json"
                )
        self.channels = (
            ("luminance", "/"),
            ("contrast", "/"),
            ("sharpness", "/"),
            ("overexposed", "/"),
            ("motion", "/"),
            ("objects", "count"),
            ("frame_sha256", ""),
        )
        if columns * rows > 1:
            self.channels += tuple([("motion_%d" % (zone + 1), "/") for zone in range(columns * rows)])
        pins = self._wiring
        self._place = "sda %(sda_pin)d, scl %(scl_pin)d" % pins if "sda_pin" in pins else "the board's pins"
        self._camera = None
        self._scene = None
        self._frame = None  # valid until it is given back
        self._width = self._height = 0
        self._sealed = None
        self._sealed_at = None  # uptime

    async def read(self):
        """{channel: value}. Raises SensorError; the next read begins with a new start of the camera."""
        return await self._guard(self._read)

    async def self_test(self):
        """Look at the sensor's own test bars instead of the world. Raises SensorError when they do not arrive."""
        await self._guard(self._test)

    def take_sealed(self):
        """The picture that was sealed last (vision/seal.py), once; None when there is none."""
        sealed, self._sealed = self._sealed, None
        return sealed

    def close(self):
        """Switch the camera off."""
        camera, self._camera, self._frame = self._camera, None, None
        if camera:
            try:
                camera.deinit()
            except Exception:  # whatever is wrong with it, the next start says so
                pass

    async def _guard(self, work):
        done = False
        try:
            values = await work(self._camera or await self._start())
            done = True
            return values
        except SensorError:
            raise
        except Exception as error:
            raise self._error(_reason(error))
        finally:
            if not done:  # also when the read took too long and was cancelled
                self.close()

    def _error(self, what):
        return SensorError("camera", self._place, what)

    async def _start(self):
        from camera import Camera, FrameSize, GrabMode, PixelFormat  # pyright: ignore  the board image's, not this file

        size = getattr(FrameSize, self._size)
        self._camera = made = Camera(
            pixel_format=PixelFormat.GRAYSCALE,
            frame_size=size,
            fb_count=1,
            grab_mode=GrabMode.WHEN_EMPTY,
            **self._wiring,
        )
        if self._mirror:
            made.set_hmirror(True)
        if self._flip:
            made.set_vflip(True)
        self._width, self._height = made.get_pixel_width(), made.get_pixel_height()
        await self._skip(made, _SETTLE)
        return made

    def _view(self):
        """The scene before the camera: kept over new starts, as long as frames are of the same size."""
        scene = self._scene
        size = self._width, self._height
        if scene is None or scene.size != size:
            scene = self._scene = Scene(*size, *self._zones, smallest=self._smallest)
        return scene

    async def _skip(self, camera, frames):
        for _ in range(frames):
            await self._next(camera)

    async def _next(self, camera):
        """A frame that is exposed from now on: the driver exposes one when it gets its buffer back, and keeps it."""
        self._frame = None
        if camera.capture() is None:  # what it kept; takes the buffer, in case nobody had it
            raise self._error("gives no frame")
        camera.free_buffer()
        if hasattr(camera, "frame_available"):
            waited = 0
            while not camera.frame_available():
                if waited >= _FRAME_MS:
                    raise self._error("gives no frame within %d ms" % _FRAME_MS)
                await self._clock.sleep_ms(_POLL_MS)
                waited += _POLL_MS
        else:
            await self._clock.sleep_ms(_TWO_FRAMES_MS)
        frame = camera.capture()
        if frame is None:
            raise self._error("gives no frame")
        if len(frame) != self._width * self._height:
            text = "gives %d bytes for a frame of %d by %d" % (len(frame), self._width, self._height)
            raise self._error(text)
        self._frame = frame
        return frame

    async def _read(self, camera):
        scene = self._view()
        scene.begin()
        for index in range(self._frames):
            if index:
                await self._clock.sleep_ms(self._gap)
            await _run(scene.look(await self._next(camera)))
        values = await _run(scene.describe())
        if scene.same == self._frames - 1 and values["contrast"]:  # black is black every time
            raise self._error("gives the same frame again and again")
        for index, share in enumerate(values.pop("zones", ())):
            values["motion_%d" % (index + 1)] = share
        values["frame_sha256"] = await _run(_digest(self._frame))
        if self._site_key:
            await self._seal()
        self._frame = None
        camera.free_buffer()
        return values

    async def _seal(self):
        now = self._clock.uptime_ms()
        if self._sealed_at is None or now - self._sealed_at >= self._snapshot_ms:
            from ..vision.seal import seal

            self._sealed = await seal(self._frame, self._width, self._height, self._site_key)
            self._sealed_at = now

    async def _test(self, camera):
        camera.set_colorbar(True)
        try:
            await self._skip(camera, 2)
            frame = await self._next(camera)
            width, middle = self._width, self._width * (self._height // 2)
            one = [frame[at] & 255 for at in range(width)]
            other = [frame[at] & 255 for at in range(middle, middle + width)]
            unlike = sum([abs(a - b) for a, b in zip(one, other)])
            edges = sum([abs(a - b) > 8 for a, b in zip(one, one[4:])])
            if unlike > 8 * width:
                raise self._error("shows no test bars: rows differ by %d on average" % (unlike // width))
            if edges < 12 or max(one) - min(one) < 64:
                raise self._error("shows no test bars: %d to %d in a row" % (min(one), max(one)))
        finally:
            camera.set_colorbar(False)
        await self._skip(camera, 2)


async def _run(steps):
    """Run a generator, with a turn for the other tasks at every step, and give its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        await asyncio.sleep(0)


def _digest(frame):
    digest = sha256()
    for start in range(0, len(frame), _PIECE):
        digest.update(frame[start : start + _PIECE])
        yield
    return digest.digest()


def _pair(row, zones):
    whole = isinstance(zones, list) and len(zones) == 2 and all(type(count) is int for count in zones)
    if not whole or min(zones) < 1 or zones[0] * zones[1] > _ZONES:
        row.fail("zones", "[columns, rows], at most %d zones" % _ZONES)
    return zones[0], zones[1]


def _wiring(row):
    """The pins of a row as the camera's constructor wants them; none when the image knows its board."""
    wiring = {}
    data = row.take("data", ())
    if data:
        if not isinstance(data, list) or len(data) != 8 or any(type(pin) is not int for pin in data):
            row.fail("data", "a list of 8 pins, D0 first")
        wiring["data_pins"] = data
        for name in _PINS:
            wiring[name + "_pin"] = row.whole(name, 0, 48)
    for name in ("powerdown", "reset"):
        pin = row.whole(name, 0, 48, -1)
        if pin >= 0:
            wiring[name + "_pin"] = pin
    hertz = row.whole("hertz", 1_000_000, 40_000_000, 0)
    if hertz:
        wiring["xclk_freq"] = hertz
    return wiring


def _reason(error):
    """What a person can do about what the camera module raised (esp_err.h, esp_camera.h; its texts differ by version)."""
    text = "%s: %s" % (type(error).__name__, error)
    code = error.args[0] if error.args else None
    if isinstance(error, ImportError):
        return "this firmware has no module for cameras; flash an image of micropython-camera-API (%s)" % text
    if isinstance(error, MemoryError) or code in (12, -0x101):
        return "no memory for a frame; the board needs PSRAM (%s)" % text
    if code in (19, -0x105, -0x20001) or "not found" in text.lower():
        return "no sensor answers; look at its cable, its power and the pins sda, scl, xclk (%s)" % text
    if "initial frame" in text:
        return "gives no frame; look at its pins pclk, vsync, href and data (%s)" % text
    return "failed (%s)" % text
