"""Checkpoints of a run: a state as a file, under a key with its step, and which of them are kept.

The manifest has a section `checkpoints` with `{key: {step, attempt, metrics}}` beside the artifacts. Which
names go is decided on the state that the change is made to, so a resumed run goes on where it was.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from holdfast import arrays
from holdfast.errors import ArtifactNotFound, InvalidValue, MissingDependency
from holdfast.format.manifest import State

FORMATS = ("safetensors", "torch")
SECTION = "checkpoints"


@dataclass(frozen=True, slots=True)
class Best:
    """The `count` checkpoints with the lowest (`min`) or highest (`max`) value of a metric."""

    metric: str
    mode: str
    count: int

    @classmethod
    def of(cls, wanted: Any) -> Best | None:
        """From (metric, "min" or "max", count). Raises InvalidValue."""
        if wanted is None:
            return None
        if not isinstance(wanted, (tuple, list)) or len(wanted) != 3:
            raise InvalidValue(f'keep_best={wanted!r}: give ("val/loss", "min", 3)')
        metric, mode, count = wanted
        if not isinstance(metric, str) or mode not in ("min", "max"):
            raise InvalidValue(f'keep_best={wanted!r}: give a metric, and "min" or "max"')
        return cls(metric, mode, checked_count("keep_best", count) or 1)

    def rank(self, about: Mapping[str, Any]) -> float:
        """The lower the better; infinite when it has no value."""
        value = about.get("metrics", {}).get(self.metric)
        if value is None or value != value:
            return float("inf")
        return float(value if self.mode == "min" else -value)


def checked_count(name: str, count: Any) -> int | None:
    """How many to keep, None for all. Raises InvalidValue."""
    if count is None or (type(count) is int and count >= 1):
        return count
    raise InvalidValue(f"{name}={count!r}: give a whole number from 1 on")


def kept(keep_last: int | None, best: Best | None) -> int | None:
    """How many checkpoints keep their names at most, None for all."""
    if keep_last is None and best is None:
        return None
    return (keep_last or 1) + (best.count if best else 0)


def superfluous(known: Mapping[str, Any], keep_last: int | None, best: Best | None) -> list[str]:
    """The keys that are neither among the last nor among the best; none if neither is limited."""
    if keep_last is None and best is None:
        return []
    in_order = sorted(known, key=lambda key: _age(known[key]))
    kept = set(in_order[-keep_last:] if keep_last else in_order[-1:])
    if best is not None:
        newest_first = in_order[::-1]  # of equal ones the newer stay
        kept |= set(sorted(newest_first, key=lambda key: best.rank(known[key]))[: best.count])
    return [key for key in in_order if key not in kept]


def change(
    state: State,
    key: str,
    artifact: Mapping[str, Any],
    about: Mapping[str, Any],
    keep_last: int | None,
    best: Best | None,
) -> State:
    """The change of a manifest that adds a checkpoint and takes the names of those that go away."""
    known = {**state.get(SECTION, {}), key: about}
    gone = superfluous(known, keep_last, best)
    return {
        "artifacts": {key: dict(artifact)} | dict.fromkeys(gone),
        SECTION: {key: dict(about)} | dict.fromkeys(gone),
    }


def _age(about: Mapping[str, Any]) -> tuple[int, int]:
    """What a later attempt wrote is newer, whatever its step."""
    return about["attempt"], about["step"]


def choose(state: State, which: int | str | None, run_id: str) -> str:
    """The key of the checkpoint of a step, of the last (also None), or of the best one.

    Raises ArtifactNotFound, and InvalidValue when `best` was never defined."""
    known = state.get(SECTION, {})
    if not known:
        raise ArtifactNotFound(f"run {run_id} has no checkpoints", run_id=run_id)
    in_order = sorted(known, key=lambda key: _age(known[key]))
    if which is None or which == "last":
        return in_order[-1]
    if which == "best":
        return _best(known, in_order, run_id)
    found = [key for key in in_order if known[key]["step"] == which]
    if not found:
        steps = ", ".join(str(known[key]["step"]) for key in in_order)
        raise ArtifactNotFound(
            f"run {run_id} has no checkpoint of step {which!r}; it has {steps}", run_id=run_id
        )
    return found[-1]


def _best(known: Mapping[str, Any], in_order: list[str], run_id: str) -> str:
    rule = next((known[key]["best"] for key in reversed(in_order) if "best" in known[key]), None)
    if rule is None:
        raise InvalidValue(f"run {run_id} has no best checkpoint: log them with keep_best=")
    best = Best(rule["metric"], rule["mode"], 1)
    return min(reversed(in_order), key=lambda key: best.rank(known[key]))


# States as files.


@contextmanager
def as_file(state: Any, format: str | None) -> Iterator[Path]:
    """The path of a file (or directory) with the state: what was saved already as it is, all else in a
    temporary file. Raises InvalidValue, MissingDependency."""
    if isinstance(state, (str, os.PathLike)):
        yield Path(state)
        return
    if not isinstance(state, Mapping) and callable(getattr(state, "state_dict", None)):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise InvalidValue(
            "a checkpoint is a module, a state_dict, a map of arrays or a path, not "
            f"{type(state).__name__}"
        )
    chosen = _format(state, format)
    with TemporaryDirectory(prefix="holdfast-") as folder:
        path = Path(folder) / ("model.safetensors" if chosen == "safetensors" else "model.pt")
        if chosen == "torch":
            _torch().save(state, path)
        else:
            with open(path, "wb") as file:
                write_safetensors(file, state)
        yield path


def _format(state: Mapping[Any, Any], format: str | None) -> str:
    """safetensors for a flat map of tensors, torch for anything else, unless one is asked for."""
    if format not in (None, *FORMATS):
        raise InvalidValue(f"format={format!r}: give {' or '.join(FORMATS)}")
    odd = next((key for key, value in state.items() if not _is_tensor(key, value)), None)
    flat = odd is None and bool(state)
    if format == "safetensors" and not flat:
        raise InvalidValue(
            f"the entry {odd!r} of the checkpoint is no tensor with a name, which safetensors cannot "
            'hold: use format="torch"'
        )
    return format or ("safetensors" if flat else "torch")


def _is_tensor(key: Any, value: Any) -> bool:
    return isinstance(key, str) and hasattr(value, "dtype") and hasattr(value, "shape")


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            "a nested checkpoint is written by torch, which is not installed: pip install torch, or "
            "give a flat map of arrays",
            missing="torch",
        ) from error
    return torch


def write_safetensors(file: BinaryIO, state: Mapping[str, Any]) -> None:
    """Arrays of numpy or tensors of torch in the format of safetensors, one in memory at a time.

    The widest types come first, so that each begins at a multiple of its width. Raises InvalidValue."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    names = sorted(state, key=lambda name: (-_width(state[name]), name))
    for name in names:
        dtype, shape, size = _about(name, state[name])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in names:
        file.write(_raw(name, state[name])[2].data)


def _width(value: Any) -> int:
    return int(value.dtype.itemsize)


def _about(name: str, value: Any) -> tuple[str, list[int], int]:
    """(dtype, shape, bytes), without copying a tensor from where it is."""
    empty = value[:0] if len(value.shape) else value
    dtype, _, _ = _raw(name, empty)
    size = _width(value)
    for length in value.shape:
        size *= int(length)
    return dtype, [int(length) for length in value.shape], size


def _raw(name: str, value: Any) -> tuple[str, tuple[int, ...], Any]:
    try:
        return (arrays.from_torch if hasattr(value, "detach") else arrays.from_numpy)(value)
    except (TypeError, StopIteration) as error:
        raise InvalidValue(
            f"the entry {name!r} of the checkpoint, of type {value.dtype}, cannot be stored as "
            "safetensors"
        ) from error
