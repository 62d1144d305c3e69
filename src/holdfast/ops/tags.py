"""Tags and configs as users hand them in, made into what a manifest can hold."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.errors import InvalidValue
from holdfast.names import check_key


def checked_tags(tags: Mapping[str, Any] | Iterable[str] | None) -> dict[str, Any]:
    """`{tag: str | int | float | bool}` from a dict, or from a list of names (which become True)."""
    if tags is None:
        return {}
    if isinstance(tags, str):
        raise InvalidValue(f"tags={tags!r}: give a dict or a list of names, such as [{tags!r}]")
    pairs = tags if isinstance(tags, Mapping) else dict.fromkeys(tags, True)
    for key, value in pairs.items():
        check_key("tag", key)
        if value is not None and not isinstance(value, (str, int, float, bool)):
            raise InvalidValue(
                f"tag {key!r}: {type(value).__name__} is no text, number or bool", key=key
            )
    return dict(pairs)


def checked_config(config: Any) -> dict[str, Any]:
    """A config as plain JSON-like values, from a dict, dataclass or argparse.Namespace."""
    if config is None:
        return {}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    elif isinstance(config, Namespace):
        config = vars(config)
    if not isinstance(config, Mapping):
        raise InvalidValue(
            f"a config is a dict, a dataclass or an argparse.Namespace, not {type(config).__name__}"
        )
    return {key: _plain(value, f"config.{key}") for key, value in _pairs(config, "config")}


def _pairs(mapping: Mapping[Any, Any], path: str) -> Iterable[tuple[str, Any]]:
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise InvalidValue(f"{path}: the key {key!r} is {type(key).__name__}, not text")
        yield key, value


def _plain(value: Any, path: str, depth: int = 0) -> Any:
    if depth > 32:
        raise InvalidValue(f"{path} is nested more than 32 levels deep", path=path)
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, int):
        return _whole(int(value), path)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {k: _plain(v, f"{path}.{k}", depth + 1) for k, v in _pairs(value, path)}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value) if isinstance(value, (set, frozenset)) else value
        return [_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)]
    if hasattr(value, "__fspath__"):
        return str(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _plain(value.item(), path, depth + 1)
    raise InvalidValue(
        f"{path} is a {type(value).__name__}: a config holds text, numbers, bools, None, lists and "
        "dicts; pass str() of it",
        path=path,
    )


def _whole(value: int, path: str) -> int:
    if not -(2**63) <= value < 2**64:
        raise InvalidValue(f"{path} = {value:.3e} does not fit 64 bits: pass it as text", path=path)
    return value
