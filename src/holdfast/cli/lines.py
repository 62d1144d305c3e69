"""JSON lines of metrics, as `holdfast log` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidValue
from holdfast.timestamp import Timestamp

if TYPE_CHECKING:
    from holdfast import Run

_WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def log_line(run: Run, raw: bytes) -> str | None:
    """Log one line; returns what is wrong with it, or None. Raises only what stops every line."""
    try:
        step, timestamp, metrics = parse(raw)
        run.log(metrics, step, timestamp)
    except InvalidValue as error:
        return error.message
    return None


def parse(raw: bytes) -> tuple[int | None, int | None, dict[str, Any]]:
    """(step, timestamp in ns, metrics) of a line. Raises InvalidValue."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "not UTF-8 text, or nested too deep"
        raise InvalidValue(f"this is not JSON ({reason}): {_short(raw)}") from error
    if not isinstance(found, dict):
        raise InvalidValue(f'a line is an object such as {{"loss": 0.5}}, not {_short(raw)}')
    step, at = found.pop("step", None), found.pop("timestamp", None)
    return step, _timestamp(at), dict(_flat(found, ""))


def _short(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace").strip()
    return text if len(text) <= 60 else text[:60] + "…"


def _timestamp(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, (bool, float)):
        raise InvalidValue(f'"timestamp" is text (RFC 3339) or whole ns since 1970, not {value!r}')
    at = Timestamp.from_any(value).ns
    if not -(2**63) <= at < 2**63:
        raise InvalidValue(f"timestamp {value} is outside the years 1677 to 2262")
    return at


def _flat(values: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", _WORDS.get(value, value) if isinstance(value, str) else value


def read_config(text: str | None) -> dict[str, Any] | None:
    """A config from JSON text or from `@file`. Raises InvalidValue."""
    if text is None:
        return None
    place = text[1:] if text.startswith("@") else "--config"
    if text.startswith("@"):
        text = Path(place).read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidValue(f"{place} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidValue(f"{place} is not a JSON object but {type(found).__name__}")
    return found


def read_tags(words: tuple[str, ...]) -> dict[str, Any]:
    """Tags from `key=value` or `key`; a value that is a JSON number or bool counts as one."""
    return {key: _value(value) if found else True for key, found, value in map(_split, words)}


def _split(word: str) -> tuple[str, str, str]:
    return word.partition("=")


def _value(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, (int, float, bool)) else text
