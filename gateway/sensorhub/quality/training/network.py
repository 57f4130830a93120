"""The network: its shape, its training, its conversion to int8 (TensorFlow)."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorhub.errors import SensorhubError
from sensorhub.quality.evidence import ASIDE, CHANNELS, LONG, LONG_CHANNELS, WINDOW
from sensorhub.quality.model import CLASSES, INPUTS, LOCAL, Model, ModelFile
from sensorhub.quality.training.dequantise import dequantised, unlike
from sensorhub.quality.training.examples import Examples

BATCH = 512
#: Steps of the window's end that the dense layers see directly.
_LAST = 4
#: What each fault class weighs in all, where all clean readings together weigh 1.
CLASS_WEIGHT = 0.12
#: And what local events weigh.
LOCAL_WEIGHT = 0.25
#: No single row weighs more than this many average ones.
MOST_WEIGHT = 50.0
#: Rows by which a model that was rebuilt is compared with its file, and the correlation of logits that is enough.
_PROBED = 256
_ALIKE = 0.9


def tensorflow() -> Any:
    """The TensorFlow module, quiet and with fixed operations.

    Raises:
        SensorhubError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        tf: Any = importlib.import_module("tensorflow")
    except ImportError as error:
        raise SensorhubError(
            f"training needs TensorFlow: pip install 'sensorhub[train]' ({error})"
        ) from error
    tf.get_logger().setLevel("ERROR")
    return tf


def build(width: int = 24) -> Any:
    """An untrained Keras model: the three inputs of `Evidence` to logits (n, 9)."""
    keras = tensorflow().keras
    layers = keras.layers
    window = layers.Input((WINDOW, CHANNELS), name="window")
    long = layers.Input((LONG, LONG_CHANNELS), name="long")
    aside = layers.Input((ASIDE,), name="aside")
    # no dropout: single numbers, such as the agreement with an earlier day, decide a class (it cost .07 AP)
    x = layers.Conv1D(width, 5, activation="relu")(window)
    x = layers.Conv1D(width, 4, strides=2, activation="relu")(x)
    x = layers.Conv1D(32, 3, strides=2, activation="relu")(x)
    y = layers.Conv1D(12, 6, strides=3, activation="relu")(long)
    y = layers.Conv1D(12, 3, strides=2, activation="relu")(y)
    end = layers.Flatten()(layers.Cropping1D((WINDOW - _LAST, 0))(window))
    x = layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(y), end, aside])
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dense(48, activation="relu")(x)
    return keras.Model([window, long, aside], layers.Dense(len(CLASSES))(x))


def weights_of(examples: Examples) -> NDArray[np.float32]:
    """Weight of each row: the same for every class of every source and channel, whatever its length."""
    weight = examples.weight.astype(np.float64)
    for origin in np.unique(examples.origin):
        mine = examples.origin == origin
        for number in range(len(CLASSES)):
            rows = mine & (examples.label == number)
            if rows.any():
                whole = {0: 1.0, LOCAL: LOCAL_WEIGHT}.get(number, CLASS_WEIGHT)
                weight[rows] *= whole / weight[rows].sum()
    held: NDArray[np.float32] = np.minimum(weight / weight.mean(), MOST_WEIGHT).astype(np.float32)
    return held


def fit(
    examples: Examples,
    *,
    seed: int,
    epochs: int,
    start: Any = None,
    rate: float = 2e-3,
    progress: Callable[[int, float], None] | None = None,
) -> Any:
    """A trained Keras model. The same examples and seed give the same model on the same machine.

    Args:
        examples: what to learn from.
        seed: for the first weights and the order of the rows.
        epochs: how often every row is seen.
        start: a model to go on from (fine-tuning).
        rate: first learning rate; it falls to zero as half a cosine wave.
        progress: is told the epoch and its loss.
    """
    tf = tensorflow()
    keras = tf.keras
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = build() if start is None else start
    n = examples.label.size
    batch = min(BATCH, n)
    weight = weights_of(examples)
    steps = max(1, n // batch)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(rate, steps * epochs),
            clipnorm=1.0,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng(seed)
    order = np.zeros(0, np.int64)

    def batches() -> Any:
        nonlocal order
        for _ in range(steps):
            if order.size < batch:
                order = rng.permutation(n)
            rows, order = np.sort(order[:batch]), order[batch:]
            yield (
                (examples.window[rows], examples.long[rows], examples.aside[rows]),
                examples.label[rows].astype(np.int32),
                weight[rows],
            )

    halves = tuple(tf.TensorSpec((None, *shape), tf.float16) for shape in INPUTS)
    signature = (halves, tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,), tf.float32))
    data = tf.data.Dataset.from_generator(batches, output_signature=signature).map(
        lambda x, y, w: (tuple(tf.cast(part, tf.float32) for part in x), y, w)
    )
    told = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: progress(epoch + 1, float(logs["loss"])) if progress else None
    )
    with warnings.catch_warnings(action="ignore"):  # of an order of rows that is ours already
        model.fit(
            data.repeat().prefetch(2), epochs=epochs, steps_per_epoch=steps, verbose=0, callbacks=[told]
        )
    return model


