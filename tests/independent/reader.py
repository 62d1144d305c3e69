"""A reader of Holdfast stores written from docs/format/ alone: it imports nothing of Holdfast.

`python tests/independent/reader.py STORE` prints everything in a store as JSON. The tests hold this
reader against Holdfast itself; where the two differ, the pages are wrong or one of the readers is.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blake3
import msgpack
import numpy as np
import zstandard
from pcodec import standalone


class Refused(Exception):
    """The bytes are not as the pages define."""


def need(condition: Any, reason: str) -> None:
    if not condition:
        raise Refused(reason)


# packing.md


def unpack(data: bytes) -> Any:
    def ext(code: int, raw: bytes) -> Any:
        raise Refused(f"ext type {code}")

    try:
        value = msgpack.unpackb(data, raw=False, ext_hook=ext, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise Refused(f"not one msgpack object: {error!r}") from error
    check_value(value, 1)
    return value


def check_value(value: Any, level: int) -> None:
    need(not isinstance(value, msgpack.Timestamp), "an ext type")
    if not isinstance(value, (dict, list)):
        return
    need(level <= 64, "nested more than 64 deep")
    if isinstance(value, dict):
        need(all(isinstance(key, str) for key in value), "a map key that is not text")
        value = list(value.values())
    for item in value:
        check_value(item, level + 1)


# envelope.md


def check8(data: bytes) -> bytes:
    return bytes(blake3.blake3(data).digest()[:8])


def header(data: bytes, kind: str, newest: int = 1) -> None:
    need(data[:10] == b"\xc7\x08HHF" + kind.encode() + b"\r\n\x1a\n", f"not of kind {kind}")
    need(len(data) > 10 and 1 <= data[10] <= newest, "a version that is not known")


def envelope(data: bytes, kind: str, newest: int = 1) -> Any:
    header(data, kind, newest)
    need(len(data) >= 21 and data[-10:-8] == b"\xc4\x08", "no checksum at the end")
    need(data[-8:] == check8(data[:-10]), "another checksum")
    return unpack(data[11:-10])


# store-json.md


def store_json(data: bytes) -> dict[str, Any]:
    try:
        about = json.loads(data.decode("ascii"))
    except ValueError as error:
        raise Refused("not JSON") from error
    need(isinstance(about, dict) and about.get("format") == 1, "another format")
    checksum = about.pop("checksum", None)
    plain = json.dumps(about, sort_keys=True, separators=(",", ":"))
    need(checksum == hashlib.sha256(plain.encode()).hexdigest()[:16], "another checksum")
    need(about["features"]["read"] == [], "a feature that is not known")
    return about


# chain.md and manifest.md

State = dict[str, dict[str, Any]]


def entry(data: bytes) -> dict[str, Any]:
    body = envelope(data, "C", 2)
    need(isinstance(body, dict), "no map")
    number, prev, nonce = body.get("n"), body.get("prev"), body.get("nonce")
    need(type(number) is int and number >= 0, "n")
    need(prev is None if number == 0 else isinstance(prev, bytes) and len(prev) == 32, "prev")
    need(isinstance(nonce, bytes) and len(nonce) == 16, "nonce")
    full = body.get("full")
    need(type(full) is bool and full >= (number % 16 == 0), "full")
    need(data[10] > 1 or full == (number % 16 == 0), "full, in version 1")
    state = body.get("body")
    need(isinstance(state, dict) and all(isinstance(v, dict) for v in state.values()), "body")
    return body


def apply(state: State, change: State) -> State:
    after = {section: dict(keys) for section, keys in state.items()}
    for section, keys in change.items():
        for key, value in keys.items():
            if value is None and section != "config":
                after.get(section, {}).pop(key, None)
            else:
                after.setdefault(section, {})[key] = value
    return {section: keys for section, keys in after.items() if keys}


def chain(folder: Path, until: int = 99_999_999) -> State | None:
    """The state after the newest entry, or after entry `until`."""
    names = sorted(path.name for path in folder.glob("*") if re.fullmatch("[0-9]{8}", path.name))
    names = [name for name in names if int(name) <= until]
    if not names:
        return None
    need([int(name) for name in names] == list(range(len(names))), f"{folder}: an entry is missing")
    number = len(names) - 1
    wanted: bytes | None = None
    changes: list[State] = []
    while True:
        data = (folder / names[number]).read_bytes()
        body = entry(data)
        need(body["n"] == number, f"{folder}: another number")
        need(wanted in (None, hashlib.sha256(data).digest()), f"{folder}: a broken link")
        if body["full"]:
            break
        changes.append(body["body"])
        wanted = body["prev"]
        number -= 1
    state: State = body["body"]
    for change in reversed(changes):
        state = apply(state, change)
    return state


# spool.md

Row = tuple[int, int, list[str], np.ndarray]  # step, time, keys, values (float64)


def mark_of(data: bytes, crc: int = 0) -> bytes:
    return b"\xc4\x04" + zlib.crc32(data, crc).to_bytes(4, "little")


def spool(data: bytes) -> tuple[dict[str, Any], list[Row]]:
    header(data, "W", newest=2)
    at = 11 + object_length(data[11 : 11 + 65536])
    need(data[at : at + 6] == mark_of(data[:at]), "the first mark")
    about = unpack(data[11:at])
    need(isinstance(about, dict), "no map")
    for key, kind in [("run_id", str), ("writer", str)]:
        need(isinstance(about.get(key), kind), key)
    for key in ("sequence", "attempt", "opened_at"):
        need(type(about.get(key)) is int and about[key] >= 0, key)
    at += 6
    schemas: dict[int, list[str]] = {}
    rows: list[Row] = []
    while True:
        end = record_end(data, at)
        if end is None or not take(data, at, end, schemas, rows):
            break
        if data[end : end + 6] != mark_of(data[at:end], zlib.crc32(data[:at])):
            if rows and data[at] == 0x94:
                rows.pop()
            break
        at = end + 6
    is_damage = intact_behind(data, at) if data[10] == 1 else was_synced(data, at)
    need(not is_damage, f"damage at byte {at}")
    return about, rows


def has_torn_header(data: bytes) -> bool:
    """Is there nothing but a part of a header?"""
    there = data.rstrip(b"\0")
    if not b"\xc7\x08HHFW\r\n\x1a\n".startswith(there[:10]):
        return False
    end = there.find(b"\xc4\x04", 11)
    return end < 0 or (end + 6 >= len(there) and data[end : end + 6] != mark_of(data[:end]))


def object_length(data: bytes) -> int:
    unpacker = msgpack.Unpacker(max_buffer_size=len(data) or 1)
    unpacker.feed(data)
    try:
        unpacker.skip()
    except (ValueError, msgpack.exceptions.UnpackException):
        return 0
    return int(unpacker.tell())


def record_end(data: bytes, at: int) -> int | None:
    """Where the record at `at` ends, if it looks like one and fits together with its mark."""
    length = 0
    if data[at : at + 2] == b"\x91\xcf" and data[10] > 1:
        length = 10
    elif data[at : at + 2] == b"\x92\xcd":
        length = object_length(data[at:])
    elif (data[at : at + 2], data[at + 4 : at + 5]) == (b"\x94\xcd", b"\xcf"):
        binary = (b"\xc4", b"\xc5", b"\xc6")
        if data[at + 13 : at + 14] == b"\xd3" and data[at + 22 : at + 23] in binary:
            length = object_length(data[at:])
    return at + length if length and at + length + 6 <= len(data) else None


def take(data: bytes, at: int, end: int, schemas: dict[int, list[str]], rows: list[Row]) -> bool:
    """Add the record to the schemas or rows; False if it is not as defined."""
    if data[at] == 0x91:
        return int.from_bytes(data[at + 2 : end], "big") <= at
    sid = int.from_bytes(data[at + 2 : at + 4], "big")
    if data[at] == 0x92:
        try:
            keys = unpack(data[at + 4 : end])
        except Refused:
            return False
        good = isinstance(keys, list) and 1 <= len(keys) <= 65536 and sid not in schemas
        if not good or not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            return False
        schemas[sid] = keys
        return True
    if sid not in schemas:
        return False
    size = 8 * len(schemas[sid])
    start = end - size
    prefix = {1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}
    width = 1 if size < 256 else 2 if size < 65536 else 4
    if data[at + 22 : start] != prefix[width] + size.to_bytes(width, "big"):
        return False
    step = int.from_bytes(data[at + 5 : at + 13], "big")
    time = int.from_bytes(data[at + 14 : at + 22], "big", signed=True)
    values = np.frombuffer(data[start:end], ">f8").astype("<f8")
    rows.append((step, time, schemas[sid], values))
    return True


def was_synced(data: bytes, damage: int) -> bool:
    for found in re.finditer(b"(?=\x91\xcf)", data):
        at = found.start()
        said = int.from_bytes(data[at + 2 : at + 10], "big")
        if at < damage or not damage < said <= at:
            continue
        crc = int.from_bytes(data[at - 4 : at], "little")
        crc = zlib.crc32(data[at - 6 : at], crc)
        if data[at + 10 : at + 16] == mark_of(data[at : at + 10], crc):
            return True
    return False


def intact_behind(data: bytes, damage: int) -> bool:
    for found in re.finditer(b"(?=\xc4\x04)", data):
        begin = found.start() + 6
        if begin < damage:
            continue
        end = record_end(data, begin)
        if end is None:
            continue
        # The crc of everything before the mark is its 4 bytes; go on over the mark itself.
        crc = int.from_bytes(data[begin - 4 : begin], "little")
        crc = zlib.crc32(data[begin - 6 : begin], crc)
        if data[end : end + 6] == mark_of(data[begin:end], crc):
            return True
    return False


# segment.md


def segment(data: bytes) -> dict[str, Any]:
    """The index of a whole segment."""
    header(data, "S")
    need(data[-34:-32] == b"\xc4\x20" and data[-8:] == b"HFS\r\n\x1a\n\x01", "the trailer")
    offset, length = int.from_bytes(data[-32:-24], "big"), int.from_bytes(data[-24:-16], "big")
    need(offset >= 11 and offset + length + 34 == len(data), "the place of the index")
    raw = data[offset : offset + length]
    need(data[-16:-8] == check8(raw + data[-32:-16] + data[-8:]), "the checksum of the index")
    index: dict[str, Any] = unpack(raw)
    for rows, *lists in index["axes"]:
        for blocks in lists:
            check_blocks(blocks, rows, offset)
    for axis, blocks in index["columns"].values():
        check_blocks(blocks, index["axes"][axis][0], offset)
    for key, (count, *lists) in index.get("overviews", {}).items():
        need(key in index["columns"], "an overview without its metric")
        for blocks in lists:
            check_blocks(blocks, count, offset)
    return index


def check_blocks(blocks: list[Any], rows: int, end: int) -> None:
    need(sum(block[1] for block in blocks) == rows, "the number of rows")
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        need(block[2] >= 16 and block[2] + block[3] <= end, "a block outside")
        need(after is None or after[2] == block[2] + block[3] + 5, "blocks that are not in a row")


def segment_rows(data: bytes, key: str) -> list[tuple[int, int, float]]:
    """(step, time, value) of every row of a metric."""
    index = segment(data)
    if key not in index["columns"]:
        return []
    axis, values = index["columns"][key]
    return rows_of(data, *index["axes"][axis][1:], values)


def overview_rows(data: bytes, key: str) -> list[tuple[int, int, float]]:
    """(step, time, value) of the points in the overview of a metric."""
    return rows_of(data, *segment(data)["overviews"][key][1:])


def rows_of(
    data: bytes, steps: list[Any], times: list[Any], values: list[Any]
) -> list[tuple[int, int, float]]:
    columns = [
        read_column(data, steps, "<u8"),
        read_column(data, times, "<i8"),
        read_column(data, values, "<f8"),
    ]
    return list(zip(*[column.tolist() for column in columns], strict=True))


def read_column(data: bytes, blocks: list[Any], dtype: str) -> np.ndarray:
    parts = []
    for codec, count, offset, length, checksum, *_ in blocks:
        payload = data[offset : offset + length]
        need(len(payload) == length and check8(payload) == checksum, "the checksum of a block")
        part = decode(codec, payload, count, np.dtype(dtype))
        need(len(part) == count, "the number of numbers")
        parts.append(part)
    return np.concatenate(parts)


def decode(codec: int, payload: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    if codec == 0:
        return np.frombuffer(payload, dtype)
    if codec == 1:
        return np.frombuffer(payload * count, dtype)
    if codec == 2:
        first, difference = (int.from_bytes(payload[at : at + 8], "little") for at in (0, 8))
        numbers = [(first + i * difference) % 2**64 for i in range(count)]
        return np.array(numbers, np.uint64).view(dtype)
    if codec == 3:
        return pcodec_file(payload, dtype)
    if codec == 4:
        need(zstandard.frame_content_size(payload) == 8 * count, "the content size")
        raw = zstandard.ZstdDecompressor().decompress(payload)
        return np.frombuffer(b"".join(raw[i::count] for i in range(count)), dtype)
    if codec == 5:
        return pcodec_file(payload, np.dtype("<f4")).astype(np.float64)
    raise Refused(f"codec {codec}")


def pcodec_file(payload: bytes, dtype: np.dtype) -> np.ndarray:
    try:
        numbers = standalone.simple_decompress(payload)
    except RuntimeError as error:
        raise Refused(f"pcodec: {error}") from error
    need(numbers is not None and numbers.dtype == dtype, "the type of the numbers")
    return numbers


# recipe.md


Piece = tuple[str, int, int, str]  # blob, offset, length, id; digests in hexadecimal


def recipe(data: bytes) -> dict[str, Any]:
    """Version 1: {artifact, size, pieces}."""
    body = envelope(data, "R")
    pieces: list[Piece] = []
    for span in body["spans"]:
        offset = span["offset"]
        need(0 <= offset <= 2**62 and len(span["ids"]) == 32 * len(span["sizes"]), "a span")
        for number, size in enumerate(span["sizes"]):
            need(1 <= size <= 67_108_864, "the length of a piece")
            id_ = span["ids"][32 * number : 32 * number + 32]
            pieces.append((span["blob"].hex(), offset, size, id_.hex()))
            offset += size
    need(sum(size for _, _, size, _ in pieces) == body["size"], "the sum of the pieces")
    return {"artifact": body["artifact"].hex(), "size": body["size"], "pieces": pieces}


NONE = 0xFFFFFFFF


def recipe_2(data: bytes) -> dict[str, Any]:
    """Version 2: {artifact, size, chunks: [{id, size, home, packed, offset, length, codec, bases}],
    order, tensors}. Version 3 has `files` as well: {digest: (start, size)}."""
    need(data[10:11] in (b"\x02", b"\x03"), "not version 2 or 3")
    need(data[-10:-8] == b"\xc4\x08" and data[-8:] == check8(data[:-10]), "another checksum")
    body = unpack(data[11:-10])
    ids = split(body["ids"], 32)
    none = struct.pack("<I", NONE) * len(ids)
    columns = [
        [int.from_bytes(number, "little") for number in split(column, width)]
        for column, width in (
            (body["sizes"], 4), (body["homes"], 4), (body["offsets"], 8), (body["lengths"], 4),
            (body["codecs"], 1), (body["first"] or none, 4), (body["second"] or none, 4),
        )
    ]  # fmt: skip
    homes = list(zip(split(body["home_ids"], 32), body["home_kinds"], strict=True))
    chunks: list[dict[str, Any]] = []
    for id_, *numbers in zip(ids, *columns, strict=True):
        chunks.append(recipe_chunk(id_, numbers, homes, chunks))
    order = [int.from_bytes(number, "little") for number in split(body["order"], 4)]
    need(all(number < len(chunks) for number in order), "a piece that is not listed")
    need(sum(chunks[number]["size"] for number in order) == body["size"], "the sum of the pieces")
    tensors = [check_tensor(row, body["size"]) for row in body["tensors"]]
    artifact = body["artifact"].hex()
    return {
        "artifact": artifact, "size": body["size"], "chunks": chunks, "order": order,
        "tensors": tensors, "files": bundled(body) if data[10:11] == b"\x03" else {},
    }  # fmt: skip


def bundled(body: dict[str, Any]) -> dict[str, tuple[int, int]]:
    ids = split(body["file_ids"], 32)
    need(ids == sorted(set(ids)), "the order of files")
    starts = [int.from_bytes(number, "little") for number in split(body["file_starts"], 8)]
    sizes = [int.from_bytes(number, "little") for number in split(body["file_sizes"], 4)]
    need(all(size <= 67_108_864 for size in sizes), "the size of a file")
    places = list(zip(starts, sizes, strict=True))
    need(all(start + size <= body["size"] for start, size in places), "a file outside")
    return dict(zip([id_.hex() for id_ in ids], places, strict=True))


def split(data: bytes, width: int) -> list[bytes]:
    need(len(data) % width == 0, "a column")
    return [data[at : at + width] for at in range(0, len(data), width)]


def recipe_chunk(
    id_: bytes, numbers: list[int], homes: list[tuple[bytes, int]], before: list[dict[str, Any]]
) -> dict[str, Any]:
    size, home, offset, length, codec, first, second = numbers
    need(1 <= length <= size <= 67_108_864 and offset <= 2**62, "a size or an offset")
    need(home < len(homes) and homes[home][1] in (0, 1), "a home")
    bases = [base for base in (first, second) if base != NONE]
    need(size <= 16_777_216 or homes[home][1] == 0, "the size of a chunk in a pack")
    need(first != NONE or second == NONE, "a second base and no first")
    need(all(base < len(before) for base in bases), "a base that is not listed before")
    need(all(before[base]["size"] == size for base in bases), "a base of another size")
    depth = 1 + max((before[base]["depth"] for base in bases), default=-1)
    need(depth <= 8, "bases more than 8 deep")
    if codec == 0 or homes[home][1] == 0:
        need(codec == 0 and not bases and length == size, "a chunk that is stored as it is")
    return {
        "id": id_, "size": size, "home": homes[home][0].hex(), "packed": homes[home][1] == 1,
        "offset": offset, "length": length, "codec": codec, "bases": bases, "depth": depth,
    }  # fmt: skip


def check_tensor(row: list[Any], size: int) -> list[Any]:
    name, dtype, shape, start, stop, strides = row
    need(len(name.encode()) <= 4096 and len(shape) <= 64, "a tensor")
    need(0 <= start <= stop <= size, "a tensor outside")
    widths = {
        1: "BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E4M3FNUZ F8_E5M2FNUZ F8_E8M0", 2: "U16 I16 F16 BF16",
        4: "U32 I32 F32 C32", 8: "U64 I64 F64 C64", 16: "C128",
    }  # fmt: skip
    [width] = [w for w, names in widths.items() if dtype.lstrip(">") in names.split()] or [0]
    if width:
        spans = 1
        for length, stride in zip(shape, strides or in_order(shape), strict=True):
            spans += (length - 1) * stride
        need(stop - start == (0 if 0 in shape else width * spans), "the size of a tensor")
    return row


def in_order(shape: list[int]) -> list[int]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return strides[::-1]


# pack.md


def pack(data: bytes) -> list[dict[str, Any]]:
    """The chunks of a whole pack by its index: [{id, size, offset, length, codec, bases}]."""
    header(data, "P")
    need(data[11:13] == b"\xc4\x10", "the nonce")
    need(data[-34:-32] == b"\xc4\x20" and data[-8:] == b"HFP\r\n\x1a\n\x01", "the trailer")
    offset, length = int.from_bytes(data[-32:-24], "big"), int.from_bytes(data[-24:-16], "big")
    need(offset >= 29 and offset + length + 34 == len(data), "the place of the index")
    raw = data[offset : offset + length]
    need(data[-16:-8] == check8(raw + data[-32:-16] + data[-8:]), "the checksum of the index")
    body = unpack(raw)
    widths = {"sizes": 4, "offsets": 8, "lengths": 4, "codecs": 1, "counts": 1}
    columns = [
        [int.from_bytes(number, "little") for number in split(body[name], width)]
        for name, width in widths.items()
    ]
    bases, chunks, at = split(body["bases"], 32), [], 29
    need(len(body["ids"]) <= 32 * 262_144, "too many chunks")
    for id_, size, place, stored, codec, count in zip(
        split(body["ids"], 32), *columns, strict=True
    ):
        need(1 <= stored <= size <= 16_777_216 and count <= 2, "a chunk")
        need(place == at + 2 + 62 + 32 * count + 5, "chunks that are not in a row")
        at, mine, bases = place + stored, bases[:count], bases[count:]
        chunks.append(
            {"id": id_, "size": size, "offset": place, "length": stored, "codec": codec,
             "bases": mine}
        )  # fmt: skip
    need(at == offset and not bases, "chunks that do not fill the file")
    return chunks


def pack_heads(data: bytes) -> list[dict[str, Any]]:
    """The chunks of a pack by their heads alone."""
    nonce, at, chunks = data[13:29], 29, []
    while at < len(data):
        found = pack_head(data, at, nonce)
        if found is None:
            place = data.find(b"HFc\n", at + 3)
            at = place - 2 if place >= 0 else len(data)
            continue
        at = found["offset"] + found["length"]
        if check8(data[found["offset"] : at]) == found.pop("sum"):
            chunks.append(found)
    return chunks


def pack_head(data: bytes, at: int, nonce: bytes) -> dict[str, Any] | None:
    count = data[at + 47] if at + 47 < len(data) else 3
    end = at + 2 + 62 + 32 * count
    head = data[at + 2 : end]
    if count > 2 or data[at : at + 2] != bytes([0xC4, 62 + 32 * count]) or head[:4] != b"HFc\n":
        return None
    if head[-8:] != check8(nonce + at.to_bytes(8, "big") + head[:-8]):
        return None
    size, length = struct.unpack(">II", head[36:44])
    if data[end : end + 5] != b"\xc6" + head[40:44] or end + 5 + length > len(data):
        return None
    bases = split(head[46 : 46 + 32 * count], 32)
    return {"id": head[4:36], "size": size, "offset": end + 5, "length": length,
            "codec": head[44], "bases": bases, "sum": head[-16:-8]}  # fmt: skip


# codecs.md


def plain(codec: int, payload: bytes, size: int, bases: list[bytes]) -> bytes:
    """The bytes of a chunk."""
    need(len(bases) == [0, 0, 0, 1, 1, 1, 2][codec], "the number of bases")
    need(all(len(base) == size for base in bases), "the size of a base")
    if codec == 0:
        need(len(payload) == size, "the size")
        return payload
    if codec == 1:
        return zstd_frame(payload, size)
    width, second = payload[0], payload[1]
    need(width in (1, 2, 4, 8) and size >= width, "the width")
    front = 8 if codec == 6 else 2
    count, tail = size // width, size % width
    y = from_planes(payload[front : len(payload) - tail], width, count)
    x = from_y(codec, y, second, payload, width, [numbers(base, width) for base in bases])
    return b"".join(n.to_bytes(width, "little") for n in x) + payload[len(payload) - tail :][:tail]


def numbers(data: bytes, width: int) -> list[int]:
    whole = len(data) // width * width
    return [int.from_bytes(n, "little") for n in split(data[:whole], width)]


def zstd_frame(frame: bytes, size: int) -> bytes:
    try:
        need(zstandard.frame_content_size(frame) == size, "the content size")
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(f"zstd: {error}") from error


def from_planes(data: bytes, width: int, count: int) -> list[int]:
    lengths = [int.from_bytes(n, "little") for n in split(data[width : 5 * width], 4)]
    need(len(lengths) == width and 5 * width + sum(lengths) == len(data), "the lengths of planes")
    planes, at = [], 5 * width
    for kind, length in zip(data[:width], lengths, strict=True):
        stored = data[at : at + length]
        at += length
        need(kind in (0, 1, 2), "the kind of a plane")
        if kind == 1:
            stored = zstd_frame(stored, count)
        if kind == 2:
            need(length == 1, "a plane of one byte")
            stored *= count
        need(len(stored) == count, "the length of a plane")
        planes.append(stored)
    return [int.from_bytes(bytes(digits), "little") for digits in zip(*planes, strict=True)]


def from_y(
    codec: int, y: list[int], second: int, payload: bytes, width: int, bases: list[list[int]]
) -> list[int]:
    bits, most = 8 * width, (1 << 8 * width) - 1
    middle = int.from_bytes(b"\x80" * width, "little")
    if codec == 2:
        need(second in (0, 1), "rotate")
        return [(n >> second) | (n << (bits - second) & most) for n in y] if second else y
    if codec == 4:
        return [n ^ b for n, b in zip(y, bases[0], strict=True)]
    guess = bases[0]
    if codec == 6:
        guess = guesses(payload, width, *bases)
    if codec == 5 or (codec == 6 and second != 255):
        need(second < bits, "shift")
        places = sorted(range(len(y)), key=lambda place: guess[place] >> second & 255)
        moved = dict(zip(places, y, strict=True))
        y = [moved[place] for place in range(len(y))]
    return [(n - middle + g) & most for n, g in zip(y, guess, strict=True)]


def guesses(payload: bytes, width: int, first: list[int], second: list[int]) -> list[int]:
    kind, share = payload[2], int.from_bytes(payload[4:8], "little", signed=True)
    need({1: 2, 2: 2, 3: 4, 4: 8}.get(kind) == width and abs(share) <= 262_144, "a blend")
    low, high = {1: (-100, 120), 2: (-13, 15), 3: (-100, 120), 4: (-900, 1000)}[kind]
    real = np.float64 if kind == 4 else np.float32
    with np.errstate(all="ignore"):
        b, c = as_floats(first, kind), as_floats(second, kind)
        m = (c - b) * real(share / 65536) + b
        good = np.ones(len(b), bool)
        for value in (b, c, m):
            good &= (np.abs(value) >= real(2.0**low)) & (np.abs(value) < real(2.0**high))
        found = as_bits(m, kind)
    return [g if ok else f for g, ok, f in zip(found, good.tolist(), first, strict=True)]


def as_floats(bits: list[int], kind: int) -> np.ndarray:
    if kind == 1:
        return np.array([n << 16 for n in bits], np.uint32).view(np.float32)
    if kind == 2:
        return np.array(bits, np.uint16).view(np.float16).astype(np.float32)
    if kind == 3:
        return np.array(bits, np.uint32).view(np.float32)
    return np.array(bits, np.uint64).view(np.float64)


def as_bits(values: np.ndarray, kind: int) -> list[int]:
    if kind == 2:
        return values.astype(np.float16).view(np.uint16).tolist()
    if kind == 4:
        return values.view(np.uint64).tolist()
    bits = values.view(np.uint32).tolist()
    if kind == 3:
        return bits
    # Rounded to the upper 16 bits; a tie goes to the even number.
    return [(n >> 16) + ((n & 0xFFFF) + (n >> 16 & 1) > 0x8000) for n in bits]


def rebuilt(store: Path, digest: str) -> bytes:
    """The artifact by one of its recipes of version 2."""
    folder = store / "recipes" / "sha256" / digest[:2]
    paths = [p for p in sorted(folder.glob(f"{digest}.*")) if p.read_bytes()[10:11] == b"\x02"]
    need(paths, f"no blob and no recipe of {digest}")
    found = recipe_2(paths[0].read_bytes())
    need(found["artifact"] == digest, "the recipe of another artifact")
    data = joined(store, found)
    need(hashlib.sha256(data).hexdigest() == digest, f"artifact {digest}")
    return data


def joined(store: Path, found: dict[str, Any]) -> bytes:
    """The plain bytes of all chunks of the order."""
    chunks: list[bytes] = []
    for about in found["chunks"]:
        kind = "packs" if about["packed"] else "blobs"
        path = store / kind / "sha256" / about["home"][:2] / about["home"]
        payload = path.read_bytes()[about["offset"] : about["offset"] + about["length"]]
        bases = [chunks[base] for base in about["bases"]]
        chunks.append(plain(about["codec"], payload, about["size"], bases))
        need(blake3.blake3(chunks[-1]).digest() == about["id"], f"a chunk of {path}")
    return b"".join(chunks[number] for number in found["order"])


def from_bundles(store: Path, tree: str) -> dict[str, bytes]:
    """The files of a directory that are bundled, by their digests."""
    files: dict[str, bytes] = {}
    for path in sorted((store / "recipes" / "sha256" / tree[:2]).glob(f"{tree}.*.files")):
        found = recipe_2(path.read_bytes())
        need(found["artifact"] == tree and path.read_bytes()[10:11] == b"\x03", f"{path}")
        data = joined(store, found)
        for digest, (start, size) in found["files"].items():
            files[digest] = data[start : start + size]
            need(hashlib.sha256(files[digest]).hexdigest() == digest, f"file {digest}")
    return files


# tree.md


def tree(data: bytes) -> list[dict[str, Any]]:
    rows = envelope(data, "T")
    paths = [row[0].encode() for row in rows]
    need(paths == sorted(set(paths)), "the order of the paths")
    found = []
    for path, kind, mode, digest, size, target in rows:
        need(kind in ("directory", "file", "link") and 0 <= mode <= 0o777, "kind or mode")
        need(not any(part in ("", ".", "..") for part in path.split("/")), "a path")
        need((kind == "file") == (isinstance(digest, bytes) and len(digest) == 32), "a digest")
        found.append({"path": path, "kind": kind, "mode": mode})
        if kind == "file":
            found[-1] |= {"digest": f"sha256:{digest.hex()}", "size_bytes": size}
        if kind == "link":
            found[-1]["target"] = target
    return found


# series.md

Point = tuple[int, int, float]  # step, time, value


class Run:
    """One run of a store on disk."""

    def __init__(self, store: Path, run_id: str) -> None:
        self.folder = store / "runs" / run_id
        self.spools = dict(self._spools())
        self.state: State = chain(self.folder / "manifest") or {}
        self.ranks = dict(self._ranks())
        self.segments = dict(self._segments())

    def _spools(self) -> Iterator[tuple[tuple[Any, ...], list[Row]]]:
        for path in sorted((self.folder / "spool").glob("*")):
            writer, sequence = path.stem.split("-")
            data = path.read_bytes()
            if not data[:11].strip(b"\0") and not was_synced(data, 0):
                continue
            if data[:11].strip(b"\0") and has_torn_header(data):
                continue
            about, rows = spool(data)
            need((about["writer"], about["sequence"]) == (writer, int(sequence)), "a moved spool")
            rank = about.get("rank")
            need(rank is None or (type(rank) is int and rank >= 0), "rank")
            place = (
                -1 if rank is None else rank,
                about["attempt"],
                about["opened_at"],
                writer,
                int(sequence),
            )
            yield (*place, about.get("from_step")), rows

    def _segments(self) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        for rank, name, about in self._named():
            data = (self.folder / "segments" / f"{name}.seg").read_bytes()
            need(hashlib.sha256(data).hexdigest() == name, f"{name}.seg")
            names = ("attempt", "opened_at", "writer", "sequence")
            yield (rank, *(about[field] for field in names)), data

    def _ranks(self) -> Iterator[tuple[int, State]]:
        for path in (self.folder / "ranks").glob("*"):
            if re.fullmatch("0|[1-9][0-9]*", path.name):
                yield int(path.name), chain(path) or {}

    def _named(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """(rank, name, what is said of it) of every segment; -1 stands for the main writer."""
        for rank, state in [(-1, self.state), *self.ranks.items()]:
            for name, about in state.get("segments", {}).items():
                yield rank, name, about

    def _is_sealed(self, writer: str, sequence: int) -> bool:
        return any(
            about["writer"] == writer and about["sequence"] <= sequence <= about["last_sequence"]
            for _, _, about in self._named()
        )

    def _live(self) -> dict[tuple[Any, ...], list[Row]]:
        return {k: rows for k, rows in self.spools.items() if not self._is_sealed(k[3], k[4])}

    def keys(self) -> list[str]:
        sealed = [key for data in self.segments.values() for key in segment(data)["columns"]]
        live = [key for rows in self._live().values() for row in rows for key in row[2]]
        return sorted({*sealed, *live})

    def series(self, key: str) -> list[Point]:
        starts = {int(a): v.get("from_step") for a, v in self.state.get("attempts", {}).items()}
        parts: list[tuple[tuple[Any, ...], list[Point]]] = []
        for place, data in self.segments.items():
            parts.append((place, segment_rows(data, key)))
        for place, rows in self._live().items():
            if starts.get(place[1]) is None:
                starts[place[1]] = place[5]
            have = [(s, t, float(v[keys.index(key)])) for s, t, keys, v in rows if key in keys]
            parts.append((place[:5], have))
        points: list[Point] = []
        for place, have in sorted(parts, key=lambda part: part[0]):
            later = [f for a, f in starts.items() if a > place[1] > 0 and f is not None]
            points += [point for point in have if not later or point[0] < min(later)]
        return sorted(points, key=lambda point: point[0])


def blob(store: Path, digest: str) -> bytes:
    name = digest.removeprefix("sha256:")
    path = store / "blobs" / "sha256" / name[:2] / name
    if not path.exists():
        return rebuilt(store, name)
    data = path.read_bytes()
    need(hashlib.sha256(data).hexdigest() == name, f"blob {name}")
    return data


def artifact(store: Path, about: dict[str, Any]) -> Any:
    """The bytes of a file in hexadecimal, or the entries of a directory with theirs."""
    data = blob(store, about["digest"])
    if about["kind"] != "directory":
        return data.hex()
    entries = tree(data)
    files = from_bundles(store, about["digest"].removeprefix("sha256:"))
    for item in entries:
        if item["kind"] == "file":
            held = files.get(item["digest"].removeprefix("sha256:"))
            item["content"] = (blob(store, item["digest"]) if held is None else held).hex()
    return entries


def read_run(store: Path, run_id: str) -> dict[str, Any]:
    run = Run(store, run_id)
    series = {
        key: [[step, time, struct.pack(">d", value).hex()] for step, time, value in run.series(key)]
        for key in run.keys()
    }
    artifacts = {
        key: artifact(store, about)
        for key, about in run.state.get("artifacts", {}).items()
        if about["kind"] != "record"
    }
    return {"state": run.state, "ranks": run.ranks, "series": series, "artifacts": artifacts}


def read_store(store: Path) -> dict[str, Any]:
    """Everything: `{store_id, experiments: {id: ...}, runs: {id: {state, ranks, series, artifacts}}}`."""
    about = store_json((store / "store.json").read_bytes())
    experiments = {p.name: chain(p) for p in sorted((store / "experiments").glob("*"))}
    runs = {p.name: read_run(store, p.name) for p in sorted((store / "runs").glob("*"))}
    return {
        "store_id": about["store_id"],
        "experiments": {k: v["experiment"] for k, v in experiments.items() if v},
        "runs": runs,
    }


# alias.md


def aliases(store: Path) -> dict[str, Any]:
    """What each alias names now, by its name."""
    return named(store / "aliases")


def named(folder: Path) -> dict[str, Any]:
    found = {}
    for place in sorted({path.parent for path in folder.rglob("*") if path.is_file()}):
        state = chain(place)
        if state and state.get("target"):
            found[place.relative_to(folder).as_posix()] = state["target"]
    return found


# snapshot.md


def snapshots(store: Path) -> dict[str, dict[str, list[Any]]]:
    """{name: {prefix: row}} of every snapshot that has a name, its roots held against the chains."""
    return {
        name: snapshot(store, about["digest"]) for name, about in named(store / "snapshots").items()
    }


def snapshot(store: Path, digest: str) -> dict[str, list[Any]]:
    body = envelope(blob(store, digest), "N")
    rows = envelope(blob(store, body["list"].hex()), "L")
    prefixes = [row[0].encode() for row in rows]
    need(prefixes == sorted(set(prefixes)) and len(rows) == body["chains"], "the rows")
    need(root([pack_value(row) for row in rows]) == body["root"], "the root")
    for prefix, number, tip, items in rows:
        data = (store / prefix / f"{number:08d}").read_bytes()
        need(hashlib.sha256(data).digest() == tip, f"{prefix}: another entry")
        state = chain(store / prefix, number)
        need(state is not None and root(items_of(state)) == items, f"{prefix}: other items")
    return {row[0]: row for row in rows}


def items_of(state: State) -> list[bytes]:
    found: list[Any] = []
    for key, about in sorted(state.get("artifacts", {}).items()):
        fields = [about.get(name) for name in ("digest", "size_bytes", "kind")]
        found.append(["artifact", key, *fields])
    for name, about in sorted(state.get("segments", {}).items()):
        found.append(["segment", name, about.get("size_bytes")])
    return [pack_value(item) for item in found]


def pack_value(value: Any) -> bytes:
    return bytes(msgpack.packb(value, use_bin_type=True))


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return hashlib.sha256(b"\x01" + root(leaves[:left]) + root(leaves[left:])).digest()


def proof(text: str) -> tuple[str, str, list[Any]]:
    """(the id of the snapshot, the run, the item) of a proof that holds."""
    found = json.loads(text)
    need([found[key] for key in found if key.endswith("_proof")] == [1], "another version")
    document = bytes.fromhex(found["document"])
    need("sha256:" + hashlib.sha256(document).hexdigest() == found["snapshot"], "the id")
    body = envelope(document, "N")
    prefix, number, tip, items = found["row"]
    row = [prefix, number, bytes.fromhex(tip), bytes.fromhex(items)]
    top = climb(pack_value(row), found["row_at"], body["chains"], found["row_path"])
    need(top == body["root"], "the row")
    top = climb(pack_value(found["item"]), found["item_at"], found["items"], found["item_path"])
    need(top == row[3], "the item")
    return found["snapshot"], prefix.split("/")[1], found["item"]


def climb(leaf: bytes, at: int, count: int, path: list[str]) -> bytes:
    """RFC 9162, section 2.1.3.2."""
    need(0 <= at < count, "a place")
    fn, sn, r = at, count - 1, hashlib.sha256(b"\x00" + leaf).digest()
    for p in map(bytes.fromhex, path):
        need(sn != 0, "a path that is too long")
        if fn % 2 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while fn % 2 == 0 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    need(sn == 0, "a path that is too short")
    return r


if __name__ == "__main__":
    print(json.dumps(read_store(Path(sys.argv[1])), indent=1, sort_keys=True))
