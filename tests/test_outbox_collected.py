"""Collectors beside an outbox: whatever they take away before a change names it is sent again, from this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import holdfast
from far import FarBackend, opened
from holdfast.format import layout
from holdfast.repository import connected

LARGE = bytes(range(256)) * (3 << 12)  # 3 MiB: with a recipe of its own


@pytest.fixture
def far() -> FarBackend:
    backend = FarBackend()
    connected(backend)
    return backend


def begin(store: holdfast.ExperimentStore) -> holdfast.Run:
    return store.start_run("exp", run_id="run", capture=False, system=False)


def collect(far: FarBackend) -> None:
    with opened(far) as store:
        store.gc()


def folder(path: Path) -> Path:
    path.mkdir()
    for number in range(3):
        (path / f"{number}.txt").write_bytes(b"line\n" * (number + 1))
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "small": lambda path: b"small",
    "large": lambda path: LARGE,
    "folder": lambda path: folder(path / "folder"),
}


def held(store: holdfast.ExperimentStore, key: str, to: Path) -> Any:
    """The artifact as it was given: bytes, or what is in its files."""
    if store.run("run").artifacts[key].kind != "directory":
        return store.read_artifact("run", key)
    found = store.get_artifact("run", key, to=to)
    return {path.name: path.read_bytes() for path in found.iterdir()}


def given(source: Any) -> Any:
    if isinstance(source, bytes):
        return source
    return {path.name: path.read_bytes() for path in source.iterdir()}


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_sent_before_its_change_is_added_may_be_collected(
    far: FarBackend, kind: str, tmp_path: Path
) -> None:
    source = SOURCES[kind](tmp_path)
    with opened(far, sends_by_hand=True) as store, begin(store) as run:
        writer: Any = run._writer
        run.set_tags({"a": 1})
        with writer.storing("b") as place:
            about = run._stored(place, source, "b", layout="plain")
            writer.publish(roll=True)
            collect(far)
            writer.commit({"artifacts": {"b": about}})
        writer.publish(roll=True)
        assert writer.outbox.staged() == []
        run.finish()
    collect(far)
    with opened(far) as store:
        assert held(store, "b", tmp_path / "out") == given(source)
        assert store.verify() == []


@pytest.mark.parametrize("kind", SOURCES)
def test_a_collector_between_the_files_and_the_entry_has_them_sent_again(
    far: FarBackend, kind: str, tmp_path: Path
) -> None:
    """Twice: also what was stored anew, under a name that is new, is collected before it is named."""
    source, left = SOURCES[kind](tmp_path), [2]

    def fault(operation: str, name: str) -> None:
        number = name.startswith(layout.manifest("run")) and layout.entry_number(name)
        if operation == "create" and number and left[0]:
            left[0] -= 1
            collect(FarBackend(far.inner))

    with opened(far, sends_by_hand=True) as store, begin(store) as run:
        writer: Any = run._writer
        writer.publish(roll=True)
        run.log_artifact(source, key="b", layout="plain")
        far.fault = fault
        writer.publish(roll=True)
        assert left == [0]
        assert writer.outbox.staged() == []
        run.finish()
    collect(far)
    with opened(far) as store:
        assert held(store, "b", tmp_path / "out") == given(source)
        assert store.verify() == []


def test_what_is_stored_again_while_it_is_sent_stays(far: FarBackend) -> None:
    """The same bytes are found in the outbox in the moment in which they are sent."""
    with opened(far, sends_by_hand=True) as store, begin(store) as run:
        writer: Any = run._writer
        for data in (b"small", LARGE):
            run.log_artifact(data, key="a", layout="plain")
            with writer.storing("b") as place:
                about = run._stored(place, data, "b", layout="plain")
                waits = writer.outbox.staged()
                writer.publish(roll=True)
                assert writer.outbox.staged() == waits
                writer.commit({"artifacts": {"b": about}})
            writer.publish(roll=True)
            assert writer.outbox.staged() == []
        with pytest.raises(holdfast.errors.NotFound):
            run.log_artifact("/no such file", key="c")
        run.set_tags({"a": 1})
        writer.publish(roll=True)
        assert writer.outbox._holds == []
        run.finish()
