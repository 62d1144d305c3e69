"""What is fuzzed: for each decoder the inputs to begin with, how they are changed, and how it is called."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

import golden
from holdfast import codecs
from holdfast.chunking import look
from holdfast.cli import lines
from holdfast.codecs import chunk
from holdfast.digest import Digest
from holdfast.errors import HoldfastError
from holdfast.format import (
    address,
    column,
    entry,
    follow,
    frame,
    outbox,
    pack,
    packing,
    proof,
    recipe,
    salvage,
    segment,
    signature,
    snapshot,
    spool,
    storefile,
    trailer,
    tree,
)
from holdfast.names import check_alias, check_id, check_key
from holdfast.query import compile_order, compile_where
from holdfast.timestamp import Timestamp

from .mutate import Change, flipped, framed, in_json, in_words, replaced

Call = Callable[[bytes], Any]


@dataclass(frozen=True)
class Target:
    seeds: list[bytes]
    change: Change
    call: Call


def _get(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def _segment(data: bytes) -> None:
    footer = segment.footer(data, len(data), _get(data), place="f")
    for key in [*footer.columns][:20]:
        footer.read(key, _get(data))
    for key in [*footer.overviews][:20]:
        footer.read_overview(key, _get(data))


def _pack(data: bytes) -> None:
    pack.index(data, len(data), _get(data), place="f")


def _list(data: bytes) -> None:
    document = snapshot.decode(golden.read("snapshot"), place="f")
    snapshot.decode_list(data, document, place="f")


def _chunk(data: bytes) -> None:
    """The first bytes say the codec, the size, and how many bases there are."""
    codec, size = data[:1] or b"\0", int.from_bytes(data[1:3], "little")
    chunk.decode(
        codec[0] % 8,
        data[4:],
        size,
        [bytes(size)] * (data[3] % 3 if len(data) > 3 else 0),
        place="f",
    )


def _column(data: bytes) -> None:
    codec, count = data[:1] or b"\0", int.from_bytes(data[1:3], "little")
    for dtype in ("<f8", "<u8", "<i8"):
        with suppress(HoldfastError):
            column.decode(codec[0] % 8, data[3:], count, dtype)


def _trailed(kind: bytes) -> Change:
    """Changes the index at the end of a file, behind a right trailer; or any byte."""

    def change(chance: random.Random, data: bytes) -> bytes:
        if chance.random() < 0.3:
            return flipped(chance, data)
        unpacker = msgpack.Unpacker(io.BytesIO(data), strict_map_key=False, max_buffer_size=1 << 20)
        values, at = [], 0
        with suppress(Exception):
            while True:
                value = unpacker.unpack()
                values.append((at, unpacker.tell(), value))
                at = unpacker.tell()
        maps = [(a, b, v) for a, b, v in values if isinstance(v, dict)]
        if not maps:
            return flipped(chance, data)
        begin, _, body = maps[-1]
        return data[:begin] + trailer.wrap(
            kind, data[10], msgpack.packb(replaced(chance, body)), begin
        )

    return change


def _text(call: Callable[[str], Any]) -> Call:
    return lambda data: call(data.decode("utf-8", "surrogateescape"))


def _query(text: str) -> None:
    compile_where(text, ())
    compile_order(text, ())


_QUERY = """
config.lr < 1e-3 and or not in is None True False ( ) [ ] { } , . == != <= >= + - * / % ** ' " # 1and
metrics['train/loss'].min metrics.loss.last tags.keep status 'Success' duration created_at 'x' 1 0.5
\u00e9 \u202e contains startswith matches name : ; lambda if else @ = ! & | ~ ` \\ \0
"""
ADDRESSES = "sha256: : @ / ~ . .. run 0 " + "0" * 64 + " prod v1 experiments/ runs/ aliases/ - %"


def _numpy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(600.0))
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("m/data/0", bytes(5000))
    return file.getvalue()


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(24)


def _gguf() -> bytes:
    return b"GGUF\x03\0\0\0" + bytes(8) + (1).to_bytes(8, "little") + bytes(64)


def _container(data: bytes) -> None:
    found = look(_get(data), len(data))
    inside = all(0 <= span.start <= span.stop <= len(data) for span in found.spans)
    if not inside:
        raise IndexError("a span leads out of the file")


def _proof() -> bytes:
    rows = [snapshot.row("runs/r/manifest/", 1, bytes(32), golden.HELD)]
    document, _ = snapshot.encode(rows)
    return proof.make(document, rows, 0, snapshot.items_of(golden.HELD), 0).encode()


def _one_chunk() -> list[bytes]:
    made = codecs.encode(bytes(range(256)) * 4, dtype="F32")
    return [
        bytes([made.codec]) + (1024).to_bytes(2, "little") + b"\0" + bytes(made.payload),
        bytes(300),
    ]


def _framed(kind: bytes, *names: str, call: Callable[..., Any]) -> Target:
    return Target(
        [golden.read(name) for name in names], framed(kind), lambda data: call(data, place="f")
    )


def _placed(call: Callable[..., Any]) -> Call:
    return lambda data: call(data, place="f")


def _frame(data: bytes) -> None:
    frame.unwrap(b"T", data, place="f", max_version=1)


def _names(text: str) -> None:
    for check in (check_key, check_id, check_alias):
        with suppress(HoldfastError):
            check("name", text)


TARGETS: dict[str, Target] = {
    "entry": _framed(b"C", "entry-00000000", "entry-00000001", "entry-00000002", call=entry.decode),
    "recipe": _framed(b"R", "recipe", "recipe-2", "recipe-3", call=recipe.decode),
    "tree": _framed(b"T", "tree", call=tree.decode_tree),
    "snapshot": _framed(b"N", "snapshot", call=snapshot.decode),
    "snapshot list": Target([golden.read("snapshot-list")], framed(b"L"), _list),
    "signature": _framed(b"V", "signature", call=signature.decode),
    "outbox owner": _framed(b"O", "outbox-owner", call=outbox.decode_owner),
    "outbox change": _framed(b"Q", "outbox-pending", "outbox-wishing", call=outbox.decode_pending),
    "store.json": Target([golden.read("store.json")], in_json, _placed(storefile.decode)),
    "spool": Target(
        [golden.read("spool"), golden.read("spool-synced")[:2000]],
        flipped,
        lambda data: spool.scan(data, place="f"),
    ),
    "salvage": Target([golden.read("spool")], flipped, _placed(salvage.scan)),
    "follower": Target(
        [golden.read("spool")], flipped, lambda data: follow.Follower("f").feed(data)
    ),
    "segment": Target(
        [golden.read("segment"), golden.read("segment-overview")], _trailed(b"S"), _segment
    ),
    "pack": Target([golden.read("pack")], _trailed(b"P"), _pack),
    "pack without index": Target(
        [golden.read("pack")],
        flipped,
        lambda data: list(pack.scan(_get(data), len(data), place="f")),
    ),
    "chunk": Target(_one_chunk(), flipped, _chunk),
    "column": Target([b"\x04" + (9).to_bytes(2, "little") + bytes(80)], flipped, _column),
    "packing": Target([packing.pack(golden.HELD)], flipped, _placed(packing.unpack)),
    "frame": Target(
        [golden.read("tree")],
        flipped,
        lambda data: frame.unwrap(b"T", data, place="f", max_version=1),
    ),
    "proof": Target([_proof()], in_json, proof.check),
    "containers": Target([_numpy(), _zip(), _safetensors(), _gguf()], flipped, _container),
    "query": Target(
        [b"config.lr < 1e-3 and metrics.loss.last < 0.5"], in_words(_QUERY.split()), _text(_query)
    ),
    "address": Target(
        [b"run:key@2", b"sha256:" + b"0" * 64], in_words(ADDRESSES.split()), _text(address.parse)
    ),
    "name": Target([b"checkpoints/step=100/model.pt"], flipped, _text(_names)),
    "digest": Target([b"sha256:" + b"0" * 64], flipped, _text(Digest.parse)),
    "timestamp": Target(
        [b"2025-01-15T12:00:00.5Z", b"2025-01-15T12:00:00+02:00"], flipped, _text(Timestamp.parse)
    ),
    "line of log": Target(
        [b'{"step": 1, "loss": 0.5, "train": {"acc": NaN}}'], in_json, lines.parse
    ),
}
