"""What the golden files hold, and how they were made: `python tests/golden.py` writes fixtures/golden.

Every value is fixed, so the encoders must give the same bytes for ever. The exceptions are
`segment-codecs` and `pack-codecs`: pcodec and zstd may compress better one day, so those files are only
ever decoded, and are written again only with `--codecs`.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from holdfast import codecs
from holdfast.codecs import chunk, predict
from holdfast.codecs.trial import Choice
from holdfast.digest import Digest
from holdfast.format import (
    alias,
    entry,
    frame,
    gc,
    manifest,
    marks,
    outbox,
    pack,
    packing,
    recipe,
    segment,
    signature,
    snapshot,
    spool,
    storefile,
    tree,
)
from holdfast.format.alias import Target
from holdfast.format.entry import Entry
from holdfast.format.recipe import Chunk, Recipe
from holdfast.format.recipe_files import bundled
from holdfast.format.segment import Axis
from holdfast.format.tensors import Tensor
from holdfast.format.tree import TreeEntry

FOLDER = Path(__file__).parents[1] / "fixtures" / "golden"
NOON = 1_736_942_400_000_000_000  # 2025-01-15T12:00:00Z in ns
RUN = "20250115-120000-abc123"
CODECS = "segment-codecs"
PACK_CODECS = "pack-codecs"


def floats(*bits: int) -> NDArray[np.float64]:
    """float64 from their bits, so that a NaN keeps its payload."""
    return np.array(bits, np.uint64).view(np.float64)


ENTRY_0 = Entry(
    number=0,
    prev=None,
    nonce=bytes(range(16)),
    at=NOON,
    full=True,
    body={
        "run": {"run_id": RUN, "experiment_id": "resnet", "status": "Running", "created_at": NOON},
        "config": {"lr": 0.001, "seed": None},
        "attempts": {"1": {"started_at": NOON}},
    },
)
ENTRY_1 = Entry(
    number=1,
    prev=Digest.of(entry.encode(ENTRY_0)).raw,
    nonce=bytes(range(16, 32)),
    at=NOON + 1_000_000_000,
    full=False,
    body={
        "run": {"status": "Success", "ended_at": NOON + 1_000_000_000, "note": None},
        "tags": {"stage": "dev"},
    },
)
ENTRY_2 = Entry(  # full where it need not be: version 2
    number=2,
    prev=Digest.of(entry.encode(ENTRY_1)).raw,
    nonce=bytes(range(32, 48)),
    at=NOON + 2_000_000_000,
    full=True,
    body={"run": {"run_id": RUN, "status": "Success"}, "tags": {"stage": "prod"}},
)
FENCE = Entry(  # of the collection that entry 4 of the log began, in a run that goes on
    number=1,
    prev=Digest.of(entry.encode(ENTRY_0)).raw,
    nonce=bytes(range(48, 64)),
    at=NOON + 3_000_000_000,
    full=False,
    body=gc.fence({"open": {"00112233aabbccdd": {}}}, 4, "5f0c7a52-3f5e-4a6e-9a2b-0d8f5b1c2e3d"),
)
COLLECTED = Entry(
    number=3,
    prev=Digest.of(entry.encode(ENTRY_2)).raw,
    nonce=bytes(range(64, 80)),
    at=NOON + 4_000_000_000,
    full=True,
    body=gc.collected(
        {**ENTRY_2.body, "run": {**ENTRY_2.body["run"], "deleted_at": NOON + 3_500_000_000}},
        NOON + 4_000_000_000,
    ),
)
ALIAS_0 = Entry(0, None, bytes(range(48, 64)), NOON, True, alias.first("prod/resnet", NOON))
ALIAS_TARGET = Target(RUN, "model.pt", str(Digest.of(b"a blob")), 6, "bytes")
ALIAS_1 = Entry(
    number=1,
    prev=Digest.of(entry.encode(ALIAS_0)).raw,
    nonce=bytes(range(64, 80)),
    at=NOON + 1_000_000_000,
    full=True,
    body=manifest.apply(
        ALIAS_0.body, alias.moved(ALIAS_0.body, ALIAS_TARGET, NOON + 1_000_000_000)
    ),
)
ABSENT = Entry(  # an artifact was left out, and nothing else
    number=1,
    prev=Digest.of(entry.encode(ENTRY_0)).raw,
    nonce=bytes(range(80, 96)),
    at=NOON,
    full=True,
    body={
        "source": {"url": "s3://lab/a", "store_id": "5f0c7a52-3f5e-4a6e-9a2b-0d8f5b1c2e3d"},
        "artifacts": {Digest.of(b"a blob").hex: 6},
    },
)
_IDENTITY = {"host": "node1", "pid": 4711, "started": "8000", "space": ""}
OWNER = outbox.Owner(RUN, "0badcafe", None, _IDENTITY)
PENDING = outbox.Pending(
    chain=f"runs/{RUN}/manifest/",
    change={"run": {"status": "Success", "error": None}, "writer": {"closed": True}},
    only={"writer": _IDENTITY},
)
_BLOB = Digest.of(b"a blob")
WISHING = outbox.Pending(  # version 2
    chain=f"runs/{RUN}/manifest/",
    change={
        "artifacts": {
            "model": {"digest": str(_BLOB), "size_bytes": 6, "kind": "file", "created_at": NOON}
        }
    },
    wishes={"model": outbox.Wish("packed", "checkpoints/1", True)},
)
_CHUNKS = [bytes([number]) * 32 for number in (0xA0, 0xA1, 0xA2)]
RECIPE = recipe.plain(_BLOB, 2 * recipe.CHUNK_BYTES + 5, _CHUNKS)
_PACK = Digest.of(b"a pack")


def recipe_2() -> Recipe:
    """Two pieces: one in a pack, with a base in a blob, and one that is stored as it is."""
    builder = recipe.Builder()
    base = builder.add(Chunk(_CHUNKS[0], 4096, _BLOB, False, 65_536, 4096))
    delta = builder.add(Chunk(_CHUNKS[1], 4096, _PACK, True, 168, 1000, 3, (base,)))
    raw = builder.add(Chunk(_CHUNKS[2], 100, _PACK, True, 1269, 100))
    builder.append(raw)
    builder.append(delta)
    weights = Tensor("layer.weight", "F32", (32, 32), 100, 4196)
    turned = Tensor("turned", "F32", (16, 32), 100, 4196 - 64, (1, 32))
    return builder.build(_BLOB, [weights, turned])


def recipe_3() -> Recipe:
    """A bundle: three files in two chunks, with bytes between them that are no file's."""
    builder = recipe.Builder()
    builder.append(builder.add(Chunk(_CHUNKS[0], 300, _PACK, True, 98, 100, 1)))
    builder.append(builder.add(Chunk(_CHUNKS[2], 6, _PACK, True, 265, 6)))
    two, three = Digest.of(b"two"), Digest.of(b"three")
    files = bundled([(two, 0, 50), (three, 200, 100), (_BLOB, 300, 6)])
    return builder.build(Digest.of(read("tree")), files=files)


