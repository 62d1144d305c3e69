"""Real curves to measure with: small models that are really trained on the optical digits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.demo import digits

BATCH = 32
KEYS = [
    *("train/loss", "train/acc", "train/lr", "grad/norm", "weights/norm"),
    *("logits/max", "samples", "epoch", "seconds/step", "loss/smooth"),
]


def ten(steps: int, seed: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
    """(time in ns, ten metrics) for each step of training a small network, as a loop would log them:
    float32 losses and norms, a schedule, counters, a measured time."""
    data = digits.load(seed)["train"]
    images, labels = data.images.astype(np.float32), data.labels
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.1, (64, 32)).astype(np.float32)
    second = rng.normal(0, 0.1, (32, 10)).astype(np.float32)
    smooth, begun = 2.3, time.perf_counter()
    rows = np.arange(BATCH)
    for step in range(steps):
        pick = rng.integers(0, len(labels), BATCH)
        x, y = images[pick], labels[pick]
        hidden = np.maximum(x @ first, 0)
        logits = hidden @ second
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        chance = shifted / shifted.sum(axis=1, keepdims=True)
        loss = -np.log(chance[rows, y] + np.float32(1e-9)).mean()
        chance[rows, y] -= 1
        chance /= BATCH
        slope = chance @ second.T * (hidden > 0)
        grads = x.T @ slope, hidden.T @ chance
        rate = 0.05 * (1 + np.cos(np.pi * step / steps)) / 2
        first -= np.float32(rate) * grads[0]
        second -= np.float32(rate) * grads[1]
        smooth = 0.99 * smooth + 0.01 * float(loss)
        now = time.perf_counter()
        norm = np.sqrt((grads[0] ** 2).sum() + (grads[1] ** 2).sum())
        weight = np.sqrt((first**2).sum() + (second**2).sum())
        right = int((logits.argmax(axis=1) == y).sum())
        values = (loss, right / BATCH, rate, norm, weight, logits.max(), step * BATCH,
                  step * BATCH / len(labels), now - begun, smooth)  # fmt: skip
        begun = now
        yield time.time_ns() // 1000 * 1000, dict(zip(KEYS, map(float, values), strict=True))


@lru_cache(maxsize=2)  # several sections measure with the same ones
def long(steps: int, models: int = 10, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """(times, float32 losses) of `models` softmax regressions trained side by side on minibatches,
    their curves of steps / models points one behind the other; the times are those measured."""
    data = digits.load(seed)["train"]
    images, labels = data.images.astype(np.float32), data.labels
    rng = np.random.default_rng(seed)
    weights = np.zeros((models, 64, 10), np.float32)
    each = -(-steps // models)
    losses, times = np.empty((models, each), np.float32), np.empty(each, np.int64)
    model, row = np.arange(models)[:, None], np.arange(BATCH)
    for step in range(each):
        pick = rng.integers(0, len(labels), (models, BATCH))
        x, y = images[pick], labels[pick]
        chance = np.exp(x @ weights)
        chance /= chance.sum(axis=2, keepdims=True)
        losses[:, step] = -np.log(chance[model, row, y]).mean(axis=1)
        chance[model, row, y] -= 1
        weights -= np.float32(0.2 / BATCH) * (x.transpose(0, 2, 1) @ chance)
        times[step] = time.time_ns() // 1000 * 1000
    span = times[-1] - times[0] + np.diff(times).mean().astype(np.int64)
    shifted = times + np.arange(models)[:, None] * (span // 1000 * 1000)
    return shifted.ravel()[:steps], losses.ravel()[:steps]
