"""Loops over the pixels of a small grey frame, in machine code where MicroPython makes it.

All loops are whole numbers below 2**31, so that they give the same on a 32-bit chip, on a computer and, as plain
Python, under CPython. None allocates. They work on part of a frame (`top` to `bottom` in rows, `start` to `stop` in pixels), so
that a caller can let other work go on in between.

A grid is a bytearray of grey values, row by row. A background and its deviation are arrays of "H", in 256ths of a
grey value. Sums go to arrays of "I" and are never negative: a 64-bit build loads those without their sign.

`mpy-cross` needs `-march=` for this file (xtensawin for the ESP32, S2 and S3).
"""

try:
    import micropython
except ImportError:  # CPython

    class _CPython:
        @staticmethod
        def viper(function):
            return function

    micropython = _CPython  # pyright: ignore[reportAssignmentType]


def _itself(buffer):
    return buffer


# Viper knows these words itself; what runs as plain Python finds them here.
ptr8 = ptr16 = ptr32 = _itself


@micropython.viper
def reduce(frame, stride: int, factor: int, share: int, grid, width: int, top: int, bottom: int) -> int:
    """Means of squares of `factor` by `factor` pixels of a frame with rows of `stride`; `share` is 65536 / factor**2.

    Gives the number of pixels of 250 and more. The camera's frame may have signed bytes.
    """
    source = ptr8(frame)
    target = ptr8(grid)
    bright = 0
    for y in range(top, bottom):
        line = y * factor * stride
        at = y * width
        for _ in range(width):
            total = 0
            row = line
            end = line + factor * stride
            while row < end:
                i = row
                stop = row + factor
                while i < stop:
                    value = source[i] & 255
                    total += value
                    if value >= 250:
                        bright += 1
                    i += 1
                row += stride
            target[at] = (total * share + 32768) >> 16
            at += 1
            line += factor
    return bright


@micropython.viper
def moments(grid, start: int, stop: int, sums):
    """Add pixels to sums[0] and their squares to sums[1]."""
    source = ptr8(grid)
    out = ptr32(sums)
    total = 0
    squares = 0
    for i in range(start, stop):
        value = source[i]
        total += value
        squares += value * value
    out[0] = out[0] + total
    out[1] = out[1] + squares


@micropython.viper
def roughness(grid, width: int, top: int, bottom: int) -> int:
    """Sum of the squares of the Laplacian (4 neighbours); the rows must have rows above and below. At most 2000 pixels."""
    source = ptr8(grid)
    total = 0
    for y in range(top, bottom):
        i = y * width + 1
        end = i + width - 2
        while i < end:
            value = 4 * source[i] - source[i - 1] - source[i + 1] - source[i - width] - source[i + width]
            total += value * value
            i += 1
    return total


@micropython.viper
def differences(one, two, start: int, stop: int, histogram):
    """Count the absolute differences of two grids in a histogram of 64; the last bin takes all that are larger."""
    a = ptr8(one)
    b = ptr8(two)
    out = ptr32(histogram)
    for i in range(start, stop):
        difference = a[i] - b[i]
        if difference < 0:
            difference = 0 - difference
        if difference > 63:
            difference = 63
        out[difference] = out[difference] + 1


@micropython.viper
def fit(grid, background, start: int, stop: int, gain: int, offset: int, tolerance: int, sums):
    """Sums for a straight line from background x to frame y, over the pixels that lie near a first line.

    The first line is x * gain / 1024 + offset / 256, near is within `tolerance` / 256. Adds to `sums`: pixels that can be
    judged (not over-exposed in either), those near, and of these x, y, x**2, x * y.
    """
    source = ptr8(grid)
    known = ptr16(background)
    out = ptr32(sums)
    usable = 0
    near = 0
    sx = 0
    sy = 0
    sxx = 0
    sxy = 0
    for i in range(start, stop):
        y = source[i]
        b = known[i]
        if y < 250 and b < 64000:
            usable += 1
            rest = (y << 8) - (b * gain >> 10) - offset
            if rest < 0:
                rest = 0 - rest
            if rest <= tolerance:
                x = (b + 128) >> 8
                near += 1
                sx += x
                sy += y
                sxx += x * x
                sxy += x * y
    out[0] = out[0] + usable
    out[1] = out[1] + near
    out[2] = out[2] + sx
    out[3] = out[3] + sy
    out[4] = out[4] + sxx
    out[5] = out[5] + sxy


@micropython.viper
def follow(background, before, start: int, stop: int, gain: int, offset: int):
    """Give background and previous frame the brightness of a new frame: gain in 1024ths, offset in 256ths."""
    known = ptr16(background)
    last = ptr8(before)
    half = 4 * offset + 512
    for i in range(start, stop):
        value = (known[i] * gain >> 10) + offset
        if value < 0:
            value = 0
        if value > 65280:
            value = 65280
        known[i] = value
        value = (last[i] * gain + half) >> 10
        if value < 0:
            value = 0
        if value > 255:
            value = 255
        last[i] = value


@micropython.viper
def learn_at_once(grid, background, deviation, start: int, stop: int, spread: int):
    """Take a frame as the background."""
    source = ptr8(grid)
    known = ptr16(background)
    usual = ptr16(deviation)
    for i in range(start, stop):
        known[i] = source[i] << 8
        usual[i] = spread


