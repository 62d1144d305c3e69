"""The catalog is only an index: lost, damaged, foreign or old, the answers come from the manifests."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import catalog_file, catalog_schema
from holdfast.catalog import Catalog, CatalogReset, CatalogRow
from holdfast.errors import InvalidValue, QueryError
from holdfast.ops.refresh import refresh

Store = holdfast.ExperimentStore


def fill(url: Path, runs: int = 4, start: int = 0) -> None:
    """Runs r0, r1, … with a config, a tag and a metric each."""
    with holdfast.open(url) as store:
        for n in range(start, start + runs):
            config = {"lr": n / 10, "text": "é" * n}
            with store.start_run(
                "e", run_id=f"r{n}", config=config, tags={"n": n}, capture=False
            ) as run:
                run.log({"loss": float(n)})


def answers(store: Store) -> list[Any]:
    """What a few questions give: each goes through other tables of the catalog."""
    return [
        store.runs(),
        store.runs("config.lr < 0.25 and tags.n != 1", "-config.lr"),
        store.runs("metrics.loss >= 1 and experiment == 'e'", "metrics.loss", 2),
        store.runs("note is None and status == 'Success'", deleted=True),
    ]


def truth(url: Path) -> list[Any]:
    """The same with a fresh catalog, beside the summaries that the manifests give."""
    with holdfast.open(url, cache=False) as store:
        found = answers(store)
        assert found[0] == [store.run(run.run_id) for run in found[0]]
        assert [run.run_id for run in found[1]] == ["r2", "r0"]
        assert [run.run_id for run in found[2]] == ["r1", "r2"]
        return found


def file_of(url: Path) -> Path:
    """The file of the catalog of the store at `url`."""
    with holdfast.open(url) as store:
        return Path(catalog_file.place(store.store_id, store.url))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A store with four runs, whose catalog is on the disk."""
    fill(tmp_path / "lab")
    assert_right(tmp_path / "lab")
    assert file_of(tmp_path / "lab").stat().st_size > 8192
    return tmp_path / "lab"


def assert_right(url: Path) -> None:
    with holdfast.open(url) as store:
        assert answers(store) == truth(url)


def execute(file: Path, statement: str) -> Any:
    """Change the catalog behind its back; returns the first row of the answer."""
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        return db.execute(statement).fetchone()


def replace_with(file: Path, data: bytes) -> None:
    """Another file at the same place, as after a restore; SQLite's companions are gone."""
    catalog_file.discard(str(file))
    file.write_bytes(data)


# Lost or damaged.


def test_a_catalog_that_was_deleted_is_built_again(lab: Path) -> None:
    file = file_of(lab)
    catalog_file.discard(str(file))
    assert_right(lab)
    assert file.exists()


def test_a_catalog_that_is_deleted_while_it_is_open_is_built_again(lab: Path) -> None:
    with holdfast.open(lab) as store:
        before = answers(store)
        shutil.rmtree(file_of(lab).parent)
        fill(lab, 1, start=4)
        assert [run.run_id for run in store.runs()] == ["r4", "r3", "r2", "r1", "r0"]
        assert [run.run_id for run in store.runs("config.lr < 0.25")] == ["r2", "r1", "r0"]
        assert store.runs()[1:] == before[0]


@pytest.mark.parametrize("keep", [0, 1, 16, 100, 512, 4096, 8191, 8192, 8193, 3 * 8192, -8192, -1])
def test_a_catalog_that_was_cut_is_built_again(lab: Path, keep: int) -> None:
    file = file_of(lab)
    replace_with(file, file.read_bytes()[:keep])
    assert_right(lab)


@pytest.mark.parametrize(
    "junk", [b"no database at all", b"\0" * 20_000, b"SQLite format 3\0" * 900]
)
def test_a_catalog_of_junk_is_built_again(lab: Path, junk: bytes) -> None:
    replace_with(file_of(lab), junk)
    assert_right(lab)


