"""The text of a lock file: TOML, one table `[[artifact]]` for each name, changed in place.

`tomllib` reads it. Only the values that change are written, so that comments, order and whatever else
somebody put there stay. What would not say afterwards what it should is refused. See
docs/reference/lock-file.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from holdfast.digest import Digest
from holdfast.errors import InvalidValue
from holdfast.format.alias import Target
from holdfast.names import check_key

VERSION = 1
HEAD = (
    "# Artifacts by their bytes: `holdfast lock get` brings exactly these, or fails.\n"
    f"version = {VERSION}\n"
)
_KINDS = ("file", "bytes", "directory")
_FIELDS = ("name", "address", "store", "run", "key", "kind", "sha256", "size")  # in this order
_BLOCK = re.compile(r"\s*\[\[\s*artifact\s*\]\]")
_TABLE = re.compile(r"\s*\[")
_LINE = re.compile(
    r"(?P<front>\s*(?P<key>[A-Za-z0-9_-]+)\s*=\s*)"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"|'[^']*'|[0-9]+)"
    r"(?P<rest>\s*(?:#.*)?)\Z"
)


@dataclass(frozen=True, slots=True)
class Locked:
    """One artifact by its bytes. `store` is where it was, `address` what was asked for; `run_id` and `key`
    are None if it was named by its digest."""

    name: str
    address: str
    store: str
    digest: Digest
    size_bytes: int
    kind: str
    run_id: str | None = None
    key: str | None = None

    @property
    def target(self) -> Target:
        """The same as an alias or an input would have it."""
        return Target(self.run_id, self.key, str(self.digest), self.size_bytes, self.kind)

    @property
    def fields(self) -> dict[str, str | int]:
        found: dict[str, str | int | None] = {
            "name": self.name,
            "address": self.address,
            "store": self.store,
            "run": self.run_id,
            "key": self.key,
            "kind": self.kind,
            "sha256": self.digest.hex,
            "size": self.size_bytes,
        }
        return {key: value for key, value in found.items() if value is not None}


def parse(text: str, *, place: str) -> dict[str, Locked]:
    """What a lock file says, by name. Raises InvalidValue, naming the place and the entry."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(f"{place} is not TOML: {error}", place=place) from error
    if document.get("version") != VERSION:
        raise InvalidValue(
            f"{place} has version {document.get('version')!r}, and this Holdfast reads {VERSION}",
            place=place,
        )
    listed = document.get("artifact", [])
    if not isinstance(listed, list) or not all(isinstance(about, dict) for about in listed):
        raise InvalidValue(f"{place}: artifacts are tables [[artifact]]", place=place)
    found: dict[str, Locked] = {}
    for about in listed:
        locked = _entry(about, place)
        if locked.name in found:
            raise InvalidValue(f"{place} has {locked.name!r} twice: remove one", place=place)
        found[locked.name] = locked
    return found


def _entry(about: dict[str, Any], place: str) -> Locked:
    name = about.get("name")
    if not isinstance(name, str):
        raise InvalidValue(f"{place} has an artifact without a name", place=place)
    texts = {key: about.get(key) for key in ("address", "store", "run", "key")}
    size, kind = about.get("size"), about.get("kind", "file")
    for key, value in texts.items():
        if not isinstance(value, str) and (value is not None or key == "store"):
            raise InvalidValue(f"{place}: {key} of {name!r} is {value!r}, not text", place=place)
    if type(size) is not int or size < 0:
        raise InvalidValue(f"{place}: size of {name!r} is {size!r}, not bytes", place=place)
    if kind not in _KINDS:
        raise InvalidValue(
            f"{place}: kind of {name!r} is {kind!r}, not {' or '.join(_KINDS)}", place=place
        )
    try:
        check_key("name in the lock file", name)
        digest = Digest(about.get("sha256"))  # type: ignore[arg-type]  # it looks
    except InvalidValue as error:
        raise InvalidValue(f"{place}: {name!r}: {error.message}", place=place) from error
    address = texts["address"] or str(digest)
    return Locked(
        name, address, str(texts["store"]), digest, size, kind, texts["run"], texts["key"]
    )


