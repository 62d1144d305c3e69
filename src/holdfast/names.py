"""Names from outside are checked once, at the door; each refusal says why and what to do."""

from __future__ import annotations

import operator
import re
import unicodedata
from typing import NoReturn

from holdfast.errors import InvalidValue

MAX_ID_BYTES = 128
MAX_KEY_BYTES = 512
MAX_ALIAS_BYTES = 200  # its head has the whole name in one part of a path
MAX_RANK = 2**31 - 1
_NOT_IN_IDS = set('/\\:*?"<>|')
_FIRST_PARTS = ("runs", "aliases", "experiments", "snapshots")  # what addresses begin with
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?\Z", re.IGNORECASE)


def check_id(kind: str, value: str) -> str:
    """`value`, if it can be one part of a path on every backend and system. Raises InvalidValue."""
    _check_text(kind, value, MAX_ID_BYTES)
    bad = next((char for char in value if char in _NOT_IN_IDS), None)
    if bad:
        _refuse(kind, value, f"it holds {bad!r}", f"leave out {' '.join(sorted(_NOT_IN_IDS))}")
    if value.startswith("."):
        _refuse(kind, value, "it begins with a dot", "begin with a letter or a digit")
    if value != value.strip() or value.endswith("."):
        _refuse(kind, value, "it begins or ends with a space, or ends with a dot", "strip it")
    _check_device(kind, value, value)
    return value


def check_key(kind: str, value: str) -> str:
    """`value`, if it can be the key of a metric or an artifact: parts between '/'.

    `checkpoints/step=100/model.pt` and `train/loss` are such keys. Raises InvalidValue.
    """
    _check_text(kind, value, MAX_KEY_BYTES)
    if value.startswith("/"):
        _refuse(kind, value, "it begins with '/'", "make it relative")
    if "\\" in value:
        _refuse(kind, value, "it holds a backslash", "separate its parts with '/'")
    if re.match(r"[A-Za-z]:(/|\Z)", value):
        _refuse(kind, value, "it begins with a drive letter", "make it relative")
    for part in value.split("/"):
        if part in ("", ".", ".."):
            _refuse(kind, value, f"it has the part {part!r}", "name every part between '/'")
        _check_device(kind, value, part)
    return value


def check_alias(kind: str, value: str) -> str:
    """`value`, if it can be the name of an alias or a snapshot: parts between '/', each as an id.

    `prod` and `prod/resnet` are such names. Raises InvalidValue.
    """
    _check_text(kind, value, MAX_ALIAS_BYTES)
    parts = value.split("/")
    for part in parts:
        if not part:
            _refuse(kind, value, "it has an empty part", "name every part between '/'")
        check_id(kind, part)
        if "@" in part:
            _refuse(kind, value, "it holds '@'", "leave that out")
        if re.fullmatch(r"[0-9]{8}", part):
            _refuse(kind, value, f"{part} looks like a generation", "do not use 8 digits alone")
    if parts[0] in _FIRST_PARTS:
        _refuse(kind, value, f"addresses begin with {parts[0]}/", "choose another first part")
    if value == "sha256":
        _refuse(kind, value, "it would look like a digest", "choose another name")
    return value


def check_rank(value: object) -> int:
    """`value`, if it can be the rank of one of several writers of a run. Raises InvalidValue."""
    whole = not isinstance(value, bool) and hasattr(type(value), "__index__")
    number = operator.index(value) if whole else -1  # type: ignore[arg-type]
    if not 0 <= number <= MAX_RANK:
        raise InvalidValue(
            f"rank {value!r:.60} is not a whole number from 0 to 2**31-1: pass the rank of this "
            "process, such as int(os.environ['RANK'])",
            rank=value,
        )
    return int(number)


def _check_text(kind: str, value: str, most_bytes: int) -> None:
    if not isinstance(value, str):
        _refuse(kind, value, f"it is {type(value).__name__}", "pass text")
    if not value:
        _refuse(kind, value, "it is empty", "pass at least one character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        _refuse(kind, value, "it is not valid Unicode", "pass text without lone surrogates")
    if size > most_bytes:
        _refuse(kind, value[:40] + "…", f"it is {size} bytes long", f"use at most {most_bytes}")
    if value.isascii() and value.isprintable():
        return
    if not unicodedata.is_normalized("NFC", value):
        _refuse(kind, value, "it is not in Unicode form NFC", "unicodedata.normalize('NFC', …) it")
    if not value.replace("\u3000", " ").isprintable():
        _refuse(kind, value, "it holds a character that cannot be printed", "leave that out")


def _check_device(kind: str, value: str, part: str) -> None:
    if _DEVICE.match(part):
        _refuse(kind, value, f"{part!r} is a device on Windows", "choose another name")


def _refuse(kind: str, value: object, reason: str, advice: str) -> NoReturn:
    raise InvalidValue(
        f"the {kind} {value!r} cannot be used: {reason}; {advice}", value=value, kind=kind
    )


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size_of(text: str, name: str) -> int:
    """`500000`, `200M`, `8GiB` in bytes. Raises InvalidValue."""
    found = re.fullmatch(r"([0-9]+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if not found:
        raise InvalidValue(f"{name} is {text!r}: give bytes, or a size such as 8GiB", value=text)
    return int(found[1]) * _UNITS[found[2]]
