"""A power cut, as a model: of the pages that were written since the last fsync, any may be lost.

What is on the disk then is, page by page, any state that the page was in since the last fsync began; and
what was allocated and never written is zeros. Whatever that leaves: every record that `flush`
acknowledged is read, by every reader, and no record that was not logged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden
from holdfast.backend.base import Appender
from holdfast.backend.memory import MemoryBackend
from holdfast.errors import Corrupt
from holdfast.format import layout, salvage, spool
from holdfast.format.follow import Follower
from holdfast.keeper import Keeper
from holdfast.repository import Repository, connected
from holdfast.series import live_spools
from holdfast.writer import RunWriter
from independent import reader

PAGE = 4096
ROOM = 16 * PAGE
RUN = "20250115-120000-abc123"
SCHEMAS = (("a",), tuple(f"key/{number}" for number in range(60)), ("b", "c"))
Rows = list[tuple[tuple[str, ...], int, tuple[float, ...]]]


class Pages:
    """The file of a spool in the kernel's memory, and each state that a page of it has been in since
    the last fsync began."""

    def __init__(self, header: bytes) -> None:
        self.data = bytearray(ROOM)
        self.states = [[bytes(PAGE)] for _ in range(ROOM // PAGE)]
        self.at = 0
        self.synced_bytes = 0  # of the file's length
        self.meanwhile: Callable[[], None] = lambda: None  # what others do while an fsync goes on
        self._copy(header, [len(header)])

    def write(self, data: bytes) -> int:
        while self.at + len(data) > len(self.data):
            self.data += bytes(ROOM)
            self.states += [[bytes(PAGE)] for _ in range(ROOM // PAGE)]
        self._copy(data, [len(data) // 2, len(data)])  # a page may go out while we copy to it
        return len(data)

    def _copy(self, data: bytes, sizes: list[int]) -> None:
        begin, self.at = self.at, self.at + len(data)
        for end in (begin + size for size in sizes):
            self.data[begin:end] = data[: end - begin]
            for page in range(begin // PAGE, -(-end // PAGE)):
                self.states[page].append(bytes(self.data[page * PAGE : (page + 1) * PAGE]))

    def sync(self) -> None:
        length, self.states = len(self.data), [states[-1:] for states in self.states]
        self.meanwhile()
        self.synced_bytes = length

    def prepare(self, ahead_bytes: int) -> int:
        return 1 << 62

    def cut(self, size_bytes: int) -> None:
        raise AssertionError("every write is whole")

    def close(self) -> None:
        return None


class Machine(MemoryBackend):
    """Spools are `Pages`; everything else does not matter here."""

    pages: Pages

    def append(self, name: str, header: bytes) -> Appender:
        self.name = name
        self.pages = Pages(header)
        return self.pages


@dataclass
class Logging:
    """A run's writer on such a machine; `flushed` counts the rows that flush has acknowledged."""

    machine: Machine = field(default_factory=Machine)
    rows: Rows = field(default_factory=list)
    flushed: int = 0

    def __post_init__(self) -> None:
        keeper = Keeper()
        keeper.close()  # nothing happens in the background: we say when
        repository = Repository(self.machine, self.machine, "x", True)
        self.writer = RunWriter(repository, keeper, RUN, attempt=1)

    def log(self, shape: int, count: int) -> None:
        for _ in range(count):
            number = len(self.rows)
            values = tuple(number + place / 64 for place in range(len(SCHEMAS[shape])))
            self.writer.log(dict(zip(SCHEMAS[shape], values, strict=True)), number)
            self.rows.append((SCHEMAS[shape], number, values))

    def flush(self, shape: int, meanwhile: int) -> None:
        """Flush, while another thread logs `meanwhile` rows."""
        logged = len(self.rows)
        if logged:
            self.machine.pages.meanwhile = lambda: self.log(shape, meanwhile)
            self.writer.sync()
            self.flushed = max(self.flushed, logged)


steps = st.lists(
    st.tuples(st.sampled_from(["log", "log", "flush"]), st.integers(0, 2), st.integers(0, 12)),
    min_size=1,
    max_size=10,
)


def played(plan: list[tuple[str, int, int]]) -> Logging:
    logging = Logging()
    logging.log(0, 1)
    for what, shape, count in plan:
        getattr(logging, what)(shape, count)
    return logging