@pytest.mark.parametrize("fill_with", [b"\0", b"\xff", None])
def test_a_catalog_with_any_page_destroyed_answers_right(
    lab: Path, fill_with: bytes | None
) -> None:
    file, chance, right = file_of(lab), random.Random(1), truth(lab)
    good = file.read_bytes()
    for start in range(0, len(good), 8192):
        noise = chance.randbytes(8192) if fill_with is None else fill_with * 8192
        replace_with(file, good[:start] + noise + good[start + 8192 :])
        with holdfast.open(lab) as store:
            assert answers(store) == right


def test_a_flipped_bit_in_the_catalog_never_changes_a_run_and_never_stops_the_answer(
    lab: Path,
) -> None:
    file, chance = file_of(lab), random.Random(2)
    runs = {run.run_id: run for run in truth(lab)[0]}
    good = file.read_bytes()
    used = [place for place, byte in enumerate(good) if byte]
    for place in chance.sample(used, 80):
        changed = bytearray(good)
        changed[place] ^= 1 << chance.randrange(8)
        replace_with(file, bytes(changed))
        with holdfast.open(lab) as store, contextlib.suppress(QueryError):  # a name may be hit
            for run in itertools.chain.from_iterable(answers(store)):
                assert run.state in ("Success", "Crashed")
                assert run.config == runs[run.run_id].config
                assert run.metrics == runs[run.run_id].metrics


def test_damage_that_comes_while_the_catalog_is_open_is_cured(lab: Path) -> None:
    right = truth(lab)
    with holdfast.open(lab) as store:
        answers(store)
        file = file_of(lab)
        with open(file, "r+b") as opened:
            opened.truncate(100)
        fill(lab, 1, start=4)
        assert [run.run_id for run in store.runs()] == ["r4", "r3", "r2", "r1", "r0"]
        assert store.runs()[1:] == right[0]
    with holdfast.open(lab) as store:
        assert store.runs()[1:] == right[0]


def test_a_state_that_was_tampered_with_is_read_again(lab: Path) -> None:
    for change in (
        "UPDATE state SET packed = (SELECT packed FROM state WHERE id = 1)",
        "UPDATE state SET packed = 'text'",
        "UPDATE state SET checksum = 'text'",
        "UPDATE run SET head = '9', generation = 9",
        "UPDATE run SET head = x'00'",
        "DELETE FROM state",
    ):
        execute(file_of(lab), change)
        assert_right(lab)


def test_text_that_is_no_text_in_the_catalog_is_cured(lab: Path) -> None:
    for damage in (
        "UPDATE run SET run_id = CAST(x'ff' AS TEXT) WHERE id = 2",
        "UPDATE run SET run_id = x'00ff' WHERE id = 2",
        "UPDATE path SET name = CAST(x'c3' AS TEXT) WHERE name = 'config.lr'",
        "UPDATE experiment SET name = CAST(x'80' AS TEXT)",
    ):
        execute(file_of(lab), damage)
        assert_right(lab)


def test_a_schema_whose_damage_cannot_even_be_quoted_is_cured(lab: Path) -> None:
    file = file_of(lab)
    good = file.read_bytes()
    for words, instead in (
        (b"duration REAL", b"\xff\xfe(ation REAL"),
        (b"tablemetricmetric", b"tablem\xe5tricmetric"),
    ):
        assert good.count(words) == 1, words
        replace_with(file, good.replace(words, instead))
        assert_right(lab)
        assert execute(file, "SELECT count(*) FROM run") == (4,)


# Not ours, or not of this version.


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 0",
        "PRAGMA user_version = 99",
        "DROP TABLE metric",
        "DROP INDEX run_newest",
        "CREATE TABLE more (x)",
        "ALTER TABLE run ADD COLUMN more TEXT",
        "ALTER TABLE about RENAME TO abouts",
        "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM run; END",
    ],
)
def test_a_catalog_with_other_tables_is_built_again(lab: Path, change: str) -> None:
    file = file_of(lab)
    execute(file, change)
    assert_right(lab)
    assert execute(file, "PRAGMA user_version") == (catalog_schema.VERSION,)
    assert execute(file, "SELECT count(*) FROM metric") == (4,)


def test_a_database_of_another_program_is_replaced(lab: Path) -> None:
    file = file_of(lab)
    catalog_file.discard(str(file))
    execute(file, "CREATE TABLE run AS SELECT 1 AS id, 2 AS other")
    assert_right(lab)