def pack_file() -> bytes:
    builder = pack.Builder(bytes(range(16)))
    out = bytearray(builder.begin())
    for id_, size, codec, bases, payload in PACKED:
        out += builder.add(id_, size, codec, bases, payload)[1] + payload
    return bytes(out + builder.end())


# id, size, codec, bases, payload
PACKED: list[tuple[bytes, int, int, list[bytes], bytes]] = [
    (_CHUNKS[0], 6, 0, [], b"a blob"),
    (_CHUNKS[1], 4096, 3, [_CHUNKS[0], _CHUNKS[2]], bytes(range(20))),
    (_CHUNKS[2], 16 << 20, 1, [], b"not really zstd"),
]
NAMES = [
    f"blobs/sha256/{_BLOB.hex[:2]}/{_BLOB.hex}",
    f"packs/sha256/{_PACK.hex[:2]}/{_PACK.hex}",
    f"recipes/sha256/{_BLOB.hex[:2]}/{_BLOB.hex}.{bytes(range(16)).hex()}",
    f"runs/{RUN}/segments/{_BLOB.hex}.seg",
    f"runs/{RUN}/manifest/00000000",
]
TREE = [
    TreeEntry("latest", "link", 0o777, target="weights/1.bin"),
    TreeEntry("weights", "directory", 0o755),
    TreeEntry("weights/1.bin", "file", 0o644, _BLOB.raw, 6),
]
HELD = {  # what a run held: the items of its row in a snapshot
    "artifacts": {"model.pt": {"digest": str(_BLOB), "size_bytes": 6, "kind": "bytes"}},
    "segments": {"5" * 64: {"size_bytes": 700}},
}
ROWS = [
    snapshot.row("aliases/prod/resnet/", 1, Digest.of(entry.encode(ALIAS_1)).raw, ALIAS_1.body),
    snapshot.row(f"runs/{RUN}/manifest/", 1, Digest.of(entry.encode(ENTRY_1)).raw, HELD),
    snapshot.row("experiments/resnet/", 0, bytes(range(32)), {"experiment": {}}),
]
SINGLE_WRITER = {
    "format": 1,
    "store_id": "0e9d1c2b-7a65-4f3e-8d21-c5b4a3928170",
    "features": {"read": [], "write": ["single-writer"], "gc": []},
    "created_at": "2025-01-15T12:00:00Z",
}
STORE = {
    "format": 1,
    "store_id": "5f0c7a52-3f5e-4a6e-9a2b-0d8f5b1c2e3d",
    "features": {"read": [], "write": [], "gc": []},
    "created_at": "2025-01-15T12:00:00Z",
}
SPOOL_ABOUT = {
    "run_id": RUN,
    "writer": "0badcafe",
    "sequence": 0,
    "attempt": 1,
    "from_step": None,
    "opened_at": NOON,
    "identity": {"host": "node1", "pid": 4711},
}
# (keys, step, time, the bits of each value), in the order of logging.
SPOOL_ROWS: list[tuple[tuple[str, ...], int, int, tuple[int, ...]]] = [
    (("loss",), 0, NOON + 1_000, (0x3FE0000000000000,)),  # 0.5
    (("loss", "train/acc"), 1, NOON + 2_000, (0x7FF8000000000123, 0x8000000000000000)),  # NaN, -0.0
    (("loss",), 2**64 - 1, NOON + 3_000, (0xFFF0000000000000,)),  # -inf
]