def together(models: list[Any]) -> Any:
    """One Keras model whose logits are the mean of several of `build`'s, which were trained from other first weights.

    Where they differ they mostly remember accidents of the training readings; the mean remembers fewer.
    """
    if len(models) == 1:
        return models[0]
    keras = tensorflow().keras
    layers = keras.layers
    inputs = [
        layers.Input(tensor.shape[1:], name=tensor.name.partition(":")[0]) for tensor in models[0].inputs
    ]
    ends = []
    for number, one in enumerate(models):
        body = keras.Model(one.inputs, one.layers[-1].input, name=f"member_{number}")
        ends.append(body(inputs))
    last = layers.Dense(len(CLASSES))
    merged = keras.Model(inputs, last(layers.Concatenate()(ends)))
    kernels, biases = zip(*(one.layers[-1].get_weights() for one in models), strict=True)
    last.set_weights([np.concatenate(kernels) / len(models), np.mean(biases, axis=0)])
    return merged


def rebuilt(file: ModelFile) -> Any:
    """The float Keras model that a .tflite model was made of, as near as its int8 weights tell it; for `fit` to go on from.

    Raises:
        SensorhubError: the file is not what its hash says, or not made of networks as `build` and `together` make them.
    """
    name, found = str(file.path), dequantised(file)
    width, parts = len(found.last.kernel) // len(found.members), []
    for number, layers in enumerate(found.members):
        one, left = build(), dict(layers)
        for own in one.layers[:-1]:
            if own.get_weights():
                kernel, bias = own.get_weights()
                layer = left.pop(kernel.shape, None)
                if layer is None or layer.bias.shape != bias.shape:
                    raise unlike(name, f"it has no layer of the shape {kernel.shape}")
                own.set_weights([layer.kernel, layer.bias])
        if left:
            raise unlike(name, f"its layers of the shapes {', '.join(map(str, left))} are none of ours")
        # the mean of the members: each has its share of the last layer, and all have its bias
        kernel = found.last.kernel[number * width : (number + 1) * width] * len(found.members)
        if kernel.shape != one.layers[-1].get_weights()[0].shape:
            raise unlike(name, f"its last layer has the shape {found.last.kernel.shape}")
        one.layers[-1].set_weights([kernel, found.last.bias])
        parts.append(one)
    model = together(parts)
    # the same layers could be put together in other ways
    rng = np.random.default_rng(0)
    rows = [rng.normal(0, 1, (_PROBED, *shape)).astype(np.float32) for shape in INPUTS]
    alike = np.corrcoef(model.predict(rows, verbose=0).ravel(), Model.load(file).logits(*rows).ravel())[0, 1]
    if not alike > _ALIKE:
        raise unlike(
            name, "the same inputs give other outputs, so its layers are put together in another way"
        )
    return model


def shift(model: Any, odds: float) -> None:
    """Adds `odds` to the clean logit, so that models that were trained on other data have their zero at about the same rate of alarms."""
    kernel, bias = model.layers[-1].get_weights()
    bias[0] += odds
    model.layers[-1].set_weights([kernel, bias])


def convert(model: Any, examples: Examples, seed: int) -> bytes:
    """The model as int8 .tflite with float inputs and outputs; examples set the ranges."""
    tf = tensorflow()
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(examples.label.size, min(3000, examples.label.size), replace=False))

    names = ("window", "long", "aside")

    def representative() -> Any:
        for row in rows:
            yield {name: getattr(examples, name)[row : row + 1].astype(np.float32) for name in names}

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    # Keras lists every tensor of what it hands over, and TensorFlow advises of its own next release
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        return bytes(converter.convert())
