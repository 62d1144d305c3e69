"""What fsck finds is mended from whatever is whole, byte for byte where that can be; nothing is deleted."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import holdfast
import whole_store
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.checking import CheckingMethods
from holdfast.errors import BackendError, ReadOnly
from holdfast.format import kinds, layout, pack
from holdfast.repository import Repository, connected

FLIPS = 120
MANY_FLIPS = int(os.environ.get("HOLDFAST_FLIPS", "10000"))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "lab"
    whole_store.build(root)
    return root


@pytest.fixture
def lab(twin: Path, tmp_path: Path) -> Path:
    shutil.copytree(twin, tmp_path / "lab")
    return tmp_path / "lab"


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def names(root: Path, prefix: str) -> list[str]:
    return [name for name in whole_store.files(root) if name.startswith(prefix)]


def middle(path: Path) -> int:
    return 8 * (path.stat().st_size // 2)


def quarantined(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.glob("quarantine/**/*") if p.is_file())


def flip_and_mend(lab: Path, twin: Path, flips: int, chance: random.Random) -> None:
    """Each file gets its share of the flips by its size, and each file a few."""
    whole = whole_store.files(twin)
    total = sum(map(len, whole.values()))
    few = max(1, flips // (4 * len(whole)))
    for name, data in whole.items():
        for _ in range(few + flips * len(data) * 3 // 4 // total):
            bit = chance.randrange(8 * len(data))
            flip(lab / name, bit)
            report = holdfast.fsck(lab)
            found = [one.place for one in [*report.findings, *report.notes] if one.code != "spool"]
            assert name in found, f"bit {bit} of {name} went unnoticed"
            done = holdfast.repair(lab, twin, report=report, spools=False)
            assert [one.problem for one in done.refused] == []
            assert (lab / name).read_bytes() == data, f"bit {bit} of {name} was not mended"
            if kinds.kind_of(name) != kinds.HEAD:  # hints are written over
                kept = (lab / layout.quarantined(name)).read_bytes()
                assert sum(a != b for a, b in zip(kept, data, strict=True)) == 1
                shutil.rmtree(lab / "quarantine")
    assert whole_store.files(lab) == whole
    assert holdfast.fsck(lab).findings == []


def test_any_bit_that_flips_is_mended_from_a_copy(lab: Path, twin: Path) -> None:
    flip_and_mend(lab, twin, FLIPS, random.Random(3))


@pytest.mark.slow
def test_ten_thousand_bits_that_flip_are_found_and_mended(lab: Path, twin: Path) -> None:
    """`HOLDFAST_FLIPS` says how many. docs/decisions/0022-fsck.md has the result."""
    flip_and_mend(lab, twin, MANY_FLIPS, random.Random(11))


def test_files_that_are_missing_come_back_from_a_copy(lab: Path, twin: Path) -> None:
    """All that something tells of: not the newest entry of a chain, nor what nothing refers to."""
    whole = whole_store.files(twin)
    chains = {name.rpartition("/")[0] for name in whole if kinds.kind_of(name) == kinds.ENTRY}
    newest = {max(n for n in whole if n.startswith(f"{chain}/0")) for chain in chains}
    unknown = {kinds.STORE, kinds.RECIPE, kinds.SPOOL, kinds.SIGNATURE}
    for name in whole:
        if name not in newest and kinds.kind_of(name) not in unknown:
            (lab / name).unlink()
    done = holdfast.repair(lab, twin, spools=False)
    assert done.refused == []
    assert whole_store.files(lab) == whole


def test_a_plan_changes_nothing(lab: Path, twin: Path) -> None:
    flip(lab / names(lab, "blobs/")[0], 9)
    before = whole_store.files(lab)
    planned = holdfast.repair(lab, twin, dry_run=True)
    assert [one.how for one in planned.mended if one.finding.code == "digest_mismatch"] == [
        f"copy it from {twin}"
    ]
    assert whole_store.files(lab) == before
    assert quarantined(lab) == []


def test_a_damaged_blob_is_put_together_from_its_chunks(lab: Path) -> None:
    with holdfast.open(lab) as store:
        [done] = store.materialize("whole", "checkpoints/1.npy")
    name = layout.blob(done.digest)
    whole = (lab / name).read_bytes()
    flip(lab / name, middle(lab / name))
    done = holdfast.repair(lab, spools=False)
    assert [one.how for one in done.mended] == ["put it together from packs of this store"]
    assert (lab / name).read_bytes() == whole


@pytest.mark.parametrize("where", ["index", "head", "magic", "trailer"])
def test_a_pack_whose_payloads_are_whole_is_put_together_from_itself(lab: Path, where: str) -> None:
    name = names(lab, "packs/")[0]
    whole = (lab / name).read_bytes()
    at = {
        "index": len(whole) - 60,
        "head": pack.FRONT_BYTES + 10,
        "magic": 4,
        "trailer": len(whole) - 3,
    }
    flip(lab / name, 8 * at[where])
    assert holdfast.fsck(lab).findings[0].place == name
    done = holdfast.repair(lab, spools=False)
    assert [(one.place, one.how) for one in done.mended] == [
        (name, "put it together from its own chunks")
    ]
    assert (lab / name).read_bytes() == whole


def test_artifacts_of_a_damaged_pack_come_from_another_layout_there(
    lab: Path, tmp_path: Path
) -> None:
    """The source has the same artifacts, and none of the same files."""
    other = tmp_path / "other"
    with holdfast.open(lab) as store, holdfast.open(other) as there:
        info = store.run("whole").artifacts
        keys = [key for key in info if key.startswith("checkpoints/")]
        data = {key: store.read_artifact("whole", key) for key in keys}
        with there.start_run("x") as run:
            for key in keys:
                run.log_artifact(data[key], key=key, layout="plain")
    for name in names(lab, "packs/"):
        flip(lab / name, middle(lab / name))
    refused = holdfast.repair(lab, spools=False).refused
    assert refused
    assert all("run whole, artifact checkpoints/" in one.problem for one in refused)
    assert all("--from" in one.problem for one in refused)
    assert holdfast.repair(lab, other, spools=False).refused == []
    report = holdfast.fsck(lab)
    assert report.findings == []
    with holdfast.open(lab) as store:
        assert {key: store.read_artifact("whole", key) for key in keys} == data
    assert set(map(kinds.kind_of, (q.removeprefix("quarantine/") for q in quarantined(lab)))) == {
        kinds.PACK, kinds.RECIPE,
    }  # fmt: skip


def test_a_recipe_of_a_plain_artifact_is_written_again(lab: Path) -> None:
    with holdfast.open(lab) as store:
        digest = store.run("whole").artifacts["plain"].digest
        whole = store.read_artifact("whole", "plain")
    [name] = names(lab, layout.recipes(digest))
    flip(lab / name, 300)
    assert holdfast.repair(lab, spools=False).refused == []
    assert holdfast.fsck(lab).findings == []
    with holdfast.open(lab) as store, store.open_artifact("whole", "plain") as file:
        assert file.read() == whole
    assert quarantined(lab) == [f"quarantine/{name}"]


def test_the_newest_entry_is_taken_from_a_copy_or_not_at_all(lab: Path, twin: Path) -> None:
    name = max(names(lab, layout.manifest("whole")))
    whole = (lab / name).read_bytes()
    flip(lab / name, middle(lab / name))
    [refused] = holdfast.repair(lab, spools=False).refused
    assert "run whole" in refused.problem
    assert (lab / name).read_bytes() != whole, "an older state is never passed off as the newest"
    assert holdfast.repair(lab, twin, spools=False).refused == []
    assert (lab / name).read_bytes() == whole


def test_an_entry_of_another_history_is_not_taken(lab: Path, twin: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(twin, other)
    for root, note in ((lab, "here"), (other, "there")):
        with holdfast.open(root) as store:
            chain = store.repository.manifest("whole")
            for turn in range(2):
                text = f"{note} {turn}"
                chain.commit(chain.load(), lambda state, text=text: {"run": {"note": text}})
            last = layout.entry(chain.prefix, chain.load().number)
    flip(lab / last, middle(lab / last))
    damaged = (lab / last).read_bytes()
    [refused] = holdfast.repair(lab, other, spools=False).refused
    assert "another history" in refused.problem
    assert (lab / last).read_bytes() == damaged


def test_store_json_is_taken_from_a_copy_and_from_no_other_store(
    lab: Path, twin: Path, tmp_path: Path
) -> None:
    holdfast.open(tmp_path / "stranger").close()
    flip(lab / layout.STORE, 400)
    [refused] = holdfast.repair(lab, tmp_path / "stranger", spools=False).refused
    assert "not known whether that is a copy" in refused.problem
    assert holdfast.repair(lab, twin, spools=False).refused == []
    assert (lab / layout.STORE).read_bytes() == (twin / layout.STORE).read_bytes()


def test_heads_are_written_again(lab: Path, twin: Path) -> None:
    for path in (lab / "heads").rglob("*@*"):
        path.unlink()
    assert holdfast.repair(lab, spools=False).refused == []
    assert whole_store.files(lab) == whole_store.files(twin)


def test_what_a_dead_process_left_is_sealed(lab: Path) -> None:
    assert names(lab, "runs/crashed/spool/")
    done = holdfast.repair(lab)
    assert [(one.finding.code, one.how) for one in done.mended] == [("spool", "seal its points")]
    assert names(lab, "runs/crashed/spool/") == []
    with holdfast.open(lab) as store:
        assert len(store.metrics("crashed", "x")) == 21
        assert store.fsck().findings == []


def test_a_damaged_spool_is_salvaged(lab: Path) -> None:
    [name] = names(lab, "runs/crashed/spool/")
    data = bytearray((lab / name).read_bytes())
    data[len(data.rstrip(b"\0")) // 2] ^= 1
    (lab / name).write_bytes(data)
    assert [one.code for one in holdfast.fsck(lab).findings] == ["corrupt"]
    assert holdfast.repair(lab).refused == []
    assert quarantined(lab) == [f"quarantine/{name}"]
    with holdfast.open(lab) as store:
        assert len(store.metrics("crashed", "x")) >= 19


def test_what_nothing_needs_is_set_aside(lab: Path) -> None:
    from holdfast import blobs

    with holdfast.open(lab) as store:
        digest, _ = blobs.put_bytes(store.repository.backend, b"nobody's")
    name = layout.blob(digest)
    flip(lab / name, 3)
    damaged = (lab / name).read_bytes()
    assert [one.place for one in holdfast.repair(lab, spools=False).mended] == [name]
    assert not (lab / name).exists()
    assert (lab / "quarantine" / name).read_bytes() == damaged


def test_a_file_that_is_damaged_twice_is_kept_twice(lab: Path, twin: Path) -> None:
    name = names(lab, "blobs/")[0]
    for bit in (1, 2):
        flip(lab / name, bit)
        holdfast.repair(lab, twin, spools=False)
    assert len(quarantined(lab)) == 2
    assert holdfast.repair(lab, twin, spools=False).mended == []


@pytest.mark.parametrize("executor", ["threads:2", "processes:2"])
def test_much_damage_at_once_is_mended_wherever_the_work_runs(
    lab: Path, twin: Path, executor: str
) -> None:
    chance = random.Random(5)
    for name, data in whole_store.files(lab).items():
        flip(lab / name, chance.randrange(8 * len(data)))
    report = holdfast.fsck(lab, executor=executor)
    done = holdfast.repair(lab, twin, spools=False, report=report, executor=executor)
    # What hides behind other damage comes to light when that is mended.
    done = holdfast.repair(lab, twin, spools=False, executor=executor)
    assert done.refused == []
    assert whole_store.files(lab) == whole_store.files(twin)


def test_a_store_that_is_open_for_reading_is_not_mended(lab: Path, twin: Path) -> None:
    flip(lab / names(lab, "blobs/")[0], 9)
    with holdfast.open(lab, read_only=True) as store, pytest.raises(ReadOnly):
        store.repair(twin)


# Every call to the storage may be the last one.


class Crash(BackendError):
    pass


def _memory(files: dict[str, bytes]) -> MemoryBackend:
    backend = MemoryBackend()
    for name, data in files.items():
        backend.put(name, data)
    return backend


def _methods(repository: Repository) -> CheckingMethods:
    methods = CheckingMethods()
    methods.repository = repository
    return methods


def _damage(files: dict[str, bytes]) -> dict[str, Callable[[bytes], bytes]]:
    """Which file is damaged, and how."""

    def some(prefix: str) -> str:
        return next(name for name in files if name.startswith(prefix))

    def broken(data: bytes) -> bytes:
        return (
            data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        )

    newest = max(name for name in files if name.startswith("runs/whole/manifest/"))
    kinds_of = map(some, ("blobs/", "packs/", "recipes/", "runs/whole/segments/"))
    return dict.fromkeys([*kinds_of, newest], broken)


def test_killed_at_any_call_it_leaves_nothing_worse_and_ends_the_work_next_time(
    twin: Path,
) -> None:
    whole = {n: d for n, d in whole_store.files(twin).items() if "/spool/" not in n}
    for name, broken in _damage(whole).items():
        calls = 0
        while True:
            backend = _memory({**whole, name: broken(whole[name])})
            report = _methods(connected(backend)).fsck(executor="threads:1")
            left = calls

            def watch(operation: str, place: str) -> None:
                nonlocal left
                left -= 1
                if left < 0 and operation not in ("get", "chunks", "stat", "walk", "get_range"):
                    raise Crash("killed", name=place)

            watched = connected(WatchedBackend(backend, watch))
            left = calls
            done = _methods(watched).repair(twin, spools=False, report=report, executor="threads:1")
            after = {s.name: backend.get(s.name) for s in backend.walk("")}
            kept = {n: d for n, d in after.items() if not n.startswith("quarantine/")}
            assert kept in ({**whole, name: broken(whole[name])}, whole)
            _methods(connected(backend)).repair(twin, spools=False)
            again = {s.name: backend.get(s.name) for s in backend.walk("")}
            assert {n: d for n, d in again.items() if not n.startswith("quarantine/")} == whole
            assert again[layout.quarantined(name)] == broken(whole[name])
            if not done.refused:
                break
            calls += 1
        assert calls > 3


def test_a_repair_reads_numpy_saved_weights_as_before(lab: Path, twin: Path) -> None:
    for name in names(lab, "packs/"):
        flip(lab / name, middle(lab / name))
    holdfast.repair(lab, twin, spools=False)
    with holdfast.open(lab) as store, holdfast.open(twin) as other:
        for number in range(3):
            key = f"checkpoints/{number}.npy"
            with store.open_artifact("whole", key) as file:
                assert np.array_equal(np.load(file), np.load(other.open_artifact("whole", key)))


def test_what_a_run_an_alias_or_a_snapshot_needs_is_never_set_aside(lab: Path) -> None:
    for name in names(lab, "blobs/"):
        data = (lab / name).read_bytes()
        flip(lab / name, 9) if data else None
        holdfast.repair(lab, spools=False)
        assert (lab / name).exists(), name
        (lab / name).write_bytes(data)


def test_the_command_shows_and_does_it(
    lab: Path, twin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.cli import main

    monkeypatch.setenv("HOLDFAST_STORE", str(lab))
    name = names(lab, "blobs/")[0]
    flip(lab / name, 9)
    assert main(["repair", "--no-spools"]) == 1
    assert f"{name} cannot be mended: there is nothing" in capsys.readouterr().out
    assert main(["repair", "--no-spools", "--from", str(twin), "--dry-run"]) == 0
    assert "1 would be mended" in capsys.readouterr().out
    assert (lab / name).read_bytes() != (twin / name).read_bytes()
    assert main(["repair", "--no-spools", "--from", str(twin), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mended"][0]["how"] == f"copy it from {twin}"
    assert (lab / name).read_bytes() == (twin / name).read_bytes()
    assert main(["repair", "--no-spools"]) == 0
    assert "nothing to mend" in capsys.readouterr().out