def test_the_catalog_of_another_store_is_not_believed(lab: Path, tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "other") as other:
        for run_id in ("r1", "r2", "x1"):
            config = {"lr": 77, "more": 1}
            with other.start_run("e", run_id=run_id, config=config, capture=False) as run:
                run.log({"loss": 77.0})
        assert len(other.runs("config.lr == 77")) == 3
    replace_with(file_of(lab), file_of(tmp_path / "other").read_bytes())
    assert_right(lab)
    with holdfast.open(lab) as store, pytest.raises(QueryError, match="no run has config.more"):
        store.runs("config.more == 1")


def test_an_older_copy_of_the_catalog_is_brought_up_to_date(lab: Path) -> None:
    file = file_of(lab)
    old = file.read_bytes()
    with holdfast.open(lab) as store:
        with store.resume("r1") as run:
            run.log({"loss": 1.5})
            run.set_tags({"n": 1})
        store.delete_run("r3")
        fill(lab, 1, start=4)
        store.runs()
    replace_with(file, old)
    with holdfast.open(lab) as store:
        assert [run.run_id for run in store.runs()] == ["r4", "r2", "r1", "r0"]
        assert [run.run_id for run in store.runs("metrics.loss == 1.5")] == ["r1"]


def test_a_catalog_that_is_ahead_of_the_store_falls_back(lab: Path, tmp_path: Path) -> None:
    shutil.copytree(lab, tmp_path / "backup")
    right = truth(lab)
    fill(lab, 2, start=4)
    with holdfast.open(lab) as store:
        store.resume("r1").finish()
        assert len(store.runs()) == 6
    shutil.rmtree(lab)
    shutil.copytree(tmp_path / "backup", lab)
    with holdfast.open(lab) as store:
        assert answers(store) == right


# Where it lies.


def test_the_catalog_lies_in_the_cache_directory_and_not_in_the_store(lab: Path) -> None:
    assert file_of(lab).parent == Path(os.environ["HOLDFAST_CACHE_DIR"])
    assert not [name for name in lab.rglob("*") if "sqlite" in name.name]


def test_without_a_cache_no_file_is_written(tmp_path: Path) -> None:
    fill(tmp_path / "lab", 1)
    for url, cache in [(tmp_path / "lab", False), (None, True), ("memory://no-file", True)]:
        with holdfast.ExperimentStore(url, cache=cache) as store:
            store.runs()
    assert not list(Path(os.environ["HOLDFAST_CACHE_DIR"]).iterdir())


@pytest.mark.parametrize(
    "what", ["a file", "within a file", "a directory as catalog", "a dead link"]
)
def test_without_a_place_the_catalog_stays_in_memory(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place = tmp_path / "cache"
    if what == "a dead link":
        place.symlink_to(tmp_path / "nowhere" / "deeper" / "x" / ("y" * 300))
    elif what == "a directory as catalog":
        (place / file_of(lab).name).mkdir(parents=True)
    else:
        place.write_text("in the way")
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(place / "deeper" if "within" in what else place))
    assert_right(lab)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that any user can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.parametrize("also_file", [False, True], ids=["directory", "directory and file"])
@pytest.mark.parametrize("exists", [False, True], ids=["no catalog", "catalog"])
def test_a_read_only_cache_directory_does_no_harm(
    open_place: Path, monkeypatch: pytest.MonkeyPatch, exists: bool, also_file: bool
) -> None:
    cache, lab = open_place / "cache", open_place / "lab"
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(cache))
    fill(lab)
    if exists:
        assert_right(lab)
    file = file_of(lab)
    cache.mkdir(exist_ok=True)
    fill(lab, 1, start=4)
    for path in open_place.rglob("*"):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    if exists:
        os.chmod(file, 0o444 if also_file else 0o666)
    before = file.read_bytes() if exists else b""
    os.chmod(cache, 0o555)

    def ask() -> None:
        if os.getuid() == 0:
            os.setuid(65534)  # rights do not bind root
        with holdfast.open(lab, read_only=True) as store:
            assert [run.run_id for run in store.runs()] == ["r4", "r3", "r2", "r1", "r0"]
            assert [run.run_id for run in store.runs("config.lr < 0.25")] == ["r2", "r1", "r0"]

    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    child.join(300)
    assert child.exitcode == 0
    os.chmod(cache, 0o755)
    assert [path.name for path in cache.iterdir()] == ([file.name] if exists else [])
    if exists:
        assert file.read_bytes() == before


