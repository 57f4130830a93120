"""What the firmware uses of the module `camera` of the micropython-camera-API images, before a street that is computed.

The street is a `Street`, whose `truth` says what there is to be seen. `Camera.street` is what the next camera looks at, and
`Camera.faults` what is wrong with it: a set of "absent" (no sensor answers), "no psram", "no frame" (capture gives None),
"short" (half a frame), "frozen" (the same frame again and again), "dead" (capture raises).

As on the chip a frame is exposed when the buffer becomes free, not when it is asked for; a frame that is
given back is overwritten; and there is one camera: a second one while the first is not ended is refused.
"""

from array import array

try:
    import micropython
except ImportError:  # CPython

    class _CPython:
        @staticmethod
        def viper(function):
            return function

    micropython = _CPython  # pyright: ignore[reportAssignmentType]


class PixelFormat:
    RGB565 = 0
    YUV422 = 1
    GRAYSCALE = 3
    JPEG = 4


class FrameSize:
    R96X96 = 0
    QQVGA = 1
    R128x128 = 2
    QCIF = 3
    HQVGA = 4
    R240X240 = 5
    QVGA = 6


class GrabMode:
    WHEN_EMPTY = 0
    LATEST = 1


_SIZES = ((96, 96), (160, 120), (128, 128), (176, 144), (240, 176), (240, 240), (320, 240))
_FRAME_MS = 80  # 12.5 frames a second, as an OV2640 gives grey ones at 20 MHz


def _itself(buffer):
    return buffer


ptr8 = ptr16 = ptr32 = _itself


@micropython.viper
def _expose(base, noise, out, start: int, stop: int, phase: int, gain: int, strength: int):
    """A row of light to a row of grey: gain in 256ths, noise in 64ths of its table's deviation."""
    source = ptr8(base)
    table = ptr8(noise)
    target = ptr8(out)
    for i in range(start, stop):
        grain = table[phase & 4095] - 128
        value = (source[i] * gain + grain * strength + 128) >> 8
        if value < 0:
            value = 0
        if value > 255:
            value = 255
        target[i] = value
        phase += 1


class Dice:
    """Numbers that are the same in every interpreter (xorshift, Marsaglia 2003)."""

    def __init__(self, seed):
        self._state = seed * 2654435761 % 4294967295 + 1

    def __call__(self, count):
        """0 to count - 1."""
        x = self._state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self._state = x
        return (x >> 4) % count


