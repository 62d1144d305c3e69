"""Chains: a state read back is the state that was committed, by few reads, whichever entries are full."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from far import FarBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.chain import EMPTY, Chain, Snapshot
from holdfast.errors import BackendError, Corrupt
from holdfast.format import entry, layout, manifest

PREFIX = layout.manifest("r")
LARGE: dict[str, Any] = {"config": {"text": "x" * 5000}}  # so that changes are stored alone


class Counted(WatchedBackend):
    """A backend in memory that counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__(MemoryBackend(), lambda operation, name: self.asked.append(operation))
        self.asked: list[str] = []


@pytest.fixture
def backend() -> Counted:
    return Counted()


def grown(backend: Any, changes: int, *, full: tuple[int, ...] = ()) -> Snapshot:
    """A chain of a large state with that many changes after it."""
    chain, snapshot = Chain(backend, PREFIX), EMPTY
    for number in range(changes + 1):
        change = {"tags": {"n": number}} if number else LARGE
        snapshot = chain.commit(snapshot, lambda state, c=change: c, full=number in full)  # type: ignore[misc]
    return snapshot


def numbers_full(backend: Any) -> list[int]:
    found = [entry.decode(backend.get(stat.name), place="e") for stat in backend.walk(PREFIX)]
    return [each.number for each in found if each.full]


sizes = st.sampled_from([1, 10, 3000])
changes = st.dictionaries(
    st.sampled_from(["run", "config", "tags"]),
    st.dictionaries(
        st.sampled_from("abc"), st.none() | sizes.map(lambda size: "x" * size), min_size=1
    ),
    min_size=1,
)


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(changes, st.booleans()), max_size=40))
def test_what_is_read_is_what_was_committed(steps: list[tuple[Any, bool]]) -> None:
    backend, state = MemoryBackend(), {}
    chain, snapshot = Chain(backend, PREFIX), EMPTY
    for change, full in steps:
        snapshot = chain.commit(snapshot, lambda state, c=change: c, full=full)  # type: ignore[misc]
        state = manifest.apply(state, change)
        assert snapshot.state == state
        fresh = Chain(backend, PREFIX)
        assert fresh.load() == fresh.load_hinted(snapshot.number) == snapshot
        assert fresh.load(listed=range(snapshot.number + 1)) == snapshot
    Chain(backend, PREFIX).check()


def test_entries_are_full_where_they_must_where_asked_and_where_they_are_small(
    backend: Counted,
) -> None:
    grown(backend, 34, full=(5, 20))
    assert numbers_full(backend) == [0, 5, 16, 20, 32]
    chain = Chain(backend, PREFIX)
    chain.commit(chain.load(), lambda state: {"config": {"text": "short"}})
    assert numbers_full(backend)[-1] == 35


