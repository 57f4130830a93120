"""The comb against point addition from the definition, and what it promises about its own steps."""

from sensornode import secp256k1
from sensornode.secp256k1 import N, P, add, double, finish, inverse, multiply, random_scalar

G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def affine(point):
    x, y, z = point
    w = finish(inverse(z, P))
    return x * w * w % P, y * w * w * w % P


def times(k):
    """k G by doubling and adding bit by bit, for 1 < k < N."""
    point = G[0], G[1], 1
    for bit in range(k_bits(k) - 2, -1, -1):
        point = double(*point)
        if k >> bit & 1:
            point = add(*point, *G)
    return affine(point)


def k_bits(k):
    count = 0
    while k >> count:
        count += 1
    return count


def test_inverse():
    for modulus in (P, N):
        for x in (1, 2, 3, modulus - 1, modulus // 2, 1 << 255, random_scalar()):
            assert x * finish(inverse(x, modulus)) % modulus == 1


def test_addition_and_doubling_agree():
    two = double(G[0], G[1], 1)
    three = add(*two, *G)
    z = random_scalar()
    blinded = G[0] * z * z % P, G[1] * z * z * z % P, z
    assert affine(double(*blinded)) == affine(two)
    assert affine(add(*double(*blinded), *G)) == affine(three)
    assert affine(add(*add(*three, *G), *G)) == affine(add(*double(*two), *G))


def test_adding_a_point_to_itself_or_its_negative_leaves_z_zero():
    for y in (G[1], P - G[1]):
        point = add(G[0], G[1], 1, G[0], y)
        assert point[2] == 0
        point = add(*double(*point), *G)
        assert point[2] == 0


def test_small_and_large_multiples():
    assert finish(multiply(1)) == G
    assert finish(multiply(N - 1)) == (G[0], P - G[1])
    for k in (2, 3, 4, 7, 255, 256, 2**32 - 1, 2**32, 2**128, 2**255, N - 2, N // 2, N // 2 + 1, N - 2**128):
        assert finish(multiply(k)) == times(k), k


def test_the_detour_and_the_way_back():
    assert times(N - secp256k1._DETOUR) == (secp256k1._BACK_X, secp256k1._BACK_Y)


def test_random_multiples():
    for _ in range(20):
        k = random_scalar()
        assert finish(multiply(k)) == times(k), k


class Table:
    """The table file, noting the positions it is read at."""

    def __init__(self, positions):
        self.positions = positions
        self.file = open(secp256k1.TABLE, "rb")  # noqa: SIM115 - closed by `close`
        self.readinto = self.file.readinto
        self.close = self.file.close

    def seek(self, position):
        self.positions.append(position)
        self.file.seek(position)


def test_the_steps_are_the_same_whatever_the_scalar():
    counted = []
    for k in (1, 2, 3, 1 << 64, N - 2, N - 1, N // 2, 2**255, random_scalar(), random_scalar()):
        calls = {"add": 0, "double": 0}
        with_counters(calls, k)
        counted.append(calls)
    assert counted == [{"add": 64, "double": 3, "rows": 64}] * len(counted), counted


def with_counters(calls, k):
    """Count the point operations and table reads of one multiplication."""

    def counted(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    positions = []
    secp256k1.add = counted("add", add)
    secp256k1.double = counted("double", double)
    secp256k1.open = lambda *_: Table(positions)
    try:
        assert finish(multiply(k)) == (times(k) if k > 1 else G)
        calls["rows"] = len(positions)
    finally:
        secp256k1.add = add
        secp256k1.double = double
        del secp256k1.open


def test_the_rows_read_differ_each_time():
    rows = []
    secp256k1.open = lambda *_: Table(rows[-1])
    try:
        for _ in range(8):
            rows.append([])
            finish(multiply(5))
    finally:
        del secp256k1.open
    for i in range(8):
        assert len(rows[i]) == 64
        for j in range(i):
            same = sum(rows[i][row] == rows[j][row] for row in range(64))
            assert same < 16, same  # of 64 rows each equal with probability 1/128


def test_an_unlucky_split_is_drawn_again():
    draws = []
    unlucky = []

    def unlucky_first(k):
        draws.append(k)
        if len(draws) == 1:
            yield
            unlucky.append(k)
            return None
        return (yield from original(k))

    original = secp256k1._multiply
    secp256k1._multiply = unlucky_first
    try:
        assert finish(multiply(3)) == times(3)
    finally:
        secp256k1._multiply = original
    assert len(draws) == 2
    assert len(unlucky) == 1


def test_a_damaged_table_is_noticed():
    with open(secp256k1.TABLE, "rb") as file:
        table = bytearray(file.read())
    for position in range(5, len(table), 64):
        table[position] ^= 1
    with open("damaged.bin", "wb") as file:
        file.write(table)
    whole = secp256k1.TABLE
    secp256k1.TABLE = "damaged.bin"
    try:
        finish(multiply(5))
    except ValueError as error:
        assert "damaged.bin" in str(error)
    else:
        raise AssertionError("a wrong point was given out")
    finally:
        secp256k1.TABLE = whole
