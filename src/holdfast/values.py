"""What `run.log` takes: numbers, and nothing that would have to be guessed into one."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from holdfast.errors import InvalidValue
from holdfast.names import check_key

MAX_STEP = 2**64 - 1


def is_plain(kind: type) -> bool:
    """True if every value of this type packs as a float64 as it is: float, int, numpy scalars."""
    return issubclass(kind, numbers.Real) and not issubclass(kind, bool)


def number(key: str, value: Any, step: object) -> float:
    """`value` as a float. Raises InvalidValue with the key, the type and the step."""
    if is_plain(type(value)) or isinstance(value, Decimal):
        return _float(key, value, step)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # numpy, torch, jax scalars
        inner = value.item()
        if is_plain(type(inner)):
            return _float(key, inner, step)
        value = inner
    raise InvalidValue(
        f"metric {key!r}{_at(step)}: {_described(value)} is not a number; {_advice(value)}",
        key=key,
        type=type(value).__name__,
        step=step,
    )


def _float(key: str, value: Any, step: object) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError) as error:
        raise InvalidValue(
            f"metric {key!r}{_at(step)}: {type(value).__name__} {str(value)[:40]} does not fit "
            "a 64-bit float",
            key=key,
            step=step,
        ) from error


def _at(step: object) -> str:
    return "" if step is None else f" at step {step}"


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape:
        return f"{type(value).__name__} of shape {tuple(shape)}"
    return f"{type(value).__name__} {str(value)[:40]!r}" if value is not None else "None"


def _advice(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return "log int(value) if you mean 0 or 1"
    if getattr(value, "shape", None):
        return "log one number such as its mean, or the whole of it with log_artifact"
    if isinstance(value, Mapping):
        return "log its entries under keys such as 'train/loss'"
    return "log a float or an int"


def checked(metrics: Any, step: object) -> dict[str, float]:
    """A dict of metrics with every key and value checked. Raises InvalidValue."""
    if not isinstance(metrics, Mapping) or not metrics:
        raise InvalidValue(
            f"log takes a dict of at least one metric, such as {{'loss': 0.3}}, not {metrics!r:.80}",
            step=step,
        )
    return {check_key("metric", key): number(key, value, step) for key, value in metrics.items()}


def checked_step(step: Any) -> int:
    """`step` as an int from 0 to 2**64-1. Raises InvalidValue."""
    index = None
    if not isinstance(step, bool) and hasattr(type(step), "__index__"):
        index = step.__index__()
    elif getattr(step, "ndim", None) == 0 and hasattr(step, "item"):
        inner = step.item()
        index = inner if type(inner) is int else None
    if index is None or not 0 <= index <= MAX_STEP:
        raise InvalidValue(
            f"step {step!r:.60} is not a whole number from 0 to 2**64-1: pass step=7 for example",
            step=step,
        )
    return int(index)
