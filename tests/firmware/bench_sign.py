"""Count the big-integer operations of one signature, and measure its time and memory.

    python tests/firmware/bench_sign.py

Counts come from CPython, where the signing modules are given an `int` that counts; they are the same in every
interpreter. Time and memory come from the MicroPython that tools/micropython finds, or from the one named by
$MICROPYTHON: a 32-bit build shows what an ESP32 allocates.
"""

import os
import sys

SECRET = bytes(range(1, 33))
DIGEST = bytes(range(32))
KINDS = ("multiply", "square", "by small", "reduce", "divide", "add or subtract", "compare")
METHODS = {
    "__mul__": "multiply",
    "__rmul__": "multiply",
    "__mod__": "reduce",
    "__rmod__": "reduce",
    "__floordiv__": "divide",
    "__rfloordiv__": "divide",
    "__add__": "add or subtract",
    "__radd__": "add or subtract",
    "__sub__": "add or subtract",
    "__rsub__": "add or subtract",
    "__lt__": "compare",
    "__gt__": "compare",
    "__eq__": "compare",
    "__bool__": "compare",
}


def measure():
    """Print time and memory of signing; runs in MicroPython."""
    import gc
    import time

    gc.collect()
    before = gc.mem_alloc()
    from sensornode.ecdsa import SigningKey

    gc.collect()
    resident = gc.mem_alloc() - before
    key = SigningKey(SECRET)
    key.sign_now(DIGEST)

    gc.collect()
    start = time.ticks_us()
    for _ in range(50):
        key.sign_now(DIGEST)
    each = time.ticks_diff(time.ticks_us(), start) / 50

    gc.collect()
    before = gc.mem_alloc()
    peak = 0
    for _ in key._sign(DIGEST):
        gc.collect()
        peak = max(peak, gc.mem_alloc() - before)

    gc.collect()
    gc.disable()
    before = gc.mem_alloc()
    key.sign_now(DIGEST)
    churn = gc.mem_alloc() - before
    gc.enable()
    version = ".".join(str(part) for part in sys.implementation.version[:2])
    print("MicroPython", version, "64-bit" if sys.maxsize >> 32 else "32-bit")
    print("    time of one signature        ", each / 1000, "ms")
    print("    heap of the code, from source", resident, "bytes")
    print("    heap in use while signing    ", peak, "bytes at most, between two steps")
    print("    heap passed through          ", churn, "bytes")


def count():
    """Print the operations of one signature; runs in CPython."""
    import subprocess
    from pathlib import Path

    project = Path(__file__).resolve().parent.parent.parent
    sys.path[:0] = [str(project / "firmware"), str(project / "firmware" / "sim" / "cpython")]
    from sensornode import ecdsa, secp256k1

    phases = {"comb": dict.fromkeys(KINDS, 0), "inversions": dict.fromkeys(KINDS, 0)}
    phase = ["comb"]

    class Number(int):
        """An int whose results are Numbers and whose operations are counted where a big integer takes part."""

    def counting(method, kind):
        function = getattr(int, method)

        def call(self, *others):
            sizes = [abs(int(value)) for value in others]
            sizes.append(abs(int(self)))
            if max(sizes) >> 30:
                actual = kind
                if kind == "multiply":
                    actual = "by small" if min(sizes) < 1 << 30 else "square" if self is others[0] else kind
                phases[phase[0]][actual] += 1
            result = function(self, *others)
            return Number(result) if type(result) is int else result

        return call

    for method, kind in METHODS.items():
        setattr(Number, method, counting(method, kind))
    Number.__hash__ = int.__hash__

    def inverse(x, modulus):
        phase[0] = "inversions"
        result = yield from original(x, modulus)
        phase[0] = "comb"
        return result

    original = secp256k1.inverse
    key = ecdsa.SigningKey(SECRET)
    expected = key.sign_now(DIGEST)
    for module in (secp256k1, ecdsa):
        module.int = Number
        module.inverse = inverse
        for name, value in list(vars(module).items()):
            if type(value) is int and value >> 30:
                setattr(module, name, Number(value))
    assert key.sign_now(DIGEST) == expected

    print("Big-integer operations of one signature")
    print(f"    {'':16} {'comb, scalars':>14} {'two inversions':>15} {'all':>6}")
    for kind in KINDS:
        comb, inversions = phases["comb"][kind], phases["inversions"][kind]
        print(f"    {kind:16} {comb:14} {inversions:15} {comb + inversions:6}")
    print(f"    comb table       {Path(secp256k1.TABLE).stat().st_size:14} bytes in flash, 64 read at a time")
    print()
    environ = dict(os.environ, MICROPYPATH=f"{project / 'firmware'}:.frozen")
    subprocess.run([project / "tools" / "micropython", __file__], env=environ, check=True)


if __name__ == "__main__":
    if sys.implementation.name == "micropython":
        measure()
    else:
        count()