SPOOL_ROOM = 16  # bytes allocated ahead in the spool that is still open
SYNCED = ((), 0, 0, ())  # among the rows: a record that says that all before it is synced

SYNCED_ROWS = [*SPOOL_ROWS[:2], SYNCED, SPOOL_ROWS[2]]

# By the secret key of RFC 8032, section 7.1, test 1.
SIGNATURE = signature.Signature(
    Digest.of(snapshot.encode(ROWS)[0]),
    NOON,
    bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"),
    bytes.fromhex(
        "48b1cfbdc76e5aa1cd27a7815cf28c76e227d10beccb0d51db46d5c35cf826da"
        "394bc5c00b68828fd595241ba3703eff3a3da666d025b55253ad47df87f9cb02"
    ),
)


def spool_file(rows: Any = SPOOL_ROWS, *, version: int = 1) -> bytes:
    front = frame.header(spool.KIND, version) + packing.pack(SPOOL_ABOUT)
    out = bytearray(front + marks.mark(zlib.crc32(front)))
    schemas: dict[tuple[str, ...], int] = {}

    def add(record: bytes) -> None:
        out.extend(record + marks.mark(zlib.crc32(record, zlib.crc32(out))))

    for keys, step, at, bits in rows:
        if not keys:
            add(marks.encode_synced(len(out)))
            continue
        if keys not in schemas:
            schemas[keys] = len(schemas)
            add(spool.encode_schema(schemas[keys], keys))
        values = struct.unpack(f">{len(bits)}d", struct.pack(f">{len(bits)}Q", *bits))
        prefix, size = spool.row_prefix(schemas[keys]), spool.bin_prefix(len(keys))
        add(spool.row_struct(len(keys)).pack(prefix, step, 0xD3, at, size, *values))
    return bytes(out)


