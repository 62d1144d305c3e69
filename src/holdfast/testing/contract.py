"""The backend contract as a pytest class that any backend can run.

class TestMyBackend(BackendContract):
    @pytest.fixture
    def backend(self): return MyBackend(...)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.backend.base import CHUNK_BYTES, Backend
from holdfast.errors import BackendError, NameExists, NameNotFound

RACERS = 16
LARGE_CHUNKS = 44  # more pieces than any backend sends, or fetches ahead, at once


class BackendContract:
    """Subclass it with a `backend` fixture that gives an empty backend to each test."""

    def test_what_is_created_is_read_back(self, backend: Backend) -> None:
        backend.create("runs/a/manifest/00000000", b"first")
        assert backend.get("runs/a/manifest/00000000") == b"first"
        assert backend.stat("runs/a/manifest/00000000").size_bytes == 5

    def test_create_refuses_a_taken_name_and_changes_nothing(self, backend: Backend) -> None:
        backend.create("a/b", b"first")
        with pytest.raises(NameExists):
            backend.create("a/b", b"second")
        assert backend.get("a/b") == b"first"

    def test_put_replaces(self, backend: Backend) -> None:
        backend.put("heads/x", b"1")
        backend.put("heads/x", b"22")
        assert backend.get("heads/x") == b"22"

    @pytest.mark.parametrize("operation", ["get", "stat", "get_range", "chunks"])
    def test_a_missing_name_is_not_found(self, backend: Backend, operation: str) -> None:
        backend.create("a/here", b"x")
        with pytest.raises(NameNotFound):
            if operation == "get_range":
                backend.get_range("a/gone", 0, 1)
            elif operation == "chunks":
                list(backend.chunks("a/gone"))
            else:
                getattr(backend, operation)("a/gone")

    def test_ranges(self, backend: Backend) -> None:
        backend.create("a/r", bytes(range(100)))
        assert backend.get_range("a/r", 10, 5) == bytes(range(10, 15))
        assert backend.get_range("a/r", 95, 50) == bytes(range(95, 100))

    def test_large_files_stream_in_bounded_pieces(self, backend: Backend) -> None:
        data = bytes(2 * CHUNK_BYTES + 17)
        backend.create("a/large", data)
        pieces = list(backend.chunks("a/large"))
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= CHUNK_BYTES

    def test_empty_files_are_files(self, backend: Backend) -> None:
        backend.create("a/empty", b"")
        assert backend.get("a/empty") == b""
        assert list(backend.chunks("a/empty")) == []

    def test_list_is_sorted_recursive_and_bounded_by_its_prefix(self, backend: Backend) -> None:
        for name in ("b/2", "b/1", "b/sub/3", "bb/4", "c/5"):
            backend.create(name, b"x")
        assert [stat.name for stat in backend.walk("b/")] == ["b/1", "b/2", "b/sub/3"]
        assert list(backend.walk("nothing/")) == []

    def test_folders(self, backend: Backend) -> None:
        for name in ("runs/a/x", "runs/b/y/z", "runs/file"):
            backend.create(name, b"x")
        assert backend.folders("runs/") == ["a", "b"]
        assert backend.folders("nothing/") == []

    def test_names_are_those_directly_below(self, backend: Backend) -> None:
        for name in ("heads/runs/b@1", "heads/runs/a@1", "heads/other/c", "heads/runsx"):
            backend.create(name, b"x")
        assert sorted(backend.names("heads/runs/")) == ["a@1", "b@1"]
        assert set(backend.names("heads/")) - {"runs", "other"} == {"runsx"}
        assert backend.names("nothing/") == []

    def test_a_token_is_never_the_same_after_a_change(self, backend: Backend) -> None:
        changes: list[Callable[[], None]] = [
            lambda: backend.create("heads/a", b"x"),
            lambda: backend.put("heads/a", b"y"),
            lambda: backend.put("heads/b", b"y"),
            lambda: backend.delete("heads/a"),
            lambda: backend.create("heads/sub/deeper/c", b"x"),
        ]
        seen = {backend.token("heads/")}
        for change in changes:
            change()
            token = backend.token("heads/")
            assert token is None or token not in seen
            seen.add(token)

    def test_deleting_is_idempotent(self, backend: Backend) -> None:
        backend.create("a/d", b"x")
        backend.delete("a/d")
        backend.delete("a/d")
        assert list(backend.walk("a/")) == []
        backend.create("a/d", b"again")
        assert backend.get("a/d") == b"again"

    def test_staged_bytes_appear_whole_under_their_name(self, backend: Backend) -> None:
        staged = backend.stage()
        staged.write(b"one")
        staged.write(memoryview(b"two"))
        assert list(backend.walk("")) == []
        assert staged.commit("blobs/x") is True
        staged.abort()
        assert backend.get("blobs/x") == b"onetwo"

    def test_a_taken_name_makes_commit_say_no(self, backend: Backend) -> None:
        backend.create("blobs/x", b"first")
        staged = backend.stage()
        staged.write(b"second")
        assert staged.commit("blobs/x") is False
        staged.abort()
        assert backend.get("blobs/x") == b"first"

    def test_a_stage_may_replace_a_damaged_file(self, backend: Backend) -> None:
        backend.create("blobs/x", b"damaged")
        staged = backend.stage()
        staged.write(b"whole")
        staged.replace("blobs/x")
        staged.abort()
        assert [(stat.name, stat.size_bytes) for stat in backend.walk("")] == [("blobs/x", 5)]
        assert backend.get("blobs/x") == b"whole"

    def test_an_aborted_stage_leaves_nothing(self, backend: Backend) -> None:
        staged = backend.stage()
        staged.write(b"half")
        staged.abort()
        assert list(backend.walk("")) == []

    def test_many_are_read_in_the_order_asked_for(self, backend: Backend) -> None:
        for number in range(20):
            backend.create(f"a/{number}", str(number).encode())
        names = [f"a/{number}" for number in reversed(range(20))]
        assert backend.get_many(names) == [name[2:].encode() for name in names]
        assert backend.get_many([]) == []
        with pytest.raises(NameNotFound):
            backend.get_many(["a/1", "a/gone"])

    def test_names_may_hold_what_people_write(self, backend: Backend) -> None:
        names = ["a b", "ä", "100%", "a#b", "a%20b", "a+b&c", "e=1@2", "x~y", "p[1]", "it's, (all)"]
        for name in names:
            backend.create(f"odd/{name}/x", name.encode())
            assert backend.get(f"odd/{name}/x") == name.encode()
        found = [stat.name for stat in backend.walk("odd/")]
        assert sorted(found) == sorted(f"odd/{name}/x" for name in names)
        assert backend.folders("odd/") == sorted(names)

    def test_large_staged_bytes_arrive_whole_and_once(self, backend: Backend) -> None:
        block = bytes(range(256)) * (CHUNK_BYTES // 256)
        for taken in (False, True):
            staged = backend.stage()
            for _ in range(LARGE_CHUNKS):
                staged.write(block)
            staged.write(b"end")
            assert staged.commit("blobs/large") is not taken
            staged.abort()
        size = LARGE_CHUNKS * CHUNK_BYTES + 3
        assert backend.stat("blobs/large").size_bytes == size
        assert b"".join(backend.chunks("blobs/large")) == block * LARGE_CHUNKS + b"end"
        assert backend.get_range("blobs/large", size - 4, 10) == b"\xffend"

    def test_long_listings_are_complete(self, backend: Backend) -> None:
        names = [f"heads/runs/{number:05d}" for number in range(1100)]  # servers give 1,000 a page
        with ThreadPoolExecutor(RACERS) as pool:
            list(pool.map(lambda name: backend.put(name, b"x"), names))
        assert [stat.name for stat in backend.walk("heads/")] == names

    def test_a_spool_grows_and_can_be_read_meanwhile(self, backend: Backend) -> None:
        if not backend.capabilities.append:
            with pytest.raises(BackendError, match="cannot append"):
                backend.append("runs/a/spool/s", b"head")
            return
        spool = backend.append("runs/a/spool/s", b"head")
        assert spool.write(b"12345") == 5
        # Zeros may follow: what is allocated ahead of need.
        assert backend.get("runs/a/spool/s").rstrip(b"\0") == b"head12345"
        assert spool.prepare(10_000) >= 10_000
        spool.cut(2)
        spool.write(b"9")
        spool.sync()
        spool.close()
        spool.close()
        assert backend.get("runs/a/spool/s").rstrip(b"\0") == b"head1239"
        with pytest.raises(NameExists):
            backend.append("runs/a/spool/s", b"head")

    def test_one_of_many_racing_creators_wins(self, backend: Backend) -> None:
        def create(number: int, name: str, start: threading.Barrier) -> bool:
            start.wait()
            try:
                backend.create(name, str(number).encode())
            except NameExists:
                return False
            return True

        with ThreadPoolExecutor(RACERS) as pool:
            for turn in range(10):
                start, name = threading.Barrier(RACERS), f"race/{turn:08d}"
                won = list(pool.map(lambda n: create(n, name, start), range(RACERS)))  # noqa: B023
                assert won.count(True) == 1
                assert backend.get(name) == str(won.index(True)).encode()
