"""The seed's JSON, byte for byte: compact, keys as given, floats and escapes as serde_json writes them.

Python's own writer differs in the form of floats and in what it escapes, so this one is ours.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from holdfast.errors import InvalidValue

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_ESCAPED = re.compile('["\\\\\x00-\x1f]')
MAX_DEPTH = 64


def text(value: str) -> str:
    """A JSON string."""
    return '"' + _ESCAPED.sub(lambda m: _ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", value) + '"'


def number(value: float) -> str:
    """A float: shortest digits, positional with a fraction part when 1e-5 <= |x| < 1e16; NaN and
    infinities, which JSON lacks, are null."""
    if not math.isfinite(value):
        return "null"
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign + "0.0"
    exponent = _exponent(whole, fraction, int(power or 0))
    digits = digits.rstrip("0") or "0"
    return sign + (
        _positional(digits, exponent) if -5 <= exponent <= 15 else _scientific(digits, exponent)
    )


def _exponent(whole: str, fraction: str, power: int) -> int:
    """The decimal exponent of the first digit that is not 0."""
    if whole.lstrip("0"):
        return len(whole.lstrip("0")) - 1 + power
    return -(len(fraction) - len(fraction.lstrip("0")) + 1) + power


def _positional(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    return f"{whole}.{digits[exponent + 1 :] or '0'}"


def _scientific(digits: str, exponent: int) -> str:
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent > 0 else ''}{exponent}"


def dump(value: Any, path: str = "config", depth: int = 0) -> str:
    """Any JSON value, keys sorted by their bytes at every level. Raises InvalidValue, with the path,
    for what JSON does not have."""
    if depth > MAX_DEPTH:
        raise InvalidValue(
            f"{path} is nested more than {MAX_DEPTH} levels deep: flatten it", path=path
        )
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "{" + ",".join(_pair(k, value[k], path, depth) for k in _keys(value, path)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(dump(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)) + "]"
    raise InvalidValue(
        f"{path} is a {type(value).__name__}, which JSON does not have: pass text, a number, a bool, "
        "None, a list or a dict",
        path=path,
    )


def _keys(value: dict[Any, Any], path: str) -> list[str]:
    for key in value:
        if not isinstance(key, str):
            raise InvalidValue(f"{path}: the key {key!r} is not text", path=path)
    return sorted(value)


def _pair(key: str, value: Any, path: str, depth: int) -> str:
    return f"{text(key)}:{dump(value, f'{path}.{key}', depth + 1)}"


def load(line: str | bytes, kind: str) -> dict[str, Any]:
    """A JSON object. Raises InvalidValue, saying where the JSON breaks."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"this is no JSON of {kind}: {error}", kind=kind) from error
    if not isinstance(found, dict):
        raise InvalidValue(f"{kind} is a JSON object, not {type(found).__name__}", kind=kind)
    return found
