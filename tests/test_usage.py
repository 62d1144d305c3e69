"""Who needs which bytes: the sums are all that lies on disk, and what a removal would free is what counting
again without it finds missing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import holdfast
from holdfast.digest import Digest
from holdfast.errors import InvalidValue
from holdfast.format import layout, pack, recipe
from holdfast.ops import artifacts
from holdfast.ops.usage import RunState, usage

RANDOM = np.random.default_rng(5)
BLOCKS = [RANDOM.integers(0, 4, 700_000, "u1").tobytes() for _ in range(4)]


def states(store: holdfast.ExperimentStore) -> list[RunState]:
    found = []
    for run_id in store.repository.backend.folders(layout.RUNS):
        state = store.repository.manifest(run_id).load().state
        experiment = state["run"]["experiment_id"]
        found.append(RunState(run_id, experiment, experiment, state))
    return found


def of_artifact(store: holdfast.ExperimentStore, digest: Digest, names: set[str]) -> Any:
    found = {(layout.blob(digest), -1)} if layout.blob(digest) in names else set()
    for name in names:
        if name.startswith(layout.recipes(digest)):
            found.add((name, -1))
            made_of = recipe.decode(store.repository.backend.get(name), place=name)
            for number in range(len(made_of)):
                chunk = made_of.chunk(number)
                home = (layout.pack if chunk.packed else layout.blob)(chunk.home)
                found |= {(home, -1), (home, chunk.offset)} if chunk.packed else {(home, -1)}
    return found


def needed(store: holdfast.ExperimentStore, runs: list[RunState]) -> set[tuple[str, int]]:
    """By brute force: (file, place in it) of everything that these runs need; a pack's frame is place -1."""
    found: set[tuple[str, int]] = set()
    names = {stat.name for stat in store.repository.backend.walk("")}
    for run in runs:
        found |= {(name, -1) for name in names if name.startswith(f"runs/{run.run_id}/")}
        found |= {(name, -1) for name in names if name.startswith(f"heads/runs/{run.run_id}@")}
        for about in run.state.get("artifacts", {}).values():
            digest = Digest.parse(about["digest"])
            found |= of_artifact(store, digest, names)
            if about["kind"] == "directory":
                for entry in artifacts.directory_entries(store.repository, digest):
                    if entry.digest:
                        found |= of_artifact(store, Digest.from_raw(entry.digest), names)
    return found


def weigh(store: holdfast.ExperimentStore, items: set[tuple[str, int]]) -> int:
    """The bytes of these items, from the packs themselves."""
    backend, total = store.repository.backend, 0
    for name in {name for name, _ in items}:
        data = backend.get(name)
        if not name.startswith("packs/"):
            total += len(data)
            continue
        index = pack.index(data, len(data), lambda at, n, d=data: d[at : at + n], place=name)  # type: ignore[misc]
        chunks = {
            c.offset: c.length + pack.head_bytes(len(c.bases)) + 50 + 32 * len(c.bases)
            for c in index.chunks()
        }
        total += len(data) - sum(chunks.values())
        total += sum(size for offset, size in chunks.items() if (name, offset) in items)
    return total


def check(store: holdfast.ExperimentStore, by: str = "run") -> None:
    runs = states(store)
    found = usage(store.repository, runs, by)
    disk = sum(stat.size_bytes for stat in store.repository.backend.walk(""))
    freed = sum(row.freed_bytes for row in found.rows)
    parts = (freed, found.shared_bytes, found.hidden_bytes, found.garbage_bytes, found.own_bytes)
    assert sum(parts) == disk == found.total_bytes
    assert all(row.stored_bytes == row.shared_bytes + row.freed_bytes for row in found.rows)
    assert min(parts) >= 0
    if by == "run":
        everything = weigh(store, needed(store, runs))
        for row in found.rows:
            others = [run for run in runs if run.run_id != row.run_id]
            assert row.freed_bytes == everything - weigh(store, needed(store, others))
        assert everything == freed + found.shared_bytes