SEGMENT_ABOUT = {
    "run_id": RUN,
    "writer": "0badcafe",
    "sequence": 0,
    "last_sequence": 0,
    "attempt": 1,
    "opened_at": NOON,
    "from_step": None,
}


def plain_axes() -> list[Axis]:
    """Columns that need no compressor: ramp, constant and raw."""
    first = Axis(np.array([0, 1, 2], np.uint64), np.array([NOON, NOON + 7, NOON + 9], np.int64))
    first.columns["loss"] = floats(0x3FE0000000000000, 0x7FF8000000000123, 0x8000000000000000)
    first.columns["lr"] = floats(*[0x3F50624DD2F1A9FC] * 3)
    second = Axis(np.array([2**64 - 1], np.uint64), np.array([-1], np.int64))
    second.columns["final/acc"] = floats(0x7FF0000000000000)
    return [first, second]


def long_axes() -> list[Axis]:
    """Six rows that no compressor would shorten; `gap` has no number between its ends."""
    rng = np.random.default_rng(20250115)
    steps = np.sort(rng.integers(0, 2**64, 6, np.uint64))
    axis = Axis(steps, rng.integers(-(2**63), 2**63, 6, np.int64))
    axis.columns["loss"] = floats(*rng.integers(1, 2**62, 6, np.uint64).tolist())
    nan = rng.integers(0x7FF8 << 48, 0x7FFF << 48, 4, np.uint64).tolist()
    axis.columns["gap"] = floats(0x3FE123456789ABCD, *nan, 0x3FEFEDCBA9876543)
    return [axis]


def codec_axes() -> list[Axis]:
    """Columns that bring out every codec."""
    rng = np.random.default_rng(20250115)
    jitter = rng.integers(-1000, 1000, 300).cumsum() + np.arange(300) * 1_000_000
    many = Axis(np.arange(0, 3000, 10, dtype=np.uint64), NOON + jitter)
    many.columns["walk"] = rng.normal(size=300).cumsum()
    many.columns["single"] = rng.normal(size=300).astype(np.float32).astype(np.float64)
    many.columns["still"] = np.full(300, -0.0)
    few = Axis(np.array([5, 5, *range(6, 24)], np.uint64), NOON + jitter[:20])
    few.columns["near"] = 1.0 + np.arange(20) ** 2 / 1024
    few.columns["noise"] = floats(*rng.integers(0, 2**64, 20, np.uint64).tolist())
    return [many, few]


def numbers(dtype: str, shift: int) -> bytes:
    """600 numbers of a type, made without floating point; those of another `shift` lie near them."""
    kind = predict.FLOATS[dtype]
    steps, one = np.arange(600, dtype=np.uint64), np.uint64(0x3C << (8 * kind.width - 8))
    found = one + steps * steps % np.uint64(101) + np.uint64(shift) * (steps % np.uint64(3))
    found += (steps % np.uint64(4)) << np.uint64(kind.shift)  # of four exponents
    found[7::40] |= np.uint64(1 << (8 * kind.width - 1))  # some are negative
    found[3], found[5] = 0, 1  # and some are too small for a mixture
    return found.astype(f"<u{kind.width}").tobytes()


# Codec, how it is set, plain bytes, bases. The last byte of each is behind the last whole number.
CODED: list[tuple[Choice, bytes, list[bytes]]] = [
    (Choice(codecs.RAW), b"as it is", []),
    (Choice(codecs.ZSTD), b"again and " * 30, []),
    *(
        (choice, numbers(dtype, 9) + b"x", bases)
        for dtype, kind in predict.FLOATS.items()
        for bases in [[numbers(dtype, 7) + b"y", numbers(dtype, 40) + b"z"]]
        for choice in (
            Choice(codecs.PLANES, kind.width, rotate=True),
            Choice(codecs.PLANES, kind.width),
            Choice(codecs.DELTA, kind.width, (0,)),
            Choice(codecs.XOR, kind.width, (0,)),
            Choice(codecs.CONTEXT, kind.width, (0,), shift=kind.shift),
            Choice(codecs.BLEND, kind.width, (0, 1), kind=kind, share=4321),
            Choice(codecs.BLEND, kind.width, (0, 1), shift=kind.shift, kind=kind, share=-70_000),
        )
    ),
    (Choice(codecs.DELTA, 1, (0,)), bytes(range(100)), [bytes(range(1, 101))]),
]


