"""Decoders take any bytes: every truncation and every flipped bit of every golden file, and files whose
checksums are right and whose contents are made up. The answer is a clear error or, for a spool, its
intact beginning; never wrong data, and never memory out of proportion."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from holdfast.errors import Corrupt, UnsupportedFormat
from holdfast.format import (
    column,
    entry,
    frame,
    marks,
    outbox,
    packing,
    recipe,
    salvage,
    segment,
    spool,
    storefile,
    tree,
)
from holdfast.format.segment import Axis
from test_golden import SEGMENTS, opened, spool_rows

Decode = Callable[[bytes], Any]


def _segment(data: bytes) -> dict[str, bytes]:
    footer, get = opened(data)
    found = {}
    for key in footer.columns:
        axis = footer.read(key, get)
        found[key] = _bytes(axis, key)
    for key in footer.overviews:
        found[f"{key}, few"] = _bytes(footer.read_overview(key, get), key)
    return found


def _bytes(axis: Axis, key: str) -> bytes:
    return b"".join(part.tobytes() for part in (axis.steps, axis.times, axis.columns[key]))


DECODERS: dict[str, Decode] = {
    "entry-00000000": lambda data: entry.decode(data, place="the file"),
    "entry-00000001": lambda data: entry.decode(data, place="the file"),
    "entry-00000002": lambda data: entry.decode(data, place="the file"),
    "recipe": lambda data: recipe.decode(data, place="the file"),
    "recipe-3": lambda data: recipe.decode(data, place="the file"),
    "tree": lambda data: tree.decode_tree(data, place="the file"),
    "store.json": lambda data: storefile.decode(data, place="the file"),
    **dict.fromkeys(SEGMENTS, _segment),
}
SEALED = ["entry-00000000", "entry-00000001", "entry-00000002", "recipe", "recipe-3", "tree"]


def flips(data: bytes) -> Iterator[bytes]:
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            yield bytes(changed)


def truncations(data: bytes) -> Iterator[bytes]:
    return (data[:length] for length in range(len(data)))


@pytest.mark.parametrize("name", SEALED)
def test_no_truncation_and_no_flipped_bit_is_read(name: str) -> None:
    data = golden.read(name)
    for changed in [*truncations(data), *flips(data)]:
        with pytest.raises((Corrupt, UnsupportedFormat)) as caught:
            DECODERS[name](changed)
        assert caught.value.place == "the file"


def test_a_damaged_store_json_fails_or_says_the_same() -> None:
    data = golden.read("store.json")
    same = []
    for changed in [*truncations(data), *flips(data)]:
        with suppress(Corrupt, UnsupportedFormat):
            assert DECODERS["store.json"](changed) == golden.STORE
            same.append(changed)
    assert same == [data[:-1]]  # without the last line feed


@pytest.mark.parametrize("name", SEGMENTS)
def test_a_damaged_segment_gives_an_error_or_what_was_written(name: str) -> None:
    data = golden.read(name)
    wanted = _segment(data)
    for length in range(len(data)):
        with pytest.raises((Corrupt, UnsupportedFormat)):
            _segment(data[:length])
    missed = 0
    for changed in flips(data):
        try:
            assert _segment(changed) == wanted
            missed += 1
        except (Corrupt, UnsupportedFormat):
            continue
    # Read in part, what no column lies in goes unseen: the header, and the mark before each block.
    footer, _ = opened(data)
    blocks = [b for axis in footer.axes for blocks in axis[1:] for b in blocks]
    blocks += [block for _, found in footer.columns.values() for block in found]
    blocks += [b for _, *lists in footer.overviews.values() for found in lists for b in found]
    assert missed == 8 * (frame.HEADER_BYTES + 5 * len(blocks))


SPOOLS = ["spool", "spool-synced"]


@pytest.mark.parametrize("name", SPOOLS)
def test_a_truncated_spool_is_its_intact_beginning(name: str) -> None:
    data = golden.read(name).rstrip(b"\0")
    whole = spool_rows(spool.scan(data, place="w"))
    counts = set()
    for changed in truncations(data):
        try:
            scan = spool.scan(changed, place="w")
        except Corrupt:
            continue  # the header is not whole
        rows = spool_rows(scan)
        assert rows == whole[: len(rows)]
        torn = changed[scan.good_bytes :].rstrip(b"\0")
        assert scan.torn_bytes == len(torn)
        # The same with room behind it, as a crash of a writer that maps its spool leaves it.
        roomy = spool.scan(changed + bytes(5000), place="w")
        assert spool_rows(roomy) == rows
        assert (roomy.good_bytes, roomy.torn_bytes) == (scan.good_bytes, len(torn))
        counts.add(len(rows))
    assert counts == {0, 1, 2}


@pytest.mark.parametrize("room", [0, 1, 4, 5, 4096, 10_000])
def test_a_last_mark_that_ends_in_zeros_is_no_room(room: int) -> None:
    spools = (
        golden.spool_file([golden.SPOOL_ROWS[0], (("loss",), 1, golden.NOON + turn, (1,))])
        for turn in range(2000)
    )
    data = next(data for data in spools if data[-1] == 0)
    scan = spool.scan(data + bytes(room), place="w")
    assert (scan.row_count, scan.good_bytes, scan.torn_bytes) == (2, len(data), 0)
    damaged = bytearray(data)
    damaged[data.index(b"\x94\xcd") + 8] ^= 1
    with pytest.raises(Corrupt, match="with intact records behind"):
        spool.scan(bytes(damaged) + bytes(room), place="w")
    saved = salvage.scan(bytes(damaged) + bytes(room), place="w")
    assert (saved.row_count, saved.torn_bytes) == (1, 0)


def test_zeros_in_the_middle_of_a_spool_are_damage() -> None:
    """A hole with a whole record behind it, as a power cut may leave it, is refused and can be salvaged."""
    data = golden.read("spool")
    whole = spool_rows(spool.scan(data, place="w"))
    first, second = data.index(b"\x94\xcd"), data.index(b"\x92\xcd\x00\x01")
    holed = data[:first] + bytes(second - 6 - first) + data[second - 6 :] + bytes(4096)
    with pytest.raises(Corrupt, match=f"byte {first}, with intact records behind"):
        spool.scan(holed, place="w")
    kept = salvage.scan(holed, place="w")
    assert spool_rows(kept) == whole[1:]
    assert (kept.torn_bytes, kept.lost_bytes) == (0, second - first)


@pytest.mark.parametrize("name", SPOOLS)
def test_a_flipped_bit_in_a_spool_never_gives_a_wrong_point(name: str) -> None:
    data = golden.read(name).rstrip(b"\0")
    whole = spool_rows(spool.scan(data, place="w"))
    refused = 0
    for changed in flips(data):
        try:
            rows = spool_rows(spool.scan(changed, place="w"))
            assert rows == whole[: len(rows)] != whole
        except (Corrupt, UnsupportedFormat):
            refused += 1
    assert refused > 8 * len(data) / 2


@pytest.mark.parametrize("name", SPOOLS)
def test_salvage_keeps_every_record_but_the_damaged_one(name: str) -> None:
    data = golden.read(name).rstrip(b"\0")
    whole = spool_rows(spool.scan(data, place="w"))
    first_row = data.index(b"\x94\xcd")
    for place in range(first_row, len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        rows = spool_rows(salvage.scan(bytes(changed), place="w"))
        assert all(row in whole for row in rows)
        assert len(rows) >= 1
    assert spool_rows(salvage.scan(data, place="w")) == whole


def test_a_synced_record_counts_only_if_it_is_whole_and_speaks_of_what_lies_before_it() -> None:
    data = golden.read("spool-synced")
    at = data.index(b"\x91\xcf")
    damaged = bytearray(data)
    damaged[at - 50] ^= 1
    with pytest.raises(Corrupt, match="with intact records behind"):
        spool.scan(bytes(damaged), place="w")
    for said in (at + 1, 1 << 63, 0):  # of what comes later, and of nothing; with the right mark
        record = marks.encode_synced(said)
        state = marks.after_mark(marks.stored(data, at))
        damaged[at : at + 16] = record + marks.mark(zlib.crc32(record, state))
        assert spool.scan(bytes(damaged), place="w").row_count == 1
        undamaged = data[:at] + damaged[at : at + 16]
        assert spool.scan(undamaged, place="w").good_bytes == at + 16 * (said == 0)


def test_made_up_synced_records_cost_time_in_proportion() -> None:
    data = golden.read("spool-synced").rstrip(b"\0")
    bait = b"\x91\xcf" * 200_000
    assert spool.scan(data + b"\1" + bait, place="w").torn_bytes == len(bait) + 1


# Contents that somebody made up, with the right checksum.

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
FIELDS = "n prev nonce at full body artifact size spans blob offset sizes ids about axes columns"
FIELDS += " run_id writer rank identity chain kind only change"
names = st.sampled_from([*FIELDS.split(), "overviews"])
bodies = st.dictionaries(names, values, max_size=8).map(msgpack.packb) | st.binary(max_size=200)


@settings(max_examples=300)
@given(body=bodies)
def test_made_up_contents_are_refused_or_of_the_right_shape(body: bytes) -> None:
    for kind, decode in (
        (b"C", entry.decode), (b"R", recipe.decode), (b"T", tree.decode_tree),
        (b"O", outbox.decode_owner), (b"Q", outbox.decode_pending),
    ):  # fmt: skip
        with suppress(Corrupt):
            decode(frame.wrap(kind, 1, body), place="f")
    with suppress(Corrupt):
        entry.decode(frame.wrap(b"C", entry.VERSION, body), place="f")
    with suppress(Corrupt):
        outbox.decode_pending(frame.wrap(b"Q", 2, body), place="f")


@pytest.mark.parametrize("number", [0, 1, 15, 16, 17, 32])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_where_an_entry_is_full_is_as_its_version_says(
    version: int, full: bool, number: int
) -> None:
    prev = bytes(32) if number else None
    fields = {"n": number, "prev": prev, "nonce": bytes(16), "at": 0, "full": full, "body": {}}
    data = frame.wrap(b"C", version, packing.pack(fields))
    must = number % 16 == 0
    if (version == 1 and full == must) or (version == 2 and (full or not must)):
        assert entry.decode(data, place="f").full == full
    else:
        with pytest.raises((Corrupt, UnsupportedFormat), match="f is damaged|version 3"):
            entry.decode(data, place="f")


@settings(max_examples=300)
@given(
    index=st.dictionaries(st.sampled_from(["about", "axes", "columns", "overviews"]), values)
    | values
)
def test_a_made_up_index_is_refused_or_reads_nothing_outside_the_file(index: Any) -> None:
    footer = msgpack.packb(index)
    offset = frame.HEADER_BYTES
    seal = segment._seal(offset, footer)
    data = frame.header(b"S", 1) + footer
    data += segment._TRAILER.pack(b"\xc4\x20", offset, len(footer), seal, segment._MAGIC)
    with suppress(Corrupt):
        _segment(data)


@settings(max_examples=300)
@given(codec=st.integers(0, 7), payload=st.binary(max_size=120), count=st.integers(-1, 70_000))
def test_a_made_up_block_is_refused_or_gives_as_many_numbers_as_asked(
    codec: int, payload: bytes, count: int
) -> None:
    with suppress(Corrupt):
        assert len(column.decode(codec, payload, count, "<f8")) == count


@settings(max_examples=300)
@given(tail=st.binary(max_size=300), cut=st.integers(0, 321), name=st.sampled_from(SPOOLS))
def test_anything_behind_a_spool_is_a_torn_tail_or_refused(
    tail: bytes, cut: int, name: str
) -> None:
    data = golden.read(name)
    whole = spool_rows(spool.scan(data, place="w"))
    try:
        rows = spool_rows(spool.scan(data[:cut] + tail, place="w"))
    except (Corrupt, UnsupportedFormat):
        return
    assert rows == whole[: len(rows)]


BOMBS = {
    "a list of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "4 GiB of bytes": b"\xc6\xff\xff\xff\xff",
    "4 GiB of text": b"\xdb\xff\xff\xff\xff",
    "a million lists inside each other": b"\x91" * 1_000_000 + b"\xc0",
    "sixteen lists of 65,535 inside each other": b"\xdc\xff\xff" * 16,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_claims_of_great_length_cost_nothing(bomb: bytes) -> None:
    files: list[tuple[Decode, bytes]] = [
        (DECODERS["entry-00000000"], frame.wrap(b"C", 1, bomb)),
        (DECODERS["recipe"], frame.wrap(b"R", 1, bomb)),
        (DECODERS["tree"], frame.wrap(b"T", 1, bomb)),
        (lambda data: spool.scan(data, place="w"), golden.read("spool")[:11] + bomb),
    ]
    for decode, data in files:
        tracemalloc.start()
        try:
            with pytest.raises(Corrupt):
                decode(data)
            assert tracemalloc.get_traced_memory()[1] < 100 * len(data) + 1_000_000
        finally:
            tracemalloc.stop()


def test_a_compressed_block_that_claims_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    import zstandard

    payload = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt):
            column.decode(column.PLANES, payload, 100, "<f8")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
