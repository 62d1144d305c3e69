"""What collectors say to writers: documents of names, the log, and the backend as a writer sees it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.backend.base import Backend
from holdfast.backend.memory import MemoryBackend
from holdfast.chain import Chain
from holdfast.condemned import Condemned
from holdfast.digest import Digest
from holdfast.errors import Corrupt, InvalidState, NameNotFound, NameRetired, UnsupportedFormat
from holdfast.format import gc, layout
from holdfast.format.gc import Names

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))

digests = st.binary(min_size=32, max_size=32).map(Digest.from_raw)
names_of_all_kinds = st.one_of(
    digests.map(layout.blob),
    digests.map(layout.pack),
    st.builds(layout.recipe, digests, st.binary(min_size=16, max_size=16)),
    st.builds(layout.segment, st.sampled_from(["run", "rün 2"]), digests),
    st.sampled_from(["runs/run/manifest/00000000", "probe/x", "blobs/sha256/zz/short"]),
)


@given(st.sets(names_of_all_kinds, max_size=40), st.sets(names_of_all_kinds, max_size=5))
def test_a_document_holds_exactly_its_names(names: set[str], others: set[str]) -> None:
    found = gc.decode_names(gc.encode_names(Names.of(names)), place="n")
    assert set(found) == names
    assert len(found) == len(names)
    assert all(found.has(name) for name in names)
    assert not any(found.has(name) for name in others - names)


@pytest.mark.parametrize("at", range(0, 270, 7))
def test_a_damaged_document_is_refused(at: int) -> None:
    data = bytearray(gc.encode_names(Names.of([layout.blob(A), layout.pack(B), "x" * 200])))
    data[at] ^= 1
    with pytest.raises((Corrupt, UnsupportedFormat), match="the place"):
        gc.decode_names(bytes(data), place="the place")


def condemn(backend: Backend, names: Iterable[str]) -> int:
    """What a collector does first."""
    chain = Chain(backend, layout.LOG)
    base = chain.load()
    data = gc.encode_names(Names.of(names))
    number, digest = base.number + 1, Digest.of(data)
    backend.create(gc.document(number, digest), data)
    row = {"names": digest.hex, "count": 1, "size_bytes": 1}
    chain.commit(base, lambda state: {gc.COLLECTIONS: {str(number): row}})
    return number


def decide(backend: Backend, collection: int, spared: Iterable[str] = ()) -> None:
    chain = Chain(backend, layout.LOG)
    base, digits = chain.load(), ""
    row = base.state[gc.COLLECTIONS][str(collection)]
    if kept := list(spared):
        data = gc.encode_names(Names.of(kept))
        digits = Digest.of(data).hex
        backend.create(gc.document(base.number + 1, Digest(digits)), data)
    row = {**row, "spared": digits, "spared_by": base.number + 1}
    chain.commit(base, lambda state: {gc.COLLECTIONS: {str(collection): row}})


def test_the_log_says_what_is_condemned_and_what_is_retired() -> None:
    backend = MemoryBackend()
    condemned = Condemned.load(backend)
    assert not condemned.has(layout.blob(A))
    number = condemn(backend, [layout.blob(A), layout.pack(B)])
    assert not condemned.has(layout.blob(A))  # it was read before
    condemned.refresh(backend)
    assert condemned.has(layout.blob(A)) and condemned.has(layout.pack(B))
    assert not condemned.is_retired(layout.blob(A))
    decide(backend, number, [layout.pack(B)])
    condemned.refresh(backend)
    assert condemned.is_retired(layout.blob(A))
    assert not condemned.has(layout.pack(B))
    assert not Condemned.load(backend).has(layout.blob(C))


def test_nothing_is_read_again_while_the_log_stays_the_same() -> None:
    backend = MemoryBackend()
    condemn(backend, [layout.blob(A)])
    condemned = Condemned.load(backend)
    known = condemned.collections
    condemned.refresh(backend)
    assert condemned.collections is known


def test_a_damaged_log_stops_who_needs_it() -> None:
    backend = MemoryBackend()
    condemn(backend, [layout.blob(A)])
    (document,) = (stat.name for stat in backend.walk("gc/names/"))
    backend.put(document, gc.encode_names(Names.of([layout.blob(B)])))
    with pytest.raises(Corrupt, match="its sha256 is not its name"):
        Condemned.load(backend)
    backend.delete(document)
    with pytest.raises(Corrupt, match="missing"):
        Condemned.load(backend)


def test_a_writer_does_not_see_what_is_condemned() -> None:
    backend = MemoryBackend()
    for name in (layout.blob(A), layout.blob(B)):
        backend.create(name, b"bytes")
    assert Condemned.load(backend).view(backend) is backend
    condemn(backend, [layout.blob(A), layout.blob(C)])
    view = Condemned.load(backend).view(backend)
    assert [stat.name for stat in view.walk("blobs/")] == [layout.blob(B)]
    for read in (view.get, view.stat, view.chunks):
        with pytest.raises(NameNotFound):
            read(layout.blob(A))
    assert view.get(layout.blob(B)) == b"bytes"
    with pytest.raises(NameRetired, match="not used again"):
        view.create(layout.blob(C), b"bytes")
    staged = view.stage()
    staged.write(b"bytes")
    with pytest.raises(NameRetired):
        staged.commit(layout.blob(C))


def collect(backend: Backend, chain: Chain) -> None:
    """Leave of a chain what a collector leaves."""
    base = chain.load()
    chain.commit(base, lambda state: gc.collected(state, 5), anew=True)
    for number in range(base.number + 1):
        backend.delete(layout.entry(chain.prefix, number))


def test_a_collected_run_is_read_and_nothing_is_added() -> None:
    backend = MemoryBackend()
    chain = Chain(backend, layout.manifest("run"))
    base = chain.commit(chain.load(), lambda state: {"run": {"run_id": "run", "deleted_at": 4}})
    late = base
    base = chain.commit(base, lambda state: {"tags": {"a": 1}})
    collect(backend, chain)
    found = chain.load()
    assert found.state == {"run": {"run_id": "run", "deleted_at": 4, "collected_at": 5}}
    assert chain.load_hinted(2) == found
    chain.check()
    chain.commit(late, lambda state: {"tags": {"late": True}})  # as if it had come before
    assert chain.load() == found
    for known in (base, found):
        with pytest.raises(InvalidState, match="removed and collected"):
            chain.commit(known, lambda state: {"tags": {"b": 2}})


def test_only_a_collected_run_may_lack_entries() -> None:
    backend = MemoryBackend()
    chain = Chain(backend, layout.manifest("run"))
    base = chain.commit(chain.load(), lambda state: {"run": {"run_id": "run"}})
    chain.commit(base, lambda state: {"tags": {"a": 1}}, full=True)
    backend.delete(layout.entry(chain.prefix, 0))
    with pytest.raises(Corrupt, match="00000000 is missing"):
        chain.load()
    with pytest.raises(Corrupt, match="00000000 is missing"):
        chain.check()