@settings(max_examples=12, deadline=None)
@given(
    plan=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 2),
            st.lists(st.integers(0, 3), min_size=1, max_size=3),
            st.sampled_from(["plain", "packed", "auto"]),
        ),
        max_size=6,
    ),
    gone=st.integers(0, 2),
)
def test_the_sums_are_the_disk_and_a_removal_frees_what_was_said(plan: Any, gone: int) -> None:
    with holdfast.ExperimentStore() as store:
        for number in range(3):
            with store.start_run(
                f"e{number % 2}", run_id=f"r{number}", capture=False, system=False
            ) as run:
                run.log({"loss": number})
                for of, key, blocks, how in plan:
                    if of == number:
                        data = b"".join(BLOCKS[block] for block in blocks)
                        run.log_artifact(data, f"a{key}", layout=how)
        for by in ("run", "experiment", "artifact"):
            check(store, by)
        store.delete_run(f"r{gone}")
        check(store)
        # As a collection would: the run is gone, and what only it needed is garbage.
        before = {row.run_id: row for row in usage(store.repository, states(store)).rows}
        kept = usage(store.repository, [s for s in states(store) if s.run_id != f"r{gone}"])
        assert kept.own_bytes + kept.garbage_bytes >= before[f"r{gone}"].freed_bytes
        assert {row.run_id: row.stored_bytes for row in kept.rows} == {
            name: row.stored_bytes for name, row in before.items() if name != f"r{gone}"
        }


def test_directories_and_what_nobody_needs(tmp_path: Path) -> None:
    for place, block in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / place).write_bytes(BLOCKS[block])
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("e", run_id="r", capture=False) as run:
            run.log_artifact(tmp_path / "d", "d")
            run.log_artifact(BLOCKS[2] * 2, "old", layout="packed")
            before = store.du().garbage_bytes
            run.log_artifact(b"new", "old")
        check(store)
        found = store.du()
        assert before == 0 and found.garbage_bytes > 100_000
        assert found.rows[0].logical_bytes > 3 * len(BLOCKS[0])


def test_a_damaged_index_of_a_pack_leaves_the_sums_exact(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("e", run_id="r", capture=False) as run:
            run.log_artifact(BLOCKS[0] * 2, "a", layout="packed")
        [path] = [path for path in (tmp_path / "lab/packs").rglob("*") if path.is_file()]
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:-1] + b"?")
        found = store.du()
        assert found.garbage_bytes == 0
        assert found.rows[0].stored_bytes > path.stat().st_size


def test_where_chooses_the_rows_and_the_rest_is_one_number(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        for number in range(3):
            with store.start_run(
                "e", run_id=f"r{number}", config={"n": number}, capture=False
            ) as run:
                run.log_artifact(BLOCKS[0] + BLOCKS[number], "a")
        every, some = store.du(), store.du("config.n > 0")
        assert [row.run_id for row in some.rows if row.run_id != "r0"] == [
            r.run_id for r in some.rows
        ]
        gone = next(row for row in every.rows if row.run_id == "r0")
        assert some.hidden_bytes == gone.freed_bytes
        assert dataclasses.replace(every, rows=[], hidden_bytes=0) == dataclasses.replace(
            some, rows=[], hidden_bytes=0
        )
        with pytest.raises(InvalidValue, match="usage is by"):
            store.du(by="colour")


def test_the_command_adds_up_and_says_so_in_json(tmp_path: Path, capsys: Any) -> None:
    from holdfast.cli.app import run as command

    with holdfast.open(tmp_path / "lab") as store, store.start_run("e", run_id="r") as run:
        run.log_artifact(BLOCKS[0] * 2, "big")
    for by in ("experiment", "run", "artifact"):
        assert command(["du", "--by", by, "--bytes", "-s", str(tmp_path / "lab")]) == 0
        text = capsys.readouterr().out
        assert "all on disk" in text and "freed" in text
    assert command(["du", "--json", "-s", str(tmp_path / "lab")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"][0]["run_id"] == "r" and found["hidden_bytes"] == 0