def test_a_store_id_that_is_a_path_is_refused() -> None:
    for bad in ("../x", "a/b", "", "x" * 129, "a\n", "é"):
        with pytest.raises(InvalidValue, match="store id"):
            catalog_file.place(bad, "")


# Several at once.


def _ask(url: str, at_once: Any, count: int, out: Any) -> None:
    """In another process: ask again and again, from the same moment on."""
    with holdfast.open(url) as store:
        at_once.wait(300)
        for _ in range(count):
            found = store.runs("config.lr >= 0", "-tags.n")
        out.put([run.run_id for run in found])


@pytest.mark.parametrize("there", [False, True], ids=["new", "stale"])
def test_two_processes_bring_one_catalog_up_to_date(tmp_path: Path, there: bool) -> None:
    lab = tmp_path / "lab"
    fill(lab, 30)
    if there:
        with holdfast.open(lab) as store:
            store.runs()
        fill(lab, 30, start=30)
    kind = multiprocessing.get_context("spawn")
    at_once, out = kind.Barrier(2), kind.Queue()
    asking = [kind.Process(target=_ask, args=(str(lab), at_once, 5, out)) for _ in range(2)]
    for process in asking:
        process.start()
    found = [out.get(timeout=300) for _ in asking]
    for process in asking:
        process.join(300)
        assert process.exitcode == 0
    wanted = [f"r{n}" for n in reversed(range(60 if there else 30))]
    assert found == [wanted, wanted]
    assert execute(file_of(lab), "PRAGMA integrity_check") == ("ok",)
    assert execute(file_of(lab), "SELECT count(*) FROM run") == (len(wanted),)