def left_by_a_power_cut(pages: Pages, draw: Callable[[st.SearchStrategy[int]], int]) -> bytes:
    kept = b"".join(states[draw(st.integers(0, len(states) - 1))] for states in pages.states)
    return kept[: PAGE * draw(st.integers(pages.synced_bytes // PAGE, len(kept) // PAGE))]


def scanned(scan: spool.Scan) -> Rows:
    found = {}
    for table in scan.tables:
        for place, row in zip(table.order.tolist(), table.rows, strict=True):
            found[place] = (tuple(table.keys), int(row["step"]), tuple(row["values"].tolist()))
    return [found[place] for place in sorted(found)]


@given(steps, st.data())
@settings(max_examples=300, deadline=None)
def test_what_was_flushed_is_read_by_everyone_and_nothing_else_is_made_up(
    plan: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    logging = played(plan)
    left = left_by_a_power_cut(logging.machine.pages, data.draw)
    disk = MemoryBackend()
    disk.create(logging.machine.name, left)
    live = list(live_spools(disk, RUN))
    if not live:  # the name alone is left
        assert logging.flushed == 0 and not left[:11].strip(b"\0")
        return
    rows = scanned(live[0].scan)
    assert logging.flushed <= len(rows)
    assert rows == logging.rows[: len(rows)]
    assert [(row.keys, row.step, row.values) for row in Follower("w").feed(left)] == rows
    theirs = [(tuple(keys), step, tuple(v.tolist())) for step, _, keys, v in reader.spool(left)[1]]
    assert theirs == rows
    saved = scanned(salvage.scan(left, place="w"))
    assert saved[: len(rows)] == rows
    assert [row for row in logging.rows if row in saved] == saved


@given(steps, st.data())
@settings(max_examples=200, deadline=None)
def test_damage_to_what_is_known_to_be_synced_is_never_a_torn_tail(
    plan: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """However the power goes: damage in front of the last synced record that is left is an error."""
    logging = played([*plan, ("flush", 0, 0), ("log", 1, 3)])
    pages = logging.machine.pages
    whole = bytes(pages.data[: pages.at])
    header = len(spool.encode_header(spool.read_header(whole, "w")[0]))
    place = data.draw(st.integers(header, whole.rindex(b"\x91\xcf") - 7))
    broken = bytearray(whole)
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    for read in (
        lambda: spool.scan(bytes(broken), place="w"),
        lambda: [Follower("w").feed(bytes(broken)), again(bytes(broken))],
        lambda: reader.spool(bytes(broken)),
    ):
        with pytest.raises((Corrupt, reader.Refused)):
            read()
    assert all(row in logging.rows for row in scanned(salvage.scan(bytes(broken), place="w")))


def again(data: bytes) -> None:
    """A second look, from where the first one stopped."""
    follower = Follower("w")
    follower.feed(data)
    follower.feed(data[follower.position :])


def test_a_run_whose_newest_spool_is_only_a_name_is_read_and_gone_on_with() -> None:
    from holdfast.store import ExperimentStore

    machine = MemoryBackend()
    store = ExperimentStore()
    store.repository = connected(machine)
    run = store.start_run("e", run_id=RUN, capture=False)
    run.log({"loss": 1.0}, 0)
    run._writer.seal(go_on=False)
    for blank in (b"", bytes(11), bytes(65_536)):
        machine.put(layout.spool(RUN, "0badcafe", 7), blank)
        assert store.metrics(RUN, "loss").values.tolist() == [1.0]
        assert [item.step for item in store.tail(RUN, from_start=True).poll()] == [0]
        assert store.verify() == []
    machine.put(layout.spool(RUN, "0badcafe", 7), bytes(10) + b"\1" + struct.pack(">Q", 5))
    with pytest.raises(Corrupt, match="does not begin as"):
        store.metrics(RUN, "loss")


def test_a_part_of_a_header_and_nothing_behind_it_is_a_spool_without_points() -> None:
    whole = golden.read("spool").rstrip(b"\0")
    header = spool.read_header(whole, "w")[1]
    for length in range(header):
        for room in (b"", bytes(1), bytes(70_000)):
            if whole[length:header].strip(b"\0"):  # else it is the whole header
                assert spool.is_blank(whole[:length] + room)
                assert reader.has_torn_header(whole[:length] + room) or not length
    for kept in (whole, whole[:header], whole[:header] + bytes(70_000)):
        assert not spool.is_blank(kept)
        assert not reader.has_torn_header(kept)
    for place in range(header):  # damage, for records follow
        broken = bytearray(whole)
        broken[place] ^= 1
        assert not spool.is_blank(bytes(broken))
