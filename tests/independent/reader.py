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


def chain(folder: Path) -> State | None:
    names = sorted(path.name for path in folder.glob("*") if re.fullmatch("[0-9]{8}", path.name))
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


def recipe(data: bytes) -> dict[str, Any]:
    """{artifact, size, pieces: [(blob, offset, length, id)]}, digests in hexadecimal."""
    body = envelope(data, "R")
    pieces = []
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
    data = (store / "blobs" / "sha256" / name[:2] / name).read_bytes()
    need(hashlib.sha256(data).hexdigest() == name, f"blob {name}")
    return data


def artifact(store: Path, about: dict[str, Any]) -> Any:
    """The bytes of a file in hexadecimal, or the entries of a directory with theirs."""
    data = blob(store, about["digest"])
    if about["kind"] != "directory":
        return data.hex()
    entries = tree(data)
    for item in entries:
        if item["kind"] == "file":
            item["content"] = blob(store, item["digest"]).hex()
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


if __name__ == "__main__":
    print(json.dumps(read_store(Path(sys.argv[1])), indent=1, sort_keys=True))
