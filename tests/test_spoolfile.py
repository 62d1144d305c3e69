"""Spools on local disk: every byte where it belongs, room before it is needed, names that last."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

import golden
from holdfast.backend import disk, spoolfile
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.errors import Corrupt, StorageFull
from holdfast.format import layout
from holdfast.series import live_spools

NAME = "runs/a/spool/s"


def mapped(backend: LocalBackend) -> spoolfile.MappedAppender:
    appender = backend.append(NAME, b"head")
    if not isinstance(appender, spoolfile.MappedAppender):
        pytest.skip("this file system's blocks may move: spools are not mapped here")
    return appender


def pieces(seed: int, total: int) -> list[bytes]:
    chance = random.Random(seed)
    found: list[bytes] = []
    while total > 0:
        size = chance.choice([1, 137, 137, 4096, 5000, 70_000, 1_500_000])
        found.append(chance.randbytes(size).replace(b"\0", b"\1"))
        total -= size
    return found


@pytest.mark.parametrize("prepared", [False, True])
def test_records_of_any_size_lie_one_behind_the_other(tmp_path: Path, prepared: bool) -> None:
    backend = LocalBackend(tmp_path)
    appender = mapped(backend)
    written = b"head"
    for turn, piece in enumerate(pieces(3, 12_000_000)):
        assert appender.write(piece) == len(piece)
        written += piece
        if prepared and turn % 3 == 0:
            assert appender.prepare(100_000) >= 100_000
    assert backend.get(NAME).rstrip(b"\0") == written
    appender.close()
    assert backend.get(NAME).rstrip(b"\0") == written


def test_room_is_made_in_the_background_while_others_write(tmp_path: Path) -> None:
    """Zeros that are written ahead never fall on a record, whoever makes the room."""
    backend = LocalBackend(tmp_path)
    appender = mapped(backend)
    done = threading.Event()

    def background() -> None:
        chance = random.Random(5)
        while not done.is_set():
            appender.prepare(chance.randrange(3_000_000))
            appender.sync()

    thread = threading.Thread(target=background)
    thread.start()
    record = bytes(range(1, 138))
    for _ in range(120_000):
        appender.write(record)
    done.set()
    thread.join()
    appender.close()
    assert backend.get(NAME).rstrip(b"\0") == b"head" + record * 120_000


def test_no_room_is_an_error_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(tmp_path)
    appender = mapped(backend)
    filled = bytes([7]) * (spoolfile.FIRST_BYTES - 4)
    appender.write(filled)

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert appender.prepare(1_000_000) == 0
        with pytest.raises(OSError, match="No space left"):
            appender.write(b"more")
        with pytest.raises(StorageFull, match="the disk is full"):
            backend.append("runs/b/spool/s", b"head")
        assert list(backend.walk("runs/b/")) == []
        assert backend.get(NAME) == b"head" + filled
    appender.write(b"more")
    appender.close()
    assert backend.get(NAME).rstrip(b"\0") == b"head" + filled + b"more"


def test_a_kind_of_file_system_that_nobody_knows_is_not_mapped(tmp_path: Path) -> None:
    assert spoolfile._kind_of(os.stat("/proc").st_dev) == "proc"
    assert spoolfile._kind_of(os.makedev(4095, 77)) == ""


class Growing(MemoryBackend):
    """Each `get` gives the next of some views of a file, and the last one for ever."""

    def __init__(self, name: str, views: list[bytes]) -> None:
        super().__init__()
        self.create(name, views[-1])
        self.views = views

    def get(self, name: str) -> bytes:
        return self.views.pop(0) if len(self.views) > 1 else self.views[0]


def test_a_record_that_came_while_it_was_read_is_no_damage() -> None:
    """Read as zeros, although the one behind it was read whole: reading again finds both."""
    data = golden.read("spool")
    name = layout.spool(golden.RUN, golden.SPOOL_ABOUT["writer"], 0)
    first, second = data.index(b"\x94\xcd\x00\x00"), data.index(b"\x92\xcd\x00\x01")
    early = data[:first] + bytes(second - 6 - first) + data[second - 6 :]
    last = data.rindex(b"\x94\xcd\x00\x00")
    later = data[: second + 3] + b"\0" + data[second + 4 : last]
    [live] = live_spools(Growing(name, [early, later, data]), golden.RUN)
    assert live.scan.row_count == 3
    with pytest.raises(Corrupt, match=f"byte {first}"):
        list(live_spools(Growing(name, [early, early, data]), golden.RUN))


class Calls:
    """What `fsync` was asked for, and when names appeared, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.found: list[tuple[str, str]] = []
        for name in ("mkdir", "link", "fsync"):
            patch.setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, real):  # type: ignore[no-untyped-def]
        def call(first, *rest, **named):  # type: ignore[no-untyped-def]
            path = os.readlink(f"/proc/self/fd/{first}") if name == "fsync" else (*rest, first)[0]
            answer = real(first, *rest, **named)
            self.found.append((name, os.fspath(path) if name != "mkdir" else os.fspath(first)))
            return answer

        return call

    def unsynced(self) -> set[str]:
        """Names that a power cut now would take: no fsync of their directory came after them."""
        lost = set()
        for name, path in self.found:
            if name == "fsync":
                lost -= {item for item in lost if os.path.dirname(item) == path}
            else:
                lost.add(path)
        return lost


def test_a_created_name_and_every_directory_above_it_survive_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    backend = LocalBackend(tmp_path / "new" / "lab")
    backend.put("heads/hint", b"x")  # need not be durable, but leaves directories behind
    backend.create("runs/a/manifest/00000000", b"first")
    assert calls.unsynced() <= {str(tmp_path / "new" / "lab" / "heads")}
    assert ("mkdir", str(tmp_path / "new")) in calls.found
    backend.create("runs/a/segments/x", b"first")
    assert calls.unsynced() <= {str(tmp_path / "new" / "lab" / "heads")}
    spool = backend.append("runs/b/spool/s", b"head")
    spool.sync()
    spool.close()
    assert calls.unsynced() <= {str(tmp_path / "new" / "lab" / "heads")}
    before = len(calls.found)
    backend.create("runs/a/manifest/00000001", b"second")
    assert [name for name, _ in calls.found[before:]] == ["fsync", "link", "fsync"]


def test_a_directory_that_another_process_made_is_made_durable_by_us_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab" / "runs" / "a").mkdir(parents=True)
    calls = Calls(monkeypatch)
    LocalBackend(tmp_path / "lab").create("runs/a/x", b"1")
    synced = {path for name, path in calls.found if name == "fsync"}
    assert {str(tmp_path / "lab"), str(tmp_path / "lab" / "runs")} <= synced


def test_a_directory_that_cannot_be_synced_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = disk.sync_directory

    def fails_above(directory: str) -> None:
        if directory == str(tmp_path):
            raise OSError(errno.EIO, "Input/output error")
        real(directory)

    monkeypatch.setattr(disk, "sync_directory", fails_above)
    backend = LocalBackend(tmp_path)
    with pytest.raises(Exception, match="Input/output error"):
        backend.create("a/b/c", b"x")
    monkeypatch.undo()
    backend.create("a/b/d", b"x")
