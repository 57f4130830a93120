"""The float weights in a .tflite model, and going on from them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from sensorhub.errors import SensorhubError
from sensorhub.quality import benchmark
from sensorhub.quality.model import CLASSES, INPUTS, Model, ModelFile, shipped
from sensorhub.quality.table import gather
from sensorhub.quality.training.dequantise import dequantised


@pytest.fixture(scope="module")
def rows() -> list[np.ndarray]:
    """Window, long and aside of 360 readings of the packaged sample, 40 of each class.

    What int8 makes of numbers is only defined in the range that evidence has.
    """
    case = benchmark.sample(6)
    found, order = gather(case.node, case.channel, case.time, case.value, case.latitude, case.longitude)
    label, rng = case.label[order], np.random.default_rng(6)
    chosen = np.concatenate(
        [
            rng.choice(np.flatnonzero(found.known & (label == number)), 40, replace=False)
            for number in range(len(CLASSES))
        ]
    )
    told = found.of(chosen)
    return [told.window, told.long, told.aside]


def convolved(x, layer, step: int):
    kernel = layer.kernel
    ends = range(0, x.shape[1] - len(kernel) + 1, step)
    y = np.stack([np.einsum("nki,kio->no", x[:, a : a + len(kernel)], kernel) for a in ends], axis=1)
    return np.maximum(y + layer.bias, 0)


def by_hand(weights, window, long, aside) -> np.ndarray:
    """Logits of the shipped network, worked out without any of its run times."""
    found = []
    for member in weights.members:
        x = convolved(window, member[5, 8, 24], 1)
        x = convolved(x, member[4, 24, 24], 2)
        x = convolved(x, member[3, 24, 32], 2)
        y = convolved(convolved(long, member[6, 2, 12], 3), member[3, 12, 12], 2)
        n = len(window)
        z = np.concatenate((x.reshape(n, -1), y.reshape(n, -1), window[:, -4:].reshape(n, -1), aside), axis=1)
        for shape in ((364, 128), (128, 48)):
            z = np.maximum(z @ member[shape].kernel + member[shape].bias, 0)
        found.append(z)
    return np.concatenate(found, axis=1) @ weights.last.kernel + weights.last.bias


def test_the_weights_in_the_shipped_file_give_its_logits(rows):
    weights = dequantised(shipped())
    assert len(weights.members) == 2
    assert weights.last.kernel.shape == (96, len(CLASSES))
    float_logits, int8 = by_hand(weights, *rows), Model.load(shipped()).logits(*rows)
    assert np.corrcoef(float_logits.ravel(), int8.ravel())[0, 1] > 0.999
    assert np.abs(float_logits - int8).mean() < 0.03 * int8.std()


def test_a_file_with_another_hash_is_refused():
    with pytest.raises(SensorhubError, match="refused"):
        dequantised(ModelFile(shipped().path, "0" * 64))


def test_a_keras_model_is_rebuilt_and_gone_on_from(rows):
    pytest.importorskip("tensorflow")
    from sensorhub.quality.training import network

    model = network.rebuilt(shipped())
    told, int8 = model.predict(rows, verbose=0), Model.load(shipped()).logits(*rows)
    assert np.corrcoef(told.ravel(), int8.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(told, by_hand(dequantised(shipped()), *rows), atol=1e-3)


def test_a_model_of_another_build_is_named(tmp_path):
    tf = pytest.importorskip("tensorflow")
    from sensorhub.quality.training import network

    layers = tf.keras.layers
    heads = [
        layers.Input(shape, name=n) for n, shape in zip(("window", "long", "aside"), INPUTS, strict=True)
    ]
    flat = layers.Concatenate()([layers.Flatten()(h) for h in heads])
    other = tf.keras.Model(heads, layers.Dense(len(CLASSES))(layers.Dense(8, activation="relu")(flat)))
    data = tf.lite.TFLiteConverter.from_keras_model(other).convert()
    path = tmp_path / "other.tflite"
    path.write_bytes(data)
    file = ModelFile(path, hashlib.sha256(data).hexdigest())
    Model.load(file)
    with pytest.raises(SensorhubError, match=r"other\.tflite.*--fresh"):
        network.rebuilt(file)
