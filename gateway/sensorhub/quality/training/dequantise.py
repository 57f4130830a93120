"""The float weights of a .tflite model, taken from the file itself: what a site's training goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.quality.model import CLASSES, Model, ModelFile, interpreter

#: Operations that have weights, and those that only hand on what they get, with other shapes or beside each other.
_LAYERS: Final = ("CONV_2D", "FULLY_CONNECTED")
_REMEDY: Final = "train from the beginning instead (--fresh)"


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or dense layer.

    Attributes:
        kernel: float32 (steps, inputs, outputs), or (inputs, outputs) of a dense one, as Keras lays it out.
        bias: float32 (outputs,).
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights of a model that is the mean of one or several networks.

    Attributes:
        members: of each network the layers before its last, by the shape of the kernel.
        last: the last layer, which takes what the members have found beside each other.
    """

    members: tuple[dict[tuple[int, ...], Layer], ...]
    last: Layer


def dequantised(file: ModelFile) -> Weights:
    """Float weights of a model: each int8 number times the scale of its output channel, biases from int32 likewise.

    So says https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec; a weight is then off by half a
    step at most. The ranges of what flows between the layers are not needed: converting anew finds others.

    Raises:
        ModelError: the file is not what its hash says, or cannot be run.
        SensorhubError: it is no model that `sensorhub train` makes.
    """
    Model.load(file)  # the hash, the inputs, the output
    name = str(file.path)
    try:
        return _read(interpreter()(model_content=file.path.read_bytes(), num_threads=1))
    except (KeyError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise SensorhubError(
            f"the model {name} is not made as `sensorhub train` makes them ({error}), so nothing can go on from it; {_REMEDY}"
        ) from error


def unlike(name: str, why: str) -> SensorhubError:
    """What is said of a model whose weights do not fit."""
    return SensorhubError(f"the model {name} cannot be gone on from: {why}; {_REMEDY}")


def _read(ready: Any) -> Weights:
    tensors = {d["index"]: d for d in ready.get_tensor_details()}
    # the only account of which tensor feeds which; what a delegate has taken over stands in it as well
    operations = [op for op in ready._get_ops_details() if op["op_name"] != "DELEGATE"]
    made_by = {int(out): op for op in operations for out in op["outputs"]}

    def layer(op: dict[str, Any]) -> Layer:
        kernel, bias = (_float(ready, tensors[int(k)]) for k in op["inputs"][1:3])
        # from (outputs, 1, steps, inputs), of dense layers (outputs, inputs)
        kernel = kernel[:, 0].transpose(1, 2, 0) if kernel.ndim == 4 else kernel.T
        return Layer(np.ascontiguousarray(kernel), bias)

    def before(tensor: int, found: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """The layers by which a tensor comes about, each once."""
        op = made_by.get(tensor)
        if op is not None and int(op["index"]) not in found:
            if op["op_name"] in _LAYERS:
                found[int(op["index"])] = op
            for each in op["inputs"]:
                before(int(each), found)
        return found

    end = made_by[int(ready.get_output_details()[0]["index"])]
    while end["op_name"] not in _LAYERS:
        end = made_by[int(end["inputs"][0])]
    last = layer(end)
    if last.bias.size != len(CLASSES):
        raise ValueError(f"its last layer has {last.bias.size} outputs")
    joint = made_by[int(end["inputs"][0])]
    ends = joint["inputs"] if joint["op_name"] == "CONCATENATION" else [end["inputs"][0]]
    members = []
    for each in ends:
        layers = [layer(op) for op in before(int(each), {}).values()]
        by_shape = {one.kernel.shape: one for one in layers}
        if len(by_shape) != len(layers):
            raise ValueError("two of its layers have the same shape")
        members.append(by_shape)
    return Weights(tuple(members), last)


def _float(ready: Any, detail: dict[str, Any]) -> NDArray[np.float32]:
    """A constant tensor as float32, whatever it is stored as."""
    stored: NDArray[Any] = ready.get_tensor(detail["index"])
    if stored.dtype == np.float32:
        return stored.copy()
    told = detail["quantization_parameters"]
    scales, zeros = (told[k].astype(np.float64) for k in ("scales", "zero_points"))
    if stored.dtype not in (np.int8, np.int32) or not scales.size:
        raise ValueError(f"its tensor {detail['name']} is {stored.dtype} without a scale")
    shape = [1] * stored.ndim
    shape[int(told["quantized_dimension"])] = scales.size
    result: NDArray[np.float32] = (
        (stored.astype(np.float64) - zeros.reshape(shape)) * scales.reshape(shape)
    ).astype(np.float32)
    return result