def coded() -> list[tuple[int, bytes, list[bytes], bytes]]:
    """(codec, plain, bases that it needs, payload)"""
    found = []
    for choice, plain, offered in CODED:
        bases = [offered[place] for place in choice.bases]
        payload = plain
        if choice.codec != codecs.RAW:
            arrays = [np.frombuffer(base, np.uint8) for base in bases]
            payload = chunk._ENCODERS[choice.codec](np.frombuffer(plain, np.uint8), choice, arrays)
        found.append((choice.codec, plain, bases, payload))
    return found


def pack_codecs() -> bytes:
    """Every codec; the bases lie raw before what needs them. Equal plain bytes are there several times."""
    builder = pack.Builder(bytes(range(16, 32)))
    out, known = bytearray(builder.begin()), set()

    def add(plain: bytes, codec: int, ids: list[bytes], payload: bytes) -> None:
        head = builder.add(blake3(plain).digest(), len(plain), codec, ids, payload)[1]
        out.extend(head + payload)

    for codec, plain, bases, payload in coded():
        ids = [blake3(base).digest() for base in bases]
        for base, id_ in zip(bases, ids, strict=True):
            if id_ not in known:
                add(base, codecs.RAW, [], base)
                known.add(id_)
        add(plain, codec, ids, payload)
    return bytes(out + builder.end())


def exact() -> dict[str, bytes]:
    """The golden files that today's encoders must give byte for byte."""
    return {
        "entry-00000000": entry.encode(ENTRY_0),
        "entry-00000001": entry.encode(ENTRY_1),
        "entry-00000002": entry.encode(ENTRY_2),
        "fence": entry.encode(FENCE),
        "collected": entry.encode(COLLECTED),
        "absent": entry.encode(ABSENT),
        "names": gc.encode_names(gc.Names.of(NAMES)),
        "alias-00000000": entry.encode(ALIAS_0),
        "alias-00000001": entry.encode(ALIAS_1),
        "snapshot": snapshot.encode(ROWS)[0],
        "snapshot-list": snapshot.encode(ROWS)[1],
        "signature": signature.encode(SIGNATURE),
        "outbox-owner": outbox.encode_owner(OWNER),
        "outbox-pending": outbox.encode_pending(PENDING),
        "outbox-wishing": outbox.encode_pending(WISHING),
        "recipe": recipe.encode(RECIPE),
        "recipe-2": recipe.encode(recipe_2()),
        "recipe-3": recipe.encode(recipe_3()),
        "pack": pack_file(),
        "tree": tree.encode_tree(TREE),
        "store.json": storefile.encode(STORE),
        "store-single-writer.json": storefile.encode(SINGLE_WRITER),
        "spool": spool_file(),
        "spool-open": spool_file(SPOOL_ROWS[:1]) + bytes(SPOOL_ROOM),
        "spool-synced": spool_file(SYNCED_ROWS, version=2) + bytes(SPOOL_ROOM),
        "segment": segment.encode(SEGMENT_ABOUT, plain_axes())[0],
        "segment-overview": segment.encode(SEGMENT_ABOUT, long_axes(), lambda rows: [4])[0],
    }


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def main(arguments: list[str]) -> None:
    files: dict[str, Any] = exact()
    if "--codecs" in arguments:
        files[CODECS] = segment.encode(SEGMENT_ABOUT, codec_axes())[0]
        files[PACK_CODECS] = pack_codecs()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
        print(f"{len(data):6} bytes  {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
