"""What firmware code uses of MicroPython's `cryptolib`, for CPython."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class aes:  # noqa: N801 - the name it has there
    def __init__(self, key, mode, initial):
        if mode != 2:
            raise ValueError("mode")
        self._steps = Cipher(algorithms.AES(key), modes.CBC(initial)).encryptor()

    def encrypt(self, data, into):
        into[: len(data)] = self._steps.update(bytes(data))
