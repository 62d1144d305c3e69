"""The names that a query may use, and where the catalog keeps the value behind each.

A name is its parts joined by dots, so `config.optim.lr` and `config["optim.lr"]` are the same name.
"""

from __future__ import annotations

import keyword
from collections.abc import Collection
from dataclasses import dataclass

STATISTICS = ("last", "min", "max", "mean", "first", "count", "nan", "first_step", "last_step")
SECTIONS = ("config", "tags", "metrics", "artifacts", "source", "error")
GROUPED = ("config", "source")  # sections whose values nest


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a run: a number, a text, or missing (both columns are NULL then).

    `table` is None for a column of the run itself; `path` is the name that the rows of the tables
    `field` and `metric` go by.
    """

    name: str
    num: str | None = None
    text: str | None = None
    table: str | None = None
    path: str | None = None
    is_time: bool = False


def _fixed() -> dict[str, Field]:
    fields = [
        Field("run_id", text="r.run_id"),
        Field("experiment", text="name", table="experiment"),
        Field("experiment_id", text="r.experiment_id"),
        Field("name", text="r.name"),
        Field("status", text="r.status"),
        Field("state", text="iif(r.crashed, 'Crashed', r.status)"),
        Field("crashed", num="r.crashed"),
        Field("deleted", num="r.deleted"),
        Field("created_at", num="r.created_at", is_time=True),
        Field("started_at", num="r.started_at", is_time=True),
        Field("ended_at", num="r.ended_at", is_time=True),
        Field("duration", num="r.duration"),
        Field("generation", num="r.generation"),
    ]
    anywhere = [
        *("note", "error.type", "error.message", "source.command", "source.git.commit"),
        *("source.git.branch", "source.git.dirty", "source.python", "source.platform"),
    ]
    return {f.name: f for f in fields} | {name: _stored(name, name) for name in anywhere}


def _stored(name: str, path: str) -> Field:
    return Field(name, "num", "text", "field", path)


FIXED = _fixed()


def resolve(parts: list[str], known: Collection[str]) -> Field | None:
    """The field that the parts name; None when it is neither fixed nor among the known names."""
    name = ".".join(parts)
    if name in FIXED:
        return FIXED[name]
    if len(parts) < 2 or parts[0] not in SECTIONS:
        return None
    owner, last = ".".join(parts[:-1]), parts[-1]
    if parts[0] == "metrics":
        if last in STATISTICS and owner in known:
            return Field(name, num=f'"{last}"', table="metric", path=owner)
        return Field(name, num='"last"', table="metric", path=name) if name in known else None
    if parts[0] == "artifacts" and owner in known and last in ("size_bytes", "digest"):
        # One row holds both: the size is its number, the digest its text.
        kept = {"num": "num"} if last == "size_bytes" else {"text": "text"}
        return Field(name, table="field", path=owner, **kept)
    if parts[0] == "artifacts":
        return Field(name, num="num", table="field", path=name) if name in known else None
    return _stored(name, name) if name in known else None


def is_group(name: str, known: Collection[str]) -> bool:
    """True if `name` is not a value but holds some: a section, or a dict within a config."""
    if name in SECTIONS:
        return True
    return name.startswith(tuple(f"{section}." for section in GROUPED)) and any(
        other.startswith(f"{name}.") for other in known
    )


def nearest(parts: list[str], known: Collection[str]) -> str | None:
    """The name most like `parts`, spelled so that it can be pasted into a query."""
    from difflib import get_close_matches  # only ever needed for a mistake

    name, tail = ".".join(parts), ""
    names = sorted({*FIXED, *known})
    owner, _, last = name.rpartition(".")
    if owner in known and parts[0] in ("metrics", "artifacts"):
        ends = STATISTICS if parts[0] == "metrics" else ("size_bytes", "digest")
        name, names = last, list(ends)
        found = get_close_matches(name, names, 1)
        return f"{spell(owner)}.{found[0]}" if found else None
    if len(parts) > 1 and last in (*STATISTICS, "size_bytes", "digest"):
        name, tail = owner, f".{last}"
    unsectioned = [other for other in names if other.endswith(f".{name}")]
    found = unsectioned[:1] or get_close_matches(name, names, 1)
    return spell(found[0]) + tail if found else None


def spell(name: str) -> str:
    """`name` as a query must write it: `metrics["train/loss"]` where dots would not do."""
    section, _, rest = name.partition(".")
    if all(part.isidentifier() and not keyword.iskeyword(part) for part in rest.split(".")):
        return name
    quoted = rest.replace("\\", "\\\\").replace('"', '\\"')
    return f'{section}["{quoted}"]' if rest else name