def test_a_state_of_very_many_keys_is_not_packed_for_each_change(
    backend: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = Chain(backend, PREFIX)
    base = chain.commit(EMPTY, lambda state: {"metrics": {f"m{n}": n for n in range(201)}})
    packed: list[int] = []
    encode = entry.encode
    monkeypatch.setattr(
        "holdfast.format.entry.encode", lambda e: packed.append(len(e.body)) or encode(e)
    )
    chain.commit(base, lambda state: {"tags": {"a": 1}, "run": {"b": 1}, "config": {"c": 1}})
    assert packed == [3]


@pytest.mark.parametrize(
    ("newest", "full", "gets"),
    [(0, (), 1), (15, (), 16), (16, (), 1), (15, (15,), 1), (9, (7,), 3)],
)
def test_a_reader_goes_back_to_the_nearest_full_entry(
    backend: Counted, newest: int, full: tuple[int, ...], gets: int
) -> None:
    wanted = grown(backend, newest, full=full)
    backend.asked.clear()
    assert Chain(backend, PREFIX).load() == wanted
    assert backend.asked == ["walk"] + ["get"] * gets
    backend.asked.clear()
    assert Chain(backend, PREFIX).load_hinted(newest) == wanted
    assert backend.asked == ["get"] * gets


def test_a_hint_that_is_ahead_leads_to_the_newest_entry(backend: Counted) -> None:
    wanted = grown(backend, 3)
    for ahead in (4, 5, 40):
        assert Chain(backend, PREFIX).load_hinted(ahead) == wanted
    assert Chain(MemoryBackend(), PREFIX).load_hinted(0) == EMPTY


def test_a_hint_that_a_crashed_writer_left_is_right_once_another_has_written_the_entry() -> None:
    backend = MemoryBackend()
    wanted = grown(backend, 3)
    chain = Chain(backend, PREFIX)
    chain.beat(4)  # then the writer died
    assert chain.load_hinted(4) == wanted
    after = chain.commit(wanted, lambda state: {"tags": {"n": 4}})
    assert chain.load_hinted(4) == chain.load() == after


def test_a_missing_entry_is_damage_for_a_hint_too(backend: Counted) -> None:
    grown(backend, 5)
    backend.inner.delete(layout.entry(PREFIX, 3))
    with pytest.raises(Corrupt, match="00000003 is missing"):
        Chain(backend, PREFIX).load_hinted(5)
    backend.inner.delete(layout.entry(PREFIX, 4))
    with pytest.raises(Corrupt, match="00000003 is missing"):
        Chain(backend, PREFIX).load_hinted(4)  # 5 is still there: never the state after 2


def test_each_entry_that_is_read_must_continue_the_one_before() -> None:
    one, other = MemoryBackend(), MemoryBackend()
    grown(one, 9, full=(7,))
    grown(other, 9, full=(7,))
    for number in (6, 7, 8, 9):
        place = layout.entry(PREFIX, number)
        data = one.get(place)
        one.put(place, other.get(place))  # a whole entry of another chain
        chain = Chain(one, PREFIX)
        if number > 6:
            with pytest.raises(Corrupt, match="does not continue"):
                chain.load()
        else:  # older than the nearest full one: only an audit reads it
            assert chain.load().number == 9
        with pytest.raises(Corrupt, match="does not continue"):
            chain.check()
        one.put(place, data)
    Chain(one, PREFIX).check()


def test_a_full_entry_whose_answer_is_lost_is_still_ours() -> None:
    class Losing(WatchedBackend):
        def create(self, name: str, data: bytes) -> None:
            self.inner.create(name, data)
            raise BackendError("lost", name=name)

    backend = Losing(MemoryBackend(), lambda operation, name: None)
    snapshot = Chain(backend, PREFIX).commit(EMPTY, lambda state: {"run": {"a": 1}})
    snapshot = Chain(backend, PREFIX).commit(snapshot, lambda state: {"run": {"a": 2}}, full=True)
    assert Chain(backend, PREFIX).load() == snapshot


def test_entries_of_a_bucket_are_asked_for_together() -> None:
    """The newest, then two, four, eight: in four round trips what would be fifteen."""
    far = FarBackend()
    chain, state = Chain(far, layout.manifest("r")), EMPTY
    for number in range(15):
        long = {str(number): "x" * 5000}  # so that only changes are written
        state = chain.commit(state, lambda _, long=long: {"config": long})  # type: ignore[misc]
    trips: list[list[str]] = []
    ask, ask_one = far.inner.get_many, far.inner.get
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(far.inner, "get_many", lambda names: trips.append(names) or ask(names))
        patch.setattr(far.inner, "get", lambda name: trips.append([name]) or ask_one(name))
        assert chain.load().state == state.state
    # The memory backend asks itself for each one of many.
    assert [len(names) for names in trips if len(names) > 1] == [2, 4, 8]
    far.inner.delete(layout.entry(chain.prefix, 11))
    with pytest.raises(Corrupt, match="00000011 is missing"):
        chain._state_at(14)
