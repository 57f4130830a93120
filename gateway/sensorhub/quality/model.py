"""The model at run time: one loader for both TFLite packages, refused when it is not the one that was named."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.quality.evidence import ASIDE, CHANNELS, LONG, LONG_CHANNELS, WINDOW

#: What the model tells apart, in the order of its outputs.
CLASSES: Final = ("clean", "spike", "stuck", "drift", "offset", "noise", "dropout", "replay", "local event")
#: Number of the last class: true, but of this one place (a chimney, a kitchen, a passing lorry).
LOCAL: Final = len(CLASSES) - 1
#: Packages with the same Interpreter; the second only where the first has no wheel (armv7).
RUNTIMES: Final = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
#: Shapes of a row of each input.
INPUTS: Final = ((WINDOW, CHANNELS), (LONG, LONG_CHANNELS), (ASIDE,))
#: Sizes of the batches that are run; what is over is filled up with zeros.
SIZES: Final = (16, 128)


class ModelError(SensorhubError):
    """Raised when a model cannot be used.

    Attributes:
        path: the file.
        expected: SHA-256 it should have, as hex; empty when that is not the matter.
        found: SHA-256 it has.
    """

    def __init__(self, text: str, path: str, expected: str = "", found: str = "") -> None:
        super().__init__(text)
        self.path = path
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model and the hash it must have."""

    path: Path | Traversable
    sha256: str


def shipped() -> ModelFile:
    """The model in the package, and its hash as its card names it.

    Raises:
        ModelError: there is none, or its card is not readable.
    """
    folder = files("sensorhub.quality").joinpath("models")
    card = folder.joinpath("anomaly.json")
    try:
        return ModelFile(
            folder.joinpath("anomaly.tflite"), str(json.loads(card.read_text("utf-8"))["sha256"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the card {card} of the packaged model cannot be read: {error}", str(card)
        ) from error


def interpreter() -> Any:
    """The Interpreter class of whichever TFLite package is installed.

    Raises:
        ModelError: none is.
    """
    missing = []
    for name in RUNTIMES:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError as error:
            missing.append(f"{name.partition('.')[0]}: {error}")
    raise ModelError(
        f"no TFLite run time is installed ({'; '.join(missing)}); pip install ai-edge-litert", ""
    )


class Model:
    """A model that is ready to run.

    Args:
        data: the bytes of a .tflite file with the three inputs of `Evidence` and logits (n, 9) as output.
        path: where they come from, for messages.

    Raises:
        ModelError: the bytes are no such model, or there is nothing to run it with.
    """

    def __init__(self, data: bytes, path: str = "") -> None:
        self.sha256 = hashlib.sha256(data).digest()
        self._data = data
        self._path = path
        self._class = interpreter()
        self._ready: dict[int, tuple[Any, list[int], int]] = {}
        try:
            self._prepare(SIZES[0])
        except (ValueError, RuntimeError, SystemError, KeyError, IndexError) as error:
            raise ModelError(f"the model {path} cannot be run: {error}", path) from error

    @classmethod
    def load(cls, file: ModelFile) -> Model:
        """The model of a file.

        Raises:
            ModelError: it is missing, has another hash than it should, or is no model of this kind.
        """
        name = str(file.path)
        try:
            data = file.path.read_bytes()
        except OSError as error:
            raise ModelError(f"the model {name} cannot be read: {error}", name) from error
        found = hashlib.sha256(data).hexdigest()
        if found != file.sha256:
            raise ModelError(
                f"the model {name} is refused: its SHA-256 is {found}, expected is {file.sha256}; "
                "install the package again or name the right hash",
                name,
                file.sha256,
                found,
            )
        return cls(data, name)

    def logits(self, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, 9) of `CLASSES` for windows (n, 32, 8), long views (n, 48, 2) and numbers aside (n, 56).

        A row's result does not depend on the rows it is run with.
        """
        n = len(inputs[0])
        result = np.empty((n, len(CLASSES)), np.float32)
        start = 0
        while start < n:
            left = n - start
            size = next((s for s in SIZES if s >= left), SIZES[-1])
            take = min(left, size)
            interpreter, places, out = self._ready.get(size) or self._prepare(size)
            for place, shape, values in zip(places, INPUTS, inputs, strict=True):
                part = values[start : start + take]
                if take < size:
                    filled = np.zeros((size, *shape), np.float32)
                    filled[:take] = part
                    part = filled
                interpreter.set_tensor(place, part)
            interpreter.invoke()
            result[start : start + take] = interpreter.get_tensor(out)[:take]
            start += take
        return result

    def _prepare(self, size: int) -> tuple[Any, list[int], int]:
        interpreter = self._class(model_content=self._data, num_threads=1)
        found = {tuple(int(n) for n in d["shape"][1:]): d["index"] for d in interpreter.get_input_details()}
        places = [found[shape] for shape in INPUTS]
        for place, shape in zip(places, INPUTS, strict=True):
            interpreter.resize_tensor_input(place, [size, *shape])
        interpreter.allocate_tensors()
        out = interpreter.get_output_details()[0]
        if tuple(out["shape"])[1:] != (len(CLASSES),):
            raise ValueError(f"its output has the shape {tuple(out['shape'])}, not (n, {len(CLASSES)})")
        self._ready[size] = interpreter, places, out["index"]
        return self._ready[size]
