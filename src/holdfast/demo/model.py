"""A small multi-layer perceptron in numpy, trained by gradient descent; big enough to be real."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from holdfast.demo.digits import Array, Split


@dataclass(slots=True)
class Model:
    """Weights (in, out) and biases (out,) of each layer; ReLU between them, softmax at the end."""

    weights: list[Array]
    biases: list[Array]
    velocity: list[Array] = field(default_factory=list)

    @classmethod
    def new(cls, sizes: list[int], seed: int) -> Model:
        rng = np.random.default_rng(seed)
        pairs = list(itertools.pairwise(sizes))
        weights = [rng.normal(0, np.sqrt(2 / a), (a, b)) for a, b in pairs]
        return cls(weights, [np.zeros(b) for _, b in pairs])

    def forward(self, images: Array) -> list[Array]:
        """The input of each layer, then the probabilities (n, 10)."""
        found = [images]
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = found[-1] @ weight + bias
            found.append(np.maximum(out, 0) if number < len(self.weights) - 1 else _softmax(out))
        return found

    def step(self, batch: Split, lr: float, momentum: float, decay: float) -> tuple[float, float]:
        """One step of descent; returns the loss before it and the norm of the gradient."""
        layers = self.forward(batch.images)
        rows = np.arange(len(batch.labels))
        loss = -np.log(layers[-1][rows, batch.labels] + 1e-12).mean()
        delta = layers[-1].copy()
        delta[rows, batch.labels] -= 1
        delta /= len(rows)
        gradients: list[Array] = []
        for number in reversed(range(len(self.weights))):
            gradients[:0] = [
                layers[number].T @ delta + decay * self.weights[number],
                delta.sum(0),
            ]
            delta = (delta @ self.weights[number].T) * (layers[number] > 0)
        self._move(gradients, lr, momentum)
        return float(loss), float(np.sqrt(sum((g * g).sum() for g in gradients)))

    def _move(self, gradients: list[Array], lr: float, momentum: float) -> None:
        if not self.velocity:
            self.velocity = [np.zeros_like(gradient) for gradient in gradients]
        values = [v for pair in zip(self.weights, self.biases, strict=True) for v in pair]
        for value, speed, gradient in zip(values, self.velocity, gradients, strict=True):
            speed *= momentum
            speed -= lr * gradient
            value += speed

    def evaluate(self, split: Split) -> tuple[float, float]:
        """(mean loss, accuracy)."""
        chances = self.forward(split.images)[-1]
        rows = np.arange(len(split.labels))
        loss = -np.log(chances[rows, split.labels] + 1e-12).mean()
        return float(loss), float((chances.argmax(1) == split.labels).mean())

    def confusion(self, split: Split) -> str:
        """A CSV table: rows are true digits, columns what was predicted."""
        table = np.zeros((10, 10), int)
        np.add.at(table, (split.labels, self.forward(split.images)[-1].argmax(1)), 1)
        head = ",".join(["true", *map(str, range(10))])
        rows = [",".join(map(str, [digit, *row])) for digit, row in enumerate(table.tolist())]
        return "\n".join([head, *rows, ""])

    def to_bytes(self) -> bytes:
        """A checkpoint (.npz)."""
        out = io.BytesIO()
        arrays = {f"w{i}": w for i, w in enumerate(self.weights)}
        arrays |= {f"b{i}": b for i, b in enumerate(self.biases)}
        np.savez(out, **arrays)  # type: ignore[arg-type]  # numpy's stubs forbid **arrays
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Model:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            layers = len(arrays.files) // 2
            weights = [arrays[f"w{i}"] for i in range(layers)]
            return cls(weights, [arrays[f"b{i}"] for i in range(layers)])


def _softmax(scores: Array) -> Array:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def batches(split: Split, size: int, seed: int) -> Iterator[Split]:
    """The split once, shuffled."""
    order = np.random.default_rng(seed).permutation(len(split.labels))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        yield Split(split.images[part], split.labels[part])