def test_one_process_writes_while_another_asks(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    fill(lab, 1)
    kind = multiprocessing.get_context("spawn")
    at_once, out = kind.Barrier(2), kind.Queue()
    asking = kind.Process(target=_ask, args=(str(lab), at_once, 30, out))
    asking.start()
    at_once.wait(300)
    with holdfast.open(lab) as store:
        for n in range(1, 30):
            fill(lab, 1, start=n)
            assert len(store.runs()) == n + 1
    assert out.get(timeout=300)[-1] == "r0"
    asking.join(300)
    assert asking.exitcode == 0
    with holdfast.open(lab) as store:
        assert store.runs() == [store.run(f"r{n}") for n in reversed(range(30))]


def test_threads_may_ask_one_store_at_once(lab: Path) -> None:
    right, found = truth(lab), []
    with holdfast.open(lab) as store:
        threads = [
            threading.Thread(target=lambda: found.extend(answers(store) for _ in range(10)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [right] * 40


def test_a_catalog_from_before_a_fork_is_usable_in_the_child(lab: Path) -> None:
    code = f"""
        import os, holdfast
        store = holdfast.open({str(lab)!r})
        memory = holdfast.open({str(lab)!r}, cache=False)
        assert len(store.runs()) == len(memory.runs()) == 4
        store._index._lock.acquire()  # as a thread would hold it in the moment of the fork
        store._index._db.execute("BEGIN")
        store._index._db.execute("SELECT count(*) FROM run").fetchone()
        child = os.fork()
        if not child:
            for one in (store, memory):
                assert len(one.runs("config.lr >= 0")) == 4
                with one.start_run("e", capture=False) as run:
                    run.set_note("of the child")
            assert len(store.runs("note == 'of the child'")) == 2
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0, status
        store._index._db.execute("COMMIT")
        store._index._lock.release()
        for one in (store, memory):
            assert len(one.runs("note == 'of the child'")) == 2
            assert len(one.runs()) == 6
            one.close()
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, timeout=300
    )
    assert execute(file_of(lab), "PRAGMA integrity_check") == ("ok",)


def test_what_another_process_put_in_later_is_not_overwritten() -> None:
    def row(generation: int, lr: int) -> CatalogRow:
        state = {"run": {"experiment_id": "e", "status": "Success"}, "config": {"lr": lr}}
        return CatalogRow("r", generation, str(generation), state)

    slow, quick = Catalog.open("shared"), Catalog.open("shared")
    assert slow.heads() == {}
    quick.heads()
    quick.update([row(2, 20)])
    slow.update([row(1, 10)])
    assert slow.heads() == {"r": "2"}
    assert [run.generation for run in slow.select("config.lr == 20")] == [2]
    slow.update([row(1, 10)])  # nobody wrote since: the store itself went back
    assert [run.generation for run in quick.select("config.lr == 10")] == [1]
    slow.close()
    quick.close()


def test_a_reset_leaves_an_empty_catalog_that_can_be_filled(lab: Path) -> None:
    with holdfast.open(lab) as store:
        catalog = Catalog.open(store.store_id, store.url)
        execute(file_of(lab), "UPDATE state SET checksum = checksum + 1")
        with pytest.raises(CatalogReset):
            catalog.select()
        assert catalog.heads() == {}
        assert refresh(store.repository, catalog) == []
        assert len(catalog.select("config.lr >= 0")) == 4
        catalog.close()


# What changed shows.


def test_a_run_that_another_store_object_changed_shows_up(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as one, holdfast.open(tmp_path / "lab") as other:
        assert one.runs() == other.runs() == []
        with other.start_run("e", config={"lr": 1}, capture=False) as run:
            assert [(r.run_id, r.state) for r in one.runs("config.lr == 1")] == [
                (run.id, "Running")
            ]
            run.log({"loss": 0.5})
        assert [r.state for r in one.runs("metrics.loss < 1")] == ["Success"]
        other_run = one.resume(run.id)
        other_run.set_tags({"best": True})
        other_run.finish()
        assert [r.run_id for r in other.runs("tags.best")] == [run.id]
        with one.resume(run.id) as again:
            again.set_tags({"best": None})
        with pytest.raises(QueryError, match="no run has tags.best"):
            other.runs("tags.best")
        assert one.runs() == other.runs() == [one.run(run.id)]


def test_a_memory_store_is_listed_by_all_who_share_it() -> None:
    with holdfast.open("memory://catalog") as one, holdfast.open("memory://catalog") as other:
        one.start_run("e", run_id="r").finish()
        assert [run.run_id for run in other.runs()] == ["r"]


def test_a_run_that_is_gone_from_the_store_is_gone_from_the_list(lab: Path) -> None:
    with holdfast.open(lab) as store:
        assert len(store.runs("config.text == 'éé'")) == 1
        shutil.rmtree(lab / "runs" / "r2")
        for head in (lab / "heads" / "runs").glob("r2@*"):
            head.unlink()
        assert [run.run_id for run in store.runs()] == ["r3", "r1", "r0"]
        assert store.runs("config.text == 'éé'") == []


def test_a_store_without_heads_is_listed(lab: Path) -> None:
    right = truth(lab)
    shutil.rmtree(lab / "heads")
    catalog_file.discard(str(file_of(lab)))
    with holdfast.open(lab) as store:
        assert answers(store) == right
        assert answers(store) == right


def test_a_tombstone_hides_a_run_until_it_is_taken_off(lab: Path) -> None:
    with holdfast.open(lab) as store:
        store.delete_run("r2")
        assert [run.run_id for run in store.runs()] == ["r3", "r1", "r0"]
        assert [run.run_id for run in store.runs("config.lr > 0.1")] == ["r3"]
        assert [run.run_id for run in store.runs(limit=2)] == ["r3", "r1"]
        assert store.runs("deleted") == []
        [gone] = store.runs("deleted and config.lr == 0.2", deleted=True)
        assert (gone.run_id, gone.deleted) == ("r2", True)
        assert len(store.runs(deleted=True)) == 4
        store.undelete_run("r2")
        assert len(store.runs()) == 4


def test_an_experiment_is_named_by_its_newest_name(store: Store) -> None:
    store.add_experiment(holdfast.ExperimentRecord("exp", "First"))
    store.add_run(holdfast.RunRecord("r", "exp"))
    assert [run.experiment for run in store.runs("experiment == 'First'")] == ["First"]
    store.add_experiment(holdfast.ExperimentRecord("exp", "Second"))
    assert store.runs("experiment == 'First'") == []
    assert [run.experiment for run in store.runs("experiment == 'Second'")] == ["Second"]


def test_a_crashed_run_is_called_crashed_before_and_after_it_is_recovered(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    fill(lab, 1)
    reading, writing = os.pipe()
    code = f"""
        import os, holdfast, signal
        run = holdfast.open({str(lab)!r}).start_run("e", run_id="dead", capture=False)
        run.log({{"loss": 1.0}})
        os.write({writing}, b"x")
        signal.pause()
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], pass_fds=[writing])
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    with holdfast.open(lab) as store:
        alive = store.start_run("e", run_id="alive", capture=False)
        assert [run.run_id for run in store.runs("status == 'Running'")] == ["alive", "dead"]
        assert store.runs("crashed or state == 'Crashed'") == []
        child.send_signal(signal.SIGKILL)
        child.wait()
        [dead] = store.runs("crashed")
        assert (dead.run_id, dead.state, dead.status.value) == ("dead", "Crashed", "Running")
        assert store.runs("state == 'Crashed' and status == 'Running'") == [dead]
        assert [run.run_id for run in store.runs("state == 'Running'")] == ["alive"]
        assert dead == store.run("dead")
        store.recover()
        assert {run.run_id: run.state for run in store.runs()} == {
            "alive": "Running", "dead": "Crashed", "r0": "Success",
        }  # fmt: skip
        with store.resume("dead"):
            assert store.runs("status == 'Running' and crashed") == []
        assert store.run("dead").state == "Success"
        alive.finish()


def test_a_run_that_crashed_is_found_as_crashed_after_it_is_recovered(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    code = f"""
        import os, holdfast
        run = holdfast.open({str(lab)!r}).start_run("e", run_id="dead", capture=False)
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    with holdfast.open(lab) as store:
        for _ in range(2):
            for query in ("crashed", "state == 'Crashed'", "not state == 'Failed'"):
                assert [run.state for run in store.runs(query)] == ["Crashed"], query
            store.recover()


# A damaged run does not hide the others.


def newest_entry(lab: Path, run_id: str) -> Path:
    return max((lab / "runs" / run_id / "manifest").iterdir())


@pytest.mark.parametrize("damage", ["flipped", "empty", "cut", "missing"])
def test_a_damaged_manifest_is_a_warning_and_hides_nothing_else(
    tmp_path: Path, damage: str
) -> None:
    lab = tmp_path / "lab"
    fill(lab)
    place = newest_entry(lab, "r1")
    if damage == "missing":  # an old one, which is noticed where no head shows the newest
        place = place.with_name("00000000")
        shutil.rmtree(lab / "heads")
    data = place.read_bytes()
    if damage == "missing":
        place.unlink()
    else:
        flipped = data[:60] + bytes([data[60] ^ 1]) + data[61:]
        place.write_bytes({"flipped": flipped, "empty": b"", "cut": data[:-1]}[damage])
    with holdfast.open(lab) as store:
        for query in (None, "config.lr >= 0"):
            with pytest.warns(UserWarning, match="runs/r1/manifest/0000000.*left out") as warned:
                assert [run.run_id for run in store.runs(query)] == ["r3", "r2", "r0"]
            assert len(warned) == 1
            assert warned[0].filename == __file__
        place.write_bytes(data)
        assert [run.run_id for run in store.runs()] == ["r3", "r2", "r1", "r0"]


def test_a_damaged_experiment_is_a_warning_and_its_runs_are_listed(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    fill(lab)
    (lab / "experiments" / "e" / "00000000").write_bytes(b"junk")
    with holdfast.open(lab) as store, pytest.warns(UserWarning, match="experiments/e"):
        assert [run.experiment for run in store.runs()] == ["e"] * 4


def test_a_damaged_catalog_and_a_damaged_run_at_once(lab: Path) -> None:
    newest_entry(lab, "r1").write_bytes(b"junk")
    replace_with(file_of(lab), b"junk")
    with holdfast.open(lab) as store, pytest.warns(UserWarning, match="r1"):
        assert [run.run_id for run in store.runs()] == ["r3", "r2", "r0"]
