"""The names that a query may use, and where the catalog keeps the value behind each.

A name is its parts joined by dots, so `config.optim.lr` and `config["optim.lr"]` are the same name.
"""

from __future__ import annotations

import ast
import keyword
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from holdfast.errors import InvalidValue

STATISTICS = ("last", "min", "max", "mean", "first", "count", "nan", "first_step", "last_step")
SECTIONS = ("config", "tags", "metrics", "artifacts", "source", "error")
KEYED = ("config", "tags", "metrics", "artifacts")  # sections whose keys are the user's
ABOUT = {  # name -> column; the rest of what was running can be read of a run, not asked for
    "note": "note",
    "error.type": "error_type",
    "error.message": "error_message",
    "source.command.argv": "argv",
    "source.command.directory": "directory",
    "source.git.commit": "git_commit",
    "source.git.branch": "git_branch",
    "source.git.dirty": "git_dirty",
    "source.python.version": "python",
    "source.platform.system": "system",
}


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


# A run whose writer is gone, or one that `recover` has closed for that reason.
_CRASHED = (
    "(r.crashed OR r.status = 'Failed'"
    " AND (SELECT error_type FROM about WHERE run = r.id) IS 'Crashed')"
)


def _fixed() -> dict[str, Field]:
    fields = [
        Field("run_id", text="r.run_id"),
        Field("experiment", text="name", table="experiment"),
        Field("experiment_id", text="r.experiment_id"),
        Field("name", text="r.name"),
        Field("status", text="r.status"),
        Field("state", text=f"iif({_CRASHED}, 'Crashed', r.status)"),
        Field("crashed", num=_CRASHED),
        Field("deleted", num="r.deleted"),
        Field("created_at", num="r.created_at", is_time=True),
        Field("started_at", num="r.started_at", is_time=True),
        Field("ended_at", num="r.ended_at", is_time=True),
        Field("duration", num="r.duration"),
        Field("generation", num="r.generation"),
        *(Field(name, text=column, table="about") for name, column in ABOUT.items()),
        Field("source.git.dirty", num="git_dirty", table="about"),
    ]
    return {field.name: field for field in fields}


FIXED = _fixed()


class _AnyName(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True


ANY_NAME = _AnyName()  # while nothing is known, no name can be called wrong


def name_parts(node: ast.expr) -> list[str] | None:
    """The parts of the name that `node` is; None if it is none."""
    parts: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
        elif isinstance(node.slice, ast.Constant) and type(node.slice.value) in (str, int):
            parts.append(str(node.slice.value))
        else:
            return None
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def field_parts(text: str) -> list[str]:
    """The parts of the name that `text` is. Raises InvalidValue when it is none."""
    try:
        parts = name_parts(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError):
        parts = None
    if not parts:
        raise InvalidValue(
            f"{text!r} is no field: write one such as config.lr or metrics.loss.last"
        )
    return parts


def resolve(parts: list[str], known: Collection[str]) -> Field | None:
    """The field that the parts name; None when it is neither fixed nor among the known names."""
    name = ".".join(parts)
    if len(parts) == 1 or parts[0] not in KEYED:
        return FIXED.get(name)
    owner, last = ".".join(parts[:-1]), parts[-1]
    if owner in known and parts[0] == "metrics" and last in STATISTICS:
        return Field(name, f'"{last}"', None, "metric", owner)
    if owner in known and parts[0] == "artifacts" and last in _OF_ARTIFACT:
        return Field(name, *_OF_ARTIFACT[last], "field", owner)
    if name not in known:
        return None
    if parts[0] == "metrics":
        return Field(name, '"last"', None, "metric", name)
    num, text = _OF_ARTIFACT["size_bytes"] if parts[0] == "artifacts" else ("num", "text")
    return Field(name, num, text, "field", name)


# The row of an artifact holds both: the size is its number, the digest its text.
_OF_ARTIFACT: dict[str, tuple[str | None, str | None]] = {
    "size_bytes": ("num", None),
    "digest": (None, "text"),
}


def is_group(name: str, known: Collection[str]) -> bool:
    """True if `name` is not a value but holds some: a section, or a dict within one."""
    if name in SECTIONS:
        return True
    names = known if name.startswith("config.") else FIXED
    return any(other.startswith(f"{name}.") for other in names)


def explain(parts: list[str], words: str, known: Collection[str]) -> str:
    """Why `parts`, written as `words`, is no field, and what may be meant."""
    if is_group(".".join(parts), known):
        ask = f", or ask 'key' in {words}" if parts[0] in KEYED else ""
        return f"{words} is a group of values: name one of them{ask}"
    near = nearest(parts, known)
    hint = f": did you mean {near}?" if near else ""
    return f"{'no run has' if parts[0] in KEYED else 'there is no field'} {words}{hint}"


def nearest(parts: list[str], known: Collection[str]) -> str | None:
    """The name most like `parts`, spelled so that it can be pasted into a query."""
    from difflib import get_close_matches  # only ever needed for a mistake

    name, tail = ".".join(parts), ""
    owner, _, last = name.rpartition(".")
    endings = {"metrics": list(STATISTICS), "artifacts": list(_OF_ARTIFACT)}.get(parts[0], [])
    if owner in known and endings:
        found = get_close_matches(last, endings, 1)
        return f"{spell(owner)}.{found[0]}" if found else None
    if last in endings:
        name, tail = owner, f".{last}"
    names = sorted({*FIXED, *known})
    unsectioned = [other for other in names if other.endswith(f".{name}")]
    found = unsectioned[:1] or get_close_matches(name, names, 1)
    return spell(found[0]) + tail if found else None


def spell(name: str) -> str:
    """`name` as a query must write it: `metrics["train/loss"]` where dots would not do."""
    section, _, rest = name.partition(".")
    if all(map(_is_plain, rest.split("."))):
        return name
    quoted = rest.replace("\\", "\\\\").replace('"', '\\"')
    return f'{section}["{quoted}"]' if rest else name


def _is_plain(part: str) -> bool:
    """True if the parser gives `part` back as it is: it brings `µ` and `ﬁ` into another form."""
    return (
        part.isidentifier()
        and not keyword.iskeyword(part)
        and unicodedata.is_normalized("NFKC", part)
    )
