"""From the state of a manifest to rows of the catalog.

Manifests come from anyone, so a value of a kind that does not belong there counts as missing.
"""

from __future__ import annotations

import operator
import zlib
from dataclasses import dataclass
from typing import Any

import msgpack

from holdfast.query_fields import STATISTICS
from holdfast.query_value import number

State = dict[str, dict[str, Any]]
Pair = tuple[int | float | None, str | None]
Stats = tuple[int | float | None, ...]
_ALL_STATISTICS = operator.itemgetter(*STATISTICS)
_PLAIN = frozenset({int, float})
_BIG = 1 << 63  # the first whole number that SQLite cannot hold
_LIST_ITEMS = 64  # of one list in a config; the rest of a longer one is not searchable


@dataclass(frozen=True, slots=True)
class Flat:
    """What of a state can be asked for, by path."""

    fields: dict[str, Pair]
    metrics: dict[str, Stats]

    @classmethod
    def of(cls, state: State) -> Flat:
        return cls(_fields(state), _metrics(state))


def _fields(state: State) -> dict[str, Pair]:
    fields: dict[str, Pair] = {}
    for section in ("config", "tags"):
        _add_leaves(fields, section, state.get(section) or {})
    for section in ("artifacts", "inputs"):
        for key, of in (state.get(section) or {}).items():
            if isinstance(of, dict):
                fields[f"{section}.{key}"] = (_num(of.get("size_bytes")), _text(of.get("digest")))
    return fields


def _metrics(state: State) -> dict[str, Stats]:
    metrics = state.get("metrics") or {}
    return {f"metrics.{key}": _stats(of) for key, of in metrics.items() if isinstance(of, dict)}


def _stats(statistics: dict[str, Any]) -> Stats:
    # Mostly all are there and plain, which is quick to see; this runs for every metric of every run.
    try:
        values = _ALL_STATISTICS(statistics)
        if _PLAIN.issuperset(map(type, values)) and max(values[-4:]) < _BIG:
            return tuple(values)
    except KeyError:
        pass
    return tuple([_num(statistics.get(name)) for name in STATISTICS])


def _add_leaves(fields: dict[str, Pair], group: str, values: dict[str, Any]) -> None:
    for key, value in values.items():
        path = f"{group}.{key}"
        if type(value) is float:
            fields[path] = (value, None)
        elif isinstance(value, str):
            fields[path] = (None, value)
        elif isinstance(value, (int, float)):
            fields[path] = (number(value), None)
        elif isinstance(value, dict) and value:
            _add_leaves(fields, path, value)
        elif isinstance(value, (list, tuple)) and value:
            items = value[:_LIST_ITEMS]
            _add_leaves(fields, path, {str(index): item for index, item in enumerate(items)})
        else:
            fields[path] = (None, None)  # None, bytes, an empty group: there, but not comparable


def run_columns(state: State) -> tuple[Any, ...]:
    """experiment_id, name, status, created_at, started_at, ended_at, duration, deleted."""
    run = state.get("run") or {}
    started, ended = _time(run.get("started_at")), _time(run.get("ended_at"))
    return (
        _text(run.get("experiment_id")) or "",
        _text(run.get("name")),
        _text(run.get("status")) or "",
        _time(run.get("created_at")) or 0,
        started,
        ended,
        None if started is None or ended is None else (ended - started) / 1e9,
        run.get("deleted_at") is not None,
    )


def about_columns(state: State) -> tuple[Any, ...]:
    """The columns of `about`, in the order of ABOUT."""
    run, source = state.get("run") or {}, state.get("source") or {}
    error, command, git = _map(run, "error"), _map(source, "command"), _map(source, "git")
    argv = command.get("argv")
    return (
        _text(run.get("note")),
        _text(error.get("type")),
        _text(error.get("message")),
        " ".join(map(str, argv)) if isinstance(argv, list) else None,
        _text(command.get("directory")),
        _text(git.get("commit")),
        _text(git.get("branch")),
        _num(git.get("dirty")),
        _text(_map(source, "python").get("version")),
        _text(_map(source, "platform").get("system")),
    )


def _map(section: dict[str, Any], key: str) -> dict[str, Any]:
    value = section.get(key)
    return value if isinstance(value, dict) else {}


def _num(value: Any) -> int | float | None:
    if type(value) is float:
        return value
    return number(value) if isinstance(value, (int, float)) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: Any) -> int | None:
    return value if isinstance(value, int) and -(1 << 63) <= value < 1 << 63 else None


def pack_state(state: State) -> bytes:
    """`state` without its segments and its list of packages, which are long and never asked for here.

    Plain msgpack: nobody compares these bytes, and the canonical form takes five times as long.
    """
    kept = {section: keys for section, keys in state.items() if section != "segments"}
    source = state.get("source")
    if source and "packages" in source:
        kept["source"] = {key: value for key, value in source.items() if key != "packages"}
    return bytes(msgpack.packb(kept))


def unpack_state(packed: bytes) -> State:
    """What `pack_state` packed; the checksum has to have been compared before."""
    state: State = msgpack.unpackb(packed)
    return state


def checksum(run_id: str, generation: int, head: str, packed: bytes) -> int:
    """SQLite has none of its own, and what is shown of a run comes from these four."""
    return zlib.crc32(packed, zlib.crc32(f"{run_id}\0{generation}\0{head}".encode()))