class Street:
    """Houses, a road with lanes, and what goes on there. Times are in ms, places and sizes in thousandths of the width.

    :param objects: [(lane from the top, first x, speed per second, width, height, grey, start, stop), ...]: boxes that go
        along lanes from `start` to `stop` ms, and round again when they have left the picture.
    :param light: function of the time, 1.0 is day.
    :param noise: standard deviation of a pixel, in grey values.
    :param trees: True: a quarter of the picture waves. :param glints: flashes in a frame, on the water at the bottom.
    :param shake: pixels by which the camera trembles. :param cloud: True: a soft shadow wanders over everything.
    :param infrared: ms at which the filter swings away and everything has other greys, or None.
    """

    def __init__(
        self,
        objects=(),
        light=None,
        noise=2.0,
        trees=False,
        glints=0,
        shake=0,
        cloud=False,
        infrared=None,
        seed=1,
    ):
        self._objects = objects
        self._light = light
        self._noise = noise
        self._trees = trees
        self._glints = glints
        self._shake = shake
        self._cloud = cloud
        self._infrared = infrared
        self._dice = Dice(seed)
        dice = Dice(7)
        # a sum of 4 dice is near enough to a normal distribution; its deviation is 32
        self._table = bytearray(
            min(255, max(0, 128 + (sum([dice(56) for _ in range(4)]) - 110))) for _ in range(4096)
        )
        self._size = None
        self.truth = []

    def _paint(self, width, height):
        """The empty street."""
        self._size = width, height
        self._still = still = bytearray(width * height)
        dice = Dice(3)
        tints = [70 + dice(110) for _ in range(64)]
        for y in range(height):
            for x in range(width):
                u, v = 1000 * x // width, 1000 * y // width
                if v < 200:  # sky and houses
                    value = (
                        tints[u // 90 + 12 * (v // 130)] if v > 60 + 8 * (u // 90 * 7 % 11) else 190 - v // 5
                    )
                    if v > 90 and u % 45 < 18 and v % 50 < 24:  # windows
                        value = value // 2 + 20
                else:  # road, with lane marks and grain
                    value = 105 + (v - 200) // 20
                    if v % 110 < 6 and u % 120 < 60:
                        value += 70
                    value += dice(7) - 3
                still[y * width + x] = value
        self._scene = bytearray(still)

    def render(self, now, width, height, out):
        """Expose a frame at `now` ms; the objects in it go to `truth` as (name, x0, y0, x1, y1, speed) in pixels."""
        if self._size != (width, height):
            self._paint(width, height)
        scene, dice = self._scene, self._dice
        scene[:] = self._still
        if self._infrared is not None and now >= self._infrared:
            for i in range(len(scene)):
                scene[i] = (scene[i] * 37 + 90) % 140 + 40
        if self._trees:
            self._wave(now, width, height)
        self.truth = []
        for name, (lane, first, speed, wide, high, grey, start, stop) in enumerate(self._objects):
            if now < start:
                continue
            moved = first + speed * (min(now, stop) - start) // 1000
            left = (moved % (1000 + 2 * wide) - wide) * width // 1000
            top = lane * width // 1000
            x0, x1 = max(0, left), min(width, left + wide * width // 1000)
            y0, y1 = max(0, top), min(height, top + high * width // 1000)
            if x0 >= x1 or y0 >= y1:
                continue
            line = bytes([grey + (8 if (x - left) % 6 < 3 else 0) for x in range(x0, x1)])
            for y in range(y0, y1):
                scene[y * width + x0 : y * width + x1] = line
            self.truth.append((name, x0, y0, x1, y1, speed if start <= now < stop else 0))
        for _ in range(self._glints):
            at = (height - 1 - dice(height // 5)) * width + dice(width - 3)
            for k in range(1 + dice(3)):
                scene[at + k] = 255
        if self._shake:
            by = (dice(2 * self._shake + 1) - self._shake) + width * (dice(2 * self._shake + 1) - self._shake)
            if by > 0:
                scene[by:] = scene[:-by]
            elif by < 0:
                scene[:by] = scene[-by:]
        light = self._light(now) if self._light else 1.0
        strength = int(self._noise * 8)
        for y in range(height):
            gain = light
            if self._cloud:
                gain = light * (1 - 0.35 / (1 + ((y * 4 / height - now / 9000 % 8 + 2) ** 2)))
            row = y * width
            _expose(scene, self._table, out, row, row + width, dice(4096), int(256 * gain), strength)

    def _wave(self, now, width, height):
        """The left quarter sways: leaves of two greys before the houses."""
        scene = self._scene
        for y in range(height):
            sway = (abs((now + 37 * (y // 6 * 29 % 31)) % 1400 - 700) - 350) * width // 56000
            row = y * width
            for x in range(width // 4):
                leaf = (x + sway) // 3 * 5 + y // 3 * 3
                scene[row + x] = 60 + leaf * leaf % 7 * 14


def crowd(count, seed=1, cars=False, contrast=60, period=10_000_000):
    """Objects on lanes of their own: people, or every other one a car."""
    dice = Dice(seed)
    objects = []
    for index in range(count):
        lane = 215 + 510 * index // max(1, count)
        car = cars and index % 2
        wide, high = (130 + dice(60), 60) if car else (25 + dice(10), 68)
        speed = (1 if index % 3 else -1) * (90 + dice(80)) * (3 if car else 1)
        grey = 110 + contrast if dice(2) else max(4, 110 - contrast)
        objects.append((lane, dice(1000), speed, wide, min(high, 500 // max(1, count)), grey, 0, period))
    return objects


class Camera:
    street = None
    faults = set()
    live = None  # the one camera
    exposed = 0  # frames since the start
    clock = None  # a function that gives ms; None: every frame is 80 ms after the last

    def __init__(
        self,
        *,
        data_pins=None,
        pclk_pin=-1,
        vsync_pin=-1,
        href_pin=-1,
        sda_pin=-1,
        scl_pin=-1,
        xclk_pin=-1,
        xclk_freq=20_000_000,
        powerdown_pin=-1,
        reset_pin=-1,
        pixel_format=PixelFormat.RGB565,
        frame_size=FrameSize.QQVGA,
        jpeg_quality=85,
        fb_count=1,
        grab_mode=GrabMode.WHEN_EMPTY,
        init=True,
    ):
        if data_pins is not None and len(data_pins) != 8:
            raise ValueError("data_pins must have 8 elements")
        if Camera.live:
            raise OSError(-0x103, "ESP_ERR_INVALID_STATE")
        self._format = pixel_format
        self._frame_size = frame_size
        self.pins = data_pins
        self._settings = {"hmirror": False, "vflip": False, "colorbar": False}
        self._initialized = False
        if Camera.street is None:
            Camera.street = Street(crowd(4, cars=True))
        self.init()
        frame = None
        try:
            frame = self.capture()
        finally:
            if frame is None or not init:
                self.deinit()
        if frame is None:
            raise OSError(
                "Failed to capture initial frame. Construct a new object with appropriate configuration."
            )

    def init(self):
        if "absent" in Camera.faults:
            raise OSError(-0x105, "ESP_ERR_NOT_FOUND")
        if "no psram" in Camera.faults:
            raise OSError(12, "ESP_ERR_NO_MEM")
        if self._format != PixelFormat.GRAYSCALE:
            raise ValueError("this street is grey")
        width, height = _SIZES[self._frame_size]
        self._buffer = array("b", bytes(width * height))  # the driver's frames have signed bytes
        self._pixels = (
            self._buffer if hasattr(micropython, "mem_info") else memoryview(self._buffer).cast("B")
        )
        self._taken = False
        self._initialized = True
        Camera.live = self
        self._expose()

    def deinit(self):
        self._initialized = False
        Camera.live = None

    def _check(self):
        if not self._initialized:
            raise OSError(2)

    def _expose(self):
        if "frozen" not in Camera.faults or not hasattr(self, "_now"):
            clock = Camera.clock
            width, height = _SIZES[self._frame_size]
            self._now = clock() if clock else Camera.exposed * _FRAME_MS
        Camera.exposed += 1
        self._rendered = False

    def capture(self):
        """The newest frame, valid until it is given back; None when the sensor is silent."""
        self._check()
        if "dead" in Camera.faults:
            raise OSError(116)
        if self._taken:
            self.free_buffer()
        if "no frame" in Camera.faults:
            return None
        width, height = _SIZES[self._frame_size]
        if not self._rendered:
            if self._settings["colorbar"]:
                for index in range(width * height):
                    self._pixels[index] = 224 - index % width * 8 // width * 30
            elif "frozen" not in Camera.faults or not hasattr(self, "_held"):
                Camera.street.render(self._now, width, height, self._pixels)
            if "frozen" in Camera.faults:
                if not hasattr(self, "_held"):
                    self._held = bytes(self._buffer)
                self._pixels[:] = array("b", self._held) if self._pixels is self._buffer else self._held
            self._rendered = True
        self._taken = True
        return memoryview(self._buffer)[: len(self._buffer) // (2 if "short" in Camera.faults else 1)]

    def free_buffer(self):
        if self._taken:
            self._taken = False
            for index in range(0, len(self._buffer), 7):
                self._buffer[index] = 85
            self._expose()

    def frame_available(self):
        self._check()
        return not self._taken and "no frame" not in Camera.faults

    def reconfigure(self, *, frame_size=None, pixel_format=None, grab_mode=None, fb_count=None):
        self._check()
        self.deinit()
        self._frame_size = self._frame_size if frame_size is None else frame_size
        self._format = self._format if pixel_format is None else pixel_format
        self.init()

    def get_pixel_width(self):
        self._check()
        return _SIZES[self._frame_size][0]

    def get_pixel_height(self):
        self._check()
        return _SIZES[self._frame_size][1]

    def get_sensor_name(self):
        self._check()
        return "OV2640"

    def set_hmirror(self, on):
        self._check()
        self._settings["hmirror"] = on

    def set_vflip(self, on):
        self._check()
        self._settings["vflip"] = on

    def set_colorbar(self, on):
        self._check()
        self._settings["colorbar"] = on
