"""Following a spool: whole, split anywhere, with a torn tail, with zeros behind it, damaged."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import golden
from holdfast.errors import Corrupt, HoldfastError, UnsupportedFormat
from holdfast.format import frame, marks, packing, spool
from holdfast.format.follow import Follower, Row

DATA = golden.read("spool")
records = st.lists(
    st.tuples(
        st.sampled_from([(), ("a",), ("a", "b"), ("b",), tuple(f"k{i}" for i in range(40))]),
        st.integers(0, 2**64 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(width=64),
    ),
    max_size=12,
)


def written(rows: list[tuple[tuple[str, ...], int, int, float]], version: int = 2) -> bytes:
    """A spool with these rows; one without keys stands for a record that all before it is synced."""
    front = frame.header(spool.KIND, version) + packing.pack(golden.SPOOL_ABOUT)
    out = bytearray(front + marks.mark(zlib.crc32(front)))
    sids: dict[tuple[str, ...], int] = {}

    def add(record: bytes) -> None:
        out.extend(record + marks.mark(zlib.crc32(record, zlib.crc32(out))))

    for keys, step, at, value in rows:
        if not keys:
            add(marks.encode_synced(len(out)))
            continue
        if keys not in sids:
            sids[keys] = len(sids)
            add(spool.encode_schema(sids[keys], keys))
        prefix, size = spool.row_prefix(sids[keys]), spool.bin_prefix(len(keys))
        values = [value] * len(keys)
        add(spool.row_struct(len(keys)).pack(prefix, step, 0xD3, at, size, *values))
    return bytes(out)


def exact(rows: list[Row]) -> list[tuple[tuple[str, ...], int, int, bytes]]:
    """The rows with their values' bits, so that NaN equals itself."""
    return [(r.keys, r.step, r.time, struct.pack(f"{len(r.values)}d", *r.values)) for r in rows]


def fed(data: bytes, edges: list[int]) -> Follower | list[Row]:
    """What a follower gives that sees the file grow to each of `edges`, then to its end."""
    follower, found = Follower("w"), []
    for edge in [*sorted(edges), len(data), len(data)]:
        if edge >= follower.position:
            found += follower.feed(data[follower.position : edge])
    return found


def wanted(rows: list[tuple[tuple[str, ...], int, int, float]]) -> Any:
    """What `exact` gives of them."""
    return [(k, s, t, struct.pack("d", v) * len(k)) for k, s, t, v in rows if k]


def test_a_whole_spool_is_what_scanning_it_gives() -> None:
    follower = Follower("w")
    rows = follower.feed(DATA)
    assert follower.about == golden.SPOOL_ABOUT
    assert follower.position == len(DATA)
    assert follower.points == sum(len(row.keys) for row in rows) == 4
    assert [(row.step, row.time) for row in rows] == [
        (0, 1736942400000001000),
        (1, 1736942400000002000),
        (2**64 - 1, 1736942400000003000),
    ]
    assert [row.keys for row in rows] == [("loss",), ("loss", "train/acc"), ("loss",)]
    assert struct.pack(">d", rows[1].values[0]).hex() == "7ff8000000000123"
    assert follower.feed(b"") == []


@given(records, st.lists(st.integers(0, 4000), max_size=8), st.sampled_from([0, 1, 7, 5000]))
@settings(max_examples=200)
def test_split_anywhere_with_zeros_behind_it_no_row_is_lost_or_given_twice(
    rows: list[tuple[tuple[str, ...], int, int, float]], edges: list[int], zeros: int
) -> None:
    data = written(rows)
    kept = [min(edge, len(data)) for edge in edges]
    assert exact(fed(data + bytes(zeros), kept)) == wanted(rows)
    assert exact(fed(data, [*range(0, len(data), 97)])) == wanted(rows)


@given(records, st.integers(0, 4000), st.integers(0, 4000))
@settings(max_examples=100)
def test_a_map_that_fills_up_over_zeros_gives_the_same(
    rows: list[tuple[tuple[str, ...], int, int, float]], first: int, second: int
) -> None:
    """A preallocated file: what is not written yet is there already, as zeros."""
    data = written(rows)
    header = len(spool.encode_header(golden.SPOOL_ABOUT))
    follower, found = Follower("w"), []
    for edge in [header, *sorted((first, second)), len(data)]:
        edge = min(max(edge, header), len(data))
        file = data[:edge] + bytes(len(data) - edge + 100)
        found += follower.feed(file[follower.position :])
    assert exact(found) == wanted(rows)


@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_never_gives_a_wrong_row(place: int, bit: int) -> None:
    changed = bytearray(DATA)
    changed[place] ^= 1 << bit
    whole = exact(Follower("w").feed(DATA))
    try:
        found = exact(fed(bytes(changed), []))
    except HoldfastError:
        return
    assert found == whole[: len(found)]


ROWS = [(("a",), step, step, step / 2) for step in range(6)]
WIDTH = spool.row_struct(1).size + marks.MARK_BYTES


@pytest.mark.parametrize("version", [1, 2])
def test_damage_is_an_error_after_the_rows_before_it(version: int) -> None:
    synced: list[Any] = [((), 0, 0, 0.0)] if version == 2 else []
    data = bytearray(written([*ROWS, *synced], version))
    damage = len(data) - 3 * WIDTH - 16 * len(synced)
    data[damage + 20] ^= 1
    follower = Follower("runs/r/spool/x")
    assert [row.step for row in follower.feed(bytes(data))] == [0, 1, 2]
    with pytest.raises(Corrupt, match=f"runs/r/spool/x is damaged at byte {damage}") as caught:
        follower.feed(bytes(data)[follower.position :])
    assert caught.value.offset == damage
    data[damage + 20] ^= 1  # it was a reader's bad moment: the next look is good
    assert [row.step for row in follower.feed(bytes(data)[damage:])] == [3, 4, 5]


@pytest.mark.parametrize("synced_rows", [0, 3])
def test_a_hole_in_what_was_not_synced_is_waited_for(synced_rows: int) -> None:
    data = written([*ROWS[:synced_rows], ((), 0, 0, 0.0), *ROWS[synced_rows:]])
    damage = len(data) - 3 * WIDTH
    follower = Follower("w")
    holed = data[:damage] + bytes(20) + data[damage + 20 :]
    assert [row.step for row in follower.feed(holed)] == [0, 1, 2]
    assert follower.feed(holed[follower.position :]) == []
    assert [row.step for row in follower.feed(data[follower.position :])] == [3, 4, 5]


def test_a_row_of_a_width_greater_than_what_is_there_waits() -> None:
    data = written([(tuple(f"key/{i}" for i in range(20_000)), 1, 2, 3.0)])
    follower = Follower("w")
    assert follower.feed(data[:65_536]) == []
    assert follower.feed(data[follower.position : -1]) == []
    assert len(follower.feed(data[follower.position :])) == 1


def test_another_file_and_a_newer_version_are_refused() -> None:
    with pytest.raises(Corrupt):
        Follower("w").feed(golden.read("segment"))
    newer = bytearray(DATA)
    newer[10] = 200
    with pytest.raises(UnsupportedFormat):
        Follower("w").feed(bytes(newer))
    assert Follower("w").feed(DATA[:5]) == []