def put(text: str, locked: Locked, *, place: str) -> str:
    """The text with that entry in it, in place of the one of its name, or where the names are in order.

    Raises InvalidValue when the file is written in a way that cannot be changed like this."""
    text = text or HEAD
    known = parse(text, place=place)
    blocks = _blocks(text)
    names = [_name_of(block) for block in blocks]
    if locked.name in known and locked.name in names:
        at = names.index(locked.name)
        blocks[at] = _changed(blocks[at], locked.fields)
    else:
        at = next((n for n, name in enumerate(names) if name and name > locked.name), len(blocks))
        blocks.insert(at, _new(locked.fields))
        if at and not blocks[at - 1].endswith("\n\n"):
            blocks[at - 1] = blocks[at - 1].rstrip("\n") + "\n\n"
        if at + 1 < len(blocks):
            blocks[at] += "\n"
    return _checked("".join(blocks), {**known, locked.name: locked}, place)


def remove(text: str, name: str, *, place: str) -> str:
    """The text without that entry. Raises InvalidValue."""
    known = parse(text, place=place)
    if name not in known:
        raise InvalidValue(
            f"{place} has no {name!r}; it has {', '.join(known) or 'nothing'}", place=place
        )
    kept = [block for block in _blocks(text) if _name_of(block) != name]
    wanted = {other: about for other, about in known.items() if other != name}
    return _checked("".join(kept).rstrip("\n") + "\n", wanted, place)


def _checked(text: str, wanted: dict[str, Locked], place: str) -> str:
    try:
        found = parse(text, place=place)
    except InvalidValue:
        found = {}
    if found != wanted:
        raise InvalidValue(
            f"{place} is written in a way that cannot be changed safely: change it by hand, or give every "
            "artifact a table [[artifact]] with one value a line",
            place=place,
        )
    return text


def _blocks(text: str) -> list[str]:
    """The text in pieces: what is before the first artifact, and each table with the comments right
    above it."""
    pieces: list[list[str]] = [[]]
    for line in text.splitlines(keepends=True):
        if _TABLE.match(line):
            above: list[str] = []
            while pieces[-1] and pieces[-1][-1].lstrip().startswith("#"):
                above.insert(0, pieces[-1].pop())
            pieces.append(above)
        pieces[-1].append(line)
    return ["".join(lines) for lines in pieces]


def _name_of(block: str) -> str | None:
    """The name in the table of an artifact; None for any other piece."""
    lines = block.splitlines()
    if not any(_BLOCK.match(line) for line in lines):
        return None
    for line in lines:
        found = _LINE.match(line)
        if found and found["key"] == "name":
            return str(tomllib.loads(f"x = {found['value']}")["x"])
    return None


def _new(fields: dict[str, str | int]) -> str:
    return "[[artifact]]\n" + "".join(f"{key} = {value_of(fields[key])}\n" for key in _in(fields))


def _in(fields: Iterable[str]) -> list[str]:
    return [key for key in _FIELDS if key in fields]


def _changed(block: str, fields: dict[str, str | int]) -> str:
    """The table with these values: lines that say them already stay as they are."""
    left, out, last = dict(fields), list[str](), 0
    for line in block.splitlines(keepends=True):
        found = _LINE.match(line.rstrip("\r\n"))
        key = found["key"] if found else None
        if found and key in left:
            wanted = left.pop(key)
            if tomllib.loads(f"x = {found['value']}")["x"] != wanted:
                line = f"{found['front']}{value_of(wanted)}{found['rest']}\n"
        elif key in _FIELDS:
            continue  # it has no such value any more
        out.append(line)
        last = len(out) if found else last
    out[last:last] = [f"{key} = {value_of(left[key])}\n" for key in _in(left)]
    return "".join(out)


def value_of(value: str | int) -> str:
    """A number or a basic string of TOML."""
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