@micropython.viper
def classify(grid, background, deviation, before, mask, start: int, stop: int, least: int, change: int):
    """Bit 0 of the mask: not background; bit 1: not as in the previous frame.

    Not background is further off than `least` / 256 grey values plus 2.5 times what is usual at this pixel.
    """
    source = ptr8(grid)
    known = ptr16(background)
    usual = ptr16(deviation)
    last = ptr8(before)
    out = ptr8(mask)
    for i in range(start, stop):
        value = source[i]
        bits = 0
        difference = (value << 8) - known[i]
        if difference < 0:
            difference = 0 - difference
        if difference > least + (5 * usual[i] >> 1):
            bits = 1
        difference = value - last[i]
        if difference < 0:
            difference = 0 - difference
        if difference > change:
            bits += 2
        out[i] = bits


@micropython.viper
def vote(mask, out, width: int, top: int, bottom: int, least: int):
    """A pixel is set (1) when `least` of the nine in and around it have bit 0. Rows and columns at the edge must be left
    out and stay as they are."""
    source = ptr8(mask)
    target = ptr8(out)
    for y in range(top, bottom):
        i = y * width
        end = i + width - 2
        left = (source[i] & 1) + (source[i - width] & 1) + (source[i + width] & 1)
        i += 1
        middle = (source[i] & 1) + (source[i - width] & 1) + (source[i + width] & 1)
        while i <= end:
            n = i + 1
            right = (source[n] & 1) + (source[n - width] & 1) + (source[n + width] & 1)
            if left + middle + right >= least:
                target[i] = 1
            else:
                target[i] = 0
            left = middle
            middle = right
            i = n


@micropython.viper
def label(mask, labels, parents, width: int, top: int, bottom: int, used: int) -> int:
    """First pass of labelling (Rosenfeld and Pfaltz 1966, 8 neighbours) with union-find; gives the labels used so far.

    A parent is never larger than its child. A new label needs a pixel without neighbours to the left and above, so there is at
    most one in a square of 2 by 2: `parents` of a quarter of the pixels, and one, are enough.
    """
    source = ptr8(mask)
    out = ptr16(labels)
    parent = ptr16(parents)
    for y in range(top, bottom):
        i = y * width + 1
        end = i + width - 2
        while i < end:
            found = 0
            if source[i]:
                found = out[i - 1]
                above = i - width
                k = above - 1
                while k <= above + 1:
                    other = out[k]
                    if other:
                        while parent[other] != other:
                            other = parent[other]
                        if found == 0:
                            found = other
                        else:
                            while parent[found] != found:
                                found = parent[found]
                            if other < found:
                                parent[found] = other
                                found = other
                            else:
                                parent[other] = found
                    k += 1
                if found == 0:
                    used += 1
                    found = used
                    parent[found] = found
            out[i] = found
            i += 1
    return used


@micropython.viper
def settle(parents, areas, changes, used: int):
    """Give every label its root, and clear the sums."""
    parent = ptr16(parents)
    area = ptr16(areas)
    change = ptr16(changes)
    for i in range(1, used + 1):
        parent[i] = parent[parent[i]]  # smaller ones are done already
        area[i] = 0
        change[i] = 0


@micropython.viper
def measure(mask, clean, labels, parents, areas, changes, start: int, stop: int):
    """Pixels of each object (root label), and those of them that changed."""
    source = ptr8(mask)
    solid = ptr8(clean)
    name = ptr16(labels)
    parent = ptr16(parents)
    area = ptr16(areas)
    change = ptr16(changes)
    for i in range(start, stop):
        if solid[i]:
            root = parent[name[i]]
            area[root] = area[root] + 1
            if source[i] & 2:
                change[root] = change[root] + 1


@micropython.viper
def keep(clean, labels, parents, moving, width: int, top: int, bottom: int, zones, first: int, counts):
    """Leave only moving objects in `clean`, and count their pixels by zone: `zones` has one for each column, from `first` on."""
    solid = ptr8(clean)
    name = ptr16(labels)
    parent = ptr16(parents)
    chosen = ptr8(moving)
    zone = ptr8(zones)
    count = ptr32(counts)
    for y in range(top, bottom):
        i = y * width
        for x in range(width):
            if solid[i]:
                if chosen[parent[name[i]]]:
                    n = first + zone[x]
                    count[n] = count[n] + 1
                else:
                    solid[i] = 0
            i += 1


@micropython.viper
def learn(grid, background, deviation, mask, moving, start: int, stop: int, shift: int):
    """Move background and deviation towards a frame by 1 / 2**shift.

    The background moves by 1/4 where something new stands still, and both by 1/256 where something moves. What counts for the
    deviation ends at twice what is usual and 8 grey values more: a passing car does not make its road blind, a
    tree that waves is learned.
    """
    source = ptr8(grid)
    known = ptr16(background)
    usual = ptr16(deviation)
    kind = ptr8(mask)
    busy = ptr8(moving)
    for i in range(start, stop):
        by = shift
        if busy[i]:
            by = 8
        value = known[i]
        difference = (source[i] << 8) - value
        if kind[i] == 1 and by != 8:
            known[i] = value + ((difference + 2) >> 2)
        else:
            known[i] = value + ((difference + (1 << by >> 1)) >> by)
        if difference < 0:
            difference = 0 - difference
        value = usual[i]
        most = value + value + 2048
        if difference > most:
            difference = most
        usual[i] = value + ((difference - value + (1 << by >> 1)) >> by)
