"""What can be said of a scene from a few grey frames at a time: brightness, contrast, sharpness, motion, moving objects.

A frame is reduced to a grid of at most 96 pixels a row. An object moves when it is where the background is not, and was
not there in the previous frame either. What only differs from the background - a parked car, the place it left, snow - does
not count, and is learned. CAMERA.md tells the method, its limits and its measured errors.

Long computations are generators: they yield between strips of the frame, so that a caller can let other work go on.
"""

from array import array
from math import sqrt

from micropython import const

from . import pixels

GRID = 96  # pixels in a row of the grid, at most
LEARN = 12  # frames until the background is known well enough to judge by
_SHIFT = const(5)  # then it moves by 1/32 a frame
_NEAR = const(12)  # grey values by which a pixel of the background may be off
_STRIP = const(1600)  # pixels of the grid between two yields
_FRAME_STRIP = const(8192)  # pixels of the frame
_SAME = (1024, 0)  # brightness as before


class Scene:
    """Background, motion and objects of one camera.

    :param width: of the frames, in pixels of one byte.
    :param height: of the frames.
    :param columns: zones side by side.
    :param rows: zones above each other.
    :param smallest: pixels of the grid that an object has at least.
    """

    def __init__(self, width, height, columns=1, rows=1, smallest=6):
        self.factor = factor = (width + GRID - 1) // GRID
        self.size = width, height
        self._stride = width
        self.width = width = width // factor
        self.height = height = height // factor
        self.area = area = width * height
        self._smallest = smallest
        self._columns = columns
        self._rows = rows
        self._zone = bytearray([x * columns // width for x in range(width)])
        self._spans = [(start, min(start + _STRIP, area)) for start in range(0, area, _STRIP)]
        # rows that have neighbours; the loops that need these leave out the first and the last pixel of a row
        self._inner = _bands(1, height - 1, _STRIP // width)
        self._lines = _bands(0, height, _FRAME_STRIP // (self._stride * factor))
        self._parts = [
            (first, _bands(y0, y1, _STRIP // width))
            for first, (y0, y1) in zip(range(0, columns * rows, columns), _parts(height, rows))
        ]
        self._grid = bytearray(area)
        self._before = bytearray(area)
        self._mask = bytearray(area)
        self._clean = bytearray(area)
        self._wide = bytearray(area)
        self._background = _words(area)
        self._deviation = _words(area)
        self._labels = _words(area)
        most = area // 4 + width + height  # labels
        self._parents = _words(most)
        self._areas = _words(most)
        self._changes = _words(most)
        self._moving = bytearray(most)
        self._histogram = array("I", bytes(4 * 64))
        self._sums = array("I", bytes(4 * 6))
        self._counts = array("I", bytes(4 * columns * rows))
        self._spread = 24  # standard deviation of a pixel's change between frames, in 16ths of a grey value
        self._seen = 0  # frames in the background
        self.begin()

    def begin(self):
        """A new burst of frames: the next frame has no previous one."""
        self._linked = False
        self._objects = []  # in each frame that was judged
        self._lost = False
        self._bright = 0
        self.same = 0  # frames that were the previous one again, in every pixel of the grid
        _clear(self._counts)

    def look(self, frame):
        """Steps that take one frame of the burst, width * height bytes, into account."""
        yield from self._reduce(frame)
        line = (yield from self._exposure()) if self._seen else None
        if line is None:
            self._lost = True
            for start, stop in self._spans:
                pixels.learn_at_once(self._grid, self._background, self._deviation, start, stop, 512)
                yield
            self._mask[:] = self._clean[:] = bytes(self.area)
            self._seen = 1
        else:
            if line != _SAME:
                for start, stop in self._spans:
                    pixels.follow(self._background, self._before, start, stop, *line)
                    yield
            if self._linked:
                yield from self._noise()
            known = self._seen >= LEARN
            if known and self._linked:
                yield from self._judge()
            if self._linked or not known:  # what moves in the first frame of a burst is not known
                yield from self._learn()
        self._before[:] = self._grid
        self._linked = True

    def describe(self):
        """Steps to the values of the burst, as {name: value}: its last frame's brightness, and what moved in it.

        Shares are in 2048ths, which are exact in binary16. `zones` are the moving shares of the zones, row by row. `motion`,
        `zones` and `objects` are missing while the background is being learned and after most of the scene changed.
        """
        area, width, height = self.area, self.width, self.height
        sums = self._sums
        _clear(sums)
        for start, stop in self._spans:
            pixels.moments(self._grid, start, stop, sums)
            yield
        rough = 0
        for top, bottom in self._inner:
            rough += pixels.roughness(self._grid, width, top, bottom)
            yield
        # white noise is once in the variance and 20 times in that of the Laplacian: 4 * 4 + 4 * 1
        noise = self._spread * self._spread / 512
        variance = (area * sums[1] - sums[0] * sums[0]) / (area * area)
        structure = variance - noise
        detail = max(0, rough / ((width - 2) * (height - 2)) - 20 * noise)
        values = {
            "luminance": _share(sums[0], 255 * area),
            "contrast": _share(sqrt(variance), 127.5),
            "sharpness": _share(sqrt(detail), 8 * sqrt(structure)) if structure >= 1 else 0,
            "overexposed": _share(self._bright, area * self.factor * self.factor),
        }
        judged = len(self._objects)
        if judged and not self._lost:
            values["objects"] = sorted(self._objects)[judged // 2]
            values["motion"] = _share(sum(self._counts), area * judged)
            sizes = [
                (x1 - x0) * (y1 - y0)
                for y0, y1 in _parts(height, self._rows)
                for x0, x1 in _parts(width, self._columns)
            ]
            values["zones"] = [_share(count, size * judged) for count, size in zip(self._counts, sizes)]
        return values

    def _reduce(self, frame):
        factor = self.factor
        self._bright = 0
        for top, bottom in self._lines:
            self._bright += pixels.reduce(
                frame, self._stride, factor, 65536 // (factor * factor), self._grid, self.width, top, bottom
            )
            yield

    def _exposure(self):
        """Steps to the line (gain in 1024ths, offset in 256ths) that brings the background to the frame's brightness.

        None when most of the scene is not the background on any line.
        """
        near = max(_NEAR, self._spread * 3 // 16)
        line = yield from self._fit(_SAME, near)
        sums = self._sums
        if sums[1] * 8 < sums[0] * 7 or sums[0] * 8 < self.area:
            line = yield from self._fit(_SAME, 1 << 16)
            for tolerance in (48, 24, near, near):
                line = yield from self._fit(line, max(near, tolerance))
            if sums[1] * 2 < sums[0] or sums[0] * 8 < self.area:
                return None
        gain, offset = line
        # nothing to speak of: leave the background as it is, without another rounding
        if -16 < gain - 1024 < 16 and -256 < offset + (gain - 1024) * sums[2] // (4 * sums[1]) < 256:
            return _SAME
        return line

    def _fit(self, line, tolerance):
        """Steps to the least-squares line through the pixels that are near a line."""
        sums = self._sums
        _clear(sums)
        for start, stop in self._spans:
            pixels.fit(self._grid, self._background, start, stop, line[0], line[1], tolerance << 8, sums)
            yield
        _, n, sx, sy, sxx, sxy = sums
        if not n:
            return line
        # in Python's own integers: these products need more than 32 bits
        width = n * sxx - sx * sx
        gain = 1024
        if width > 4 * n * n:
            gain = min(max((n * sxy - sx * sy) * 1024 // width, 128), 8192)
        return gain, (1024 * sy - gain * sx) // (4 * n)

    def _noise(self):
        """Steps to the noise between two frames: the median of the pixels' change, which objects do not reach."""
        histogram = self._histogram
        _clear(histogram)
        for start, stop in self._spans:
            pixels.differences(self._grid, self._before, start, stop, histogram)
            yield
        if histogram[0] == self.area:
            self.same += 1
        below = 0
        k = 0
        while below + histogram[k] < self.area // 2:
            below += histogram[k]
            k += 1
        # bin k holds what was from k - 1/2 to k + 1/2 before it was rounded
        low, size = (16 * k - 8, 16) if k else (0, 8)
        median = low + size * (self.area // 2 - below) // max(1, histogram[k])
        self._spread = max(4, median * 95 >> 6)  # 1.4826 medians of a normal distribution

    def _judge(self):
        """Steps that find what moves: its pixels by zone, and the objects."""
        width = self.width
        mask, clean, labels, parents = self._mask, self._clean, self._labels, self._parents
        spread = self._spread
        # noise alone makes 0.7 % of the pixels differ and 1.2 % change; a vote of nine leaves next to none of them
        least = max(1 << 8, spread * 8)
        change = max(2, (spread * 5 + 16) // 32)
        for start, stop in self._spans:
            pixels.classify(
                self._grid, self._background, self._deviation, self._before, mask, start, stop, least, change
            )
            yield
        # five of nine: single pixels go, holes fill; then three of nine, so that an object in two parts is one
        for top, bottom in self._inner:
            pixels.vote(mask, clean, width, top, bottom, 5)
            yield
        for top, bottom in self._inner:
            pixels.vote(clean, self._wide, width, top, bottom, 3)
            yield
        used = 0
        for top, bottom in self._inner:
            used = pixels.label(self._wide, labels, parents, width, top, bottom, used)
            yield
        pixels.settle(parents, self._areas, self._changes, used)
        for start, stop in self._spans:
            pixels.measure(mask, clean, labels, parents, self._areas, self._changes, start, stop)
            yield
        moving = self._moving
        objects = 0
        for index in range(1, used + 1):
            size = self._areas[index]
            moves = size >= self._smallest and self._changes[index] >= max(3, size >> 4)
            moving[index] = moves
            objects += moves
            if index % 128 == 0:
                yield
        zone, counts = self._zone, self._counts
        for first, bands in self._parts:
            for top, bottom in bands:
                pixels.keep(clean, labels, parents, moving, width, top, bottom, zone, first, counts)
                yield
        self._objects.append(objects)

    def _learn(self):
        """Steps that move the background towards the frame; while it is new to the mean of all frames."""
        seen = self._seen
        shift = 1
        while shift < _SHIFT and 2 << shift <= seen + 1:
            shift += 1
        mask, clean = self._mask, self._clean
        for start, stop in self._spans:
            pixels.learn(self._grid, self._background, self._deviation, mask, clean, start, stop, shift)
            yield
        self._seen = min(seen + 1, 1 << 10)


def _words(count):
    return array("H", bytes(2 * count))


def _clear(buffer):
    for index in range(len(buffer)):
        buffer[index] = 0


def _bands(top, bottom, rows):
    rows = max(1, rows)
    return [(row, min(row + rows, bottom)) for row in range(top, bottom, rows)]


def _parts(length, count):
    """`length` in `count` parts, [(start, stop), ...]; pixel i is in part i * count // length."""
    bounds = [-(-part * length // count) for part in range(count + 1)]
    return list(zip(bounds, bounds[1:]))


def _share(part, whole):
    return min(2048, int(part * 2048 / whole + 0.5)) / 2048
