"""Aliases: set, moved under a condition, listed, deleted, undone, seen as they were; and addresses that
say which run or artifact is meant, or say why they do not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

import holdfast
from holdfast import ExperimentStore, Timestamp
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import (
    AliasMoved,
    AliasNotFound,
    Ambiguous,
    ArtifactNotFound,
    BackendError,
    Corrupt,
    InvalidValue,
    ReadOnly,
    RunNotFound,
)
from holdfast.format import layout
from holdfast.repository import connected
from test_faults import Faults, LosingBackend


def add_run(store: ExperimentStore, run_id: str, *keys: str, experiment: str = "resnet") -> str:
    with store.start_run(experiment, run_id=run_id, capture=False) as run:
        for key in keys:
            run.log_artifact(f"{run_id} {key}".encode(), key=key)
    return run_id


@pytest.fixture
def lab(store: ExperimentStore) -> ExperimentStore:
    add_run(store, "one", "model.pt")
    add_run(store, "two", "model.pt")
    return store


def bare(backend: Any) -> ExperimentStore:
    store = ExperimentStore()
    store.repository = connected(backend)
    return store


def test_an_alias_of_an_artifact_is_an_address_of_it(lab: ExperimentStore, tmp_path: Path) -> None:
    alias = lab.alias("prod/resnet", "one:model.pt")
    assert (alias.name, alias.address, alias.generation) == ("prod/resnet", "one:model.pt", 1)
    assert lab.read_artifact("prod/resnet") == b"one model.pt"
    assert lab.read_artifact("aliases/prod/resnet") == b"one model.pt"
    assert lab.open_artifact("prod/resnet").read() == b"one model.pt"
    assert lab.get_artifact("prod/resnet", to=tmp_path).read_bytes() == b"one model.pt"
    assert (tmp_path / "model.pt").exists()
    assert lab.resolve("prod/resnet") == "one:model.pt"


def test_an_alias_of_an_artifact_stays_with_its_bytes(lab: ExperimentStore) -> None:
    lab.alias("prod", "one:model.pt")
    lab.add_artifact_file("one", b"other bytes", "model.pt")
    assert lab.read_artifact("one:model.pt") == b"other bytes"
    assert lab.read_artifact("prod") == b"one model.pt"


def test_an_alias_of_a_run_means_the_run_as_it_goes_on(lab: ExperimentStore) -> None:
    lab.alias("resnet/best", "two")
    assert lab.read_artifact("resnet/best:model.pt") == b"two model.pt"
    assert lab.read_artifact("resnet/best", "model.pt") == b"two model.pt"
    lab.add_artifact_file("resnet/best", b"more", "more.txt")
    assert lab.read_artifact("resnet/best:more.txt") == b"more"
    assert lab.run("resnet/best").run_id == "two"
    assert {info.key for info in lab.artifacts("aliases/resnet/best")} == {"model.pt", "more.txt"}


@pytest.mark.parametrize("how", ["summary", "pair", "run", "artifact", "info", "version"])
def test_what_an_alias_may_be_given(lab: ExperimentStore, how: str) -> None:
    with lab.start_run("resnet", run_id="three", capture=False) as run:
        info = run.log_artifact(b"three", key="model.pt")
    given: dict[str, Any] = {
        "summary": lab.run("three"),
        "pair": ("three", "model.pt"),
        "run": run,
        "artifact": lab.artifact("three:model.pt"),
        "info": info,
        "version": lab.versions("resnet", "model.pt")[-1],
    }
    alias = lab.alias("prod", given[how])
    wanted = {"summary": "three", "run": "three", "info": str(info.digest)}
    assert alias.address == wanted.get(how, "three:model.pt")
    with pytest.raises(InvalidValue, match="not int"):
        lab.alias("prod", 7)


def test_it_is_moved_deleted_and_undone_and_every_move_is_kept(lab: ExperimentStore) -> None:
    lab.alias("prod", "one:model.pt")
    lab.alias("prod", "two")
    assert lab.delete_alias("prod").address is None
    with pytest.raises(AliasNotFound, match="was deleted: `holdfast alias undo` brings it back"):
        lab.resolve("aliases/prod")
    assert lab.aliases() == []
    assert lab.undo_alias("prod").address == "two"
    assert lab.undo_alias("prod").address is None
    assert lab.undo_alias("prod").address == "two"
    told = [(alias.generation, alias.address) for alias in lab.alias_history("prod")]
    assert told == [
        *((0, None), (1, "one:model.pt"), (2, "two"), (3, None), (4, "two"), (5, None), (6, "two")),
    ]
    assert [alias.address for alias in lab.aliases()] == ["two"]
    assert lab.verify() == []


def test_what_was_never_moved_cannot_be_undone_or_deleted(lab: ExperimentStore) -> None:
    for act in (lab.undo_alias, lab.delete_alias, lab.alias_history):
        with pytest.raises(AliasNotFound):
            act("nobody")


def test_time_travel_by_generation_and_by_time(lab: ExperimentStore) -> None:
    lab.alias("prod", "one:model.pt")
    lab.alias("prod", "two:model.pt")
    first, second = lab.alias_history("prod")[1:]
    assert lab.resolve("prod", at=1) == lab.resolve("prod", at=first.moved_at) == "one:model.pt"
    assert lab.resolve("prod", at=2) == lab.resolve("prod", at=str(second.moved_at))
    assert lab.resolve("prod", at=Timestamp(second.moved_at.ns - 1)) == "one:model.pt"
    assert lab.artifact("prod", at=1).read() == b"one model.pt"
    for at in (0, 9, "2001-01-01T00:00:00Z"):
        with pytest.raises(AliasNotFound):
            lab.resolve("prod", at=at)


@pytest.mark.parametrize("expect", ["two", 7, 0, None, "sha256:" + "0" * 64])
def test_it_is_not_moved_when_it_is_not_where_it_was_expected(
    lab: ExperimentStore, expect: Any
) -> None:
    lab.alias("prod", "one:model.pt")
    with pytest.raises(AliasMoved, match="names one:model.pt") as caught:
        lab.alias("prod", "two", expect=expect)
    assert caught.value.found == "one:model.pt"
    with pytest.raises(AliasMoved):
        lab.delete_alias("prod", expect=expect)
    assert lab.resolve("prod") == "one:model.pt"
    assert len(lab.alias_history("prod")) == 2


def test_it_is_moved_when_it_is_where_it_was_expected(lab: ExperimentStore) -> None:
    with pytest.raises(AliasMoved, match="names nothing"):
        lab.alias("prod", "one", expect="two")
    assert lab.alias("prod", "one:model.pt", expect=None).generation == 1
    digest = str(lab.artifact("one:model.pt").digest)
    assert lab.alias("prod", "two:model.pt", expect=digest).generation == 2
    assert lab.alias("prod", "one", expect="two:model.pt").generation == 3
    assert lab.alias("prod", "two", expect=3).generation == 4
    assert lab.delete_alias("prod", expect="two").generation == 5
    assert lab.alias("prod", "one", expect=None).generation == 6


@pytest.mark.parametrize("expect", ["one", 1])
def test_of_many_that_move_it_at_once_one_wins(lab: ExperimentStore, expect: Any) -> None:
    lab.alias("prod", "one")
    names = [add_run(lab, f"racer-{number}") for number in range(6)]
    gate, told = threading.Barrier(len(names)), []

    def race(name: str) -> None:
        gate.wait()
        try:
            told.append(lab.alias("prod", name, expect=expect).address)
        except AliasMoved as error:
            told.append(error)

    threads = [threading.Thread(target=race, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [one for one in told if isinstance(one, str)]
    assert len(winners) == 1 and len(told) == len(names)
    assert lab.resolve("prod") == winners[0]
    assert [alias.address for alias in lab.alias_history("prod")] == [None, "one", winners[0]]


def test_of_two_that_make_it_at_once_one_wins() -> None:
    inner, done = MemoryBackend(), list[str]()
    quick = bare(inner)
    add_run(quick, "one"), add_run(quick, "two")

    def between(call: str, name: str) -> None:
        """The other is quicker, right before ours creates its entry with a target."""
        if call == "create" and name.endswith("prod/00000001") and not done:
            done.append(quick.alias("prod", "two", expect=None).name)

    slow = bare(WatchedBackend(inner, between))
    with pytest.raises(AliasMoved, match="names two"):
        slow.alias("prod", "one", expect=None)
    assert quick.resolve("prod") == "two"


def test_without_a_condition_the_last_one_wins() -> None:
    inner, done = MemoryBackend(), list[str]()
    quick = bare(inner)
    add_run(quick, "one"), add_run(quick, "two")

    def between(call: str, name: str) -> None:
        if call == "create" and name.endswith("prod/00000001") and not done:
            done.append(quick.alias("prod", "two").name)

    bare(WatchedBackend(inner, between)).alias("prod", "one")
    assert [alias.address for alias in quick.alias_history("prod")] == [None, "two", "one"]


def test_aliases_are_listed_by_name_and_below_a_name(lab: ExperimentStore) -> None:
    for name in ("prod/resnet", "prod", "dev/a/b", "prod/resnet-50", "product"):
        lab.alias(name, "one")
    names = [alias.name for alias in lab.aliases()]
    assert names == ["dev/a/b", "prod", "prod/resnet", "prod/resnet-50", "product"]
    assert [a.name for a in lab.aliases("prod")] == ["prod", "prod/resnet", "prod/resnet-50"]
    assert [a.name for a in lab.aliases("dev/a")] == ["dev/a/b"]
    assert lab.alias("prod", "two").generation == 2, "entries below it are not its own"
    heads = {layout.head_parts(stat.name) for stat in lab.repository.backend.walk("heads/aliases/")}
    assert ("aliases", "dev@a@b", 1) in heads and len(heads) == 5


def test_a_damaged_alias_hides_no_other(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as lab:
        add_run(lab, "one")
        lab.alias("bad", "one"), lab.alias("good", "one")
        (tmp_path / "lab/aliases/bad/00000001").write_bytes(b"damage")
        with pytest.warns(UserWarning, match="aliases/bad/00000001 is damaged"):
            assert [alias.name for alias in lab.aliases()] == ["good"]
        with pytest.raises(Corrupt, match="aliases/bad/00000001"):
            lab.resolve("aliases/bad")
        with pytest.raises(Corrupt):
            lab.alias("bad", "one")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("a//b", "an empty part"),
        ("a@b", "it holds '@'"),
        ("a:b", "it holds ':'"),
        ("x/12345678", "looks like a generation"),
        ("runs/x", "addresses begin with runs/"),
        ("sha256", "look like a digest"),
        ("../x", "begins with a dot"),
        ("con/x", "a device on Windows"),
        ("a/" * 101 + "a", "bytes long"),
        ("one", "the id of a run"),
    ],
)
def test_names_that_no_alias_can_have(lab: ExperimentStore, name: str, reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        lab.alias(name, "one")
    assert lab.aliases() == []


def test_a_store_that_is_read_only_moves_nothing(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as lab:
        add_run(lab, "one")
        lab.alias("prod", "one")
    with holdfast.open(tmp_path / "lab", read_only=True) as lab:
        assert lab.resolve("prod") == "one"
        with pytest.raises(ReadOnly):
            lab.delete_alias("prod")


def test_an_alias_and_a_run_of_one_name_must_be_told_apart(lab: ExperimentStore) -> None:
    lab.alias("best", "one")
    add_run(lab, "best", "model.pt")  # nobody could know
    with pytest.raises(
        Ambiguous, match="a run and an alias: write runs/best:model.pt or"
    ) as caught:
        lab.read_artifact("best:model.pt")
    assert caught.value.candidates == ["runs/best:model.pt", "aliases/best:model.pt"]
    assert lab.read_artifact("runs/best:model.pt") == b"best model.pt"
    assert lab.read_artifact("aliases/best:model.pt") == b"one model.pt"
    with pytest.raises(Ambiguous, match="runs/best or aliases/best"):
        lab.run("best")
    assert lab.run("runs/best").run_id == "best"
    assert lab.run("aliases/best").run_id == "one"


def test_an_alias_comes_before_the_end_of_a_runs_id(lab: ExperimentStore) -> None:
    add_run(lab, "20250115-resnet", "model.pt")
    assert lab.run("resnet").run_id == "20250115-resnet"
    lab.alias("resnet", "one")
    assert lab.run("resnet").run_id == "one"


def test_what_is_not_there_is_told_with_what_may_be_meant(lab: ExperimentStore) -> None:
    lab.alias("weights", "one:model.pt")
    digest = lab.artifact("one:model.pt").digest
    for address, wanted, error in [
        (
            "nobody:model.pt",
            "there is no run 'nobody' in .*, and no alias of that name",
            RunNotFound,
        ),
        ("no/body", "there is no alias 'no/body'", AliasNotFound),
        ("aliases/nobody", "there is no alias 'nobody'", AliasNotFound),
        ("runs/nobody:x", "there is no run 'nobody'", RunNotFound),
        ("one:nothing", "run one has no artifact 'nothing'; it has model.pt", ArtifactNotFound),
        ("one", "which artifact of one\\? It has model.pt", InvalidValue),
        ("weights:x", "names the artifact one:model.pt, which is no directory", InvalidValue),
        (digest.hex, f"did you mean sha256:{digest.hex}", RunNotFound),
        ("resnet:model.pt", "an experiment: write resnet:model.pt@latest", RunNotFound),
        ("experiments/resnet:model.pt", "'model.pt' as @latest or as @v0 to @v1", ArtifactNotFound),
        ("resnet:model.pt@v2", "'model.pt' as @latest or as @v0 to @v1", ArtifactNotFound),
        ("resnet:nothing@v0", "experiment 'resnet' has no 'nothing'", ArtifactNotFound),
        ("experiments/nobody:x@v1", "there is no experiment 'nobody'", ArtifactNotFound),
    ]:
        with pytest.raises(error, match=wanted):
            lab.read_artifact(address)
    with pytest.raises(InvalidValue, match="names the artifact one:model.pt: name a run"):
        lab.run("weights")
    with pytest.raises(InvalidValue, match="one:model.pt is an artifact: name a run"):
        lab.run("one:model.pt")


def test_a_file_in_a_directory_has_an_address(store: ExperimentStore, tmp_path: Path) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/x.csv").write_bytes(b"1,2\n")
    with store.start_run("prep", run_id="prep", capture=False) as run:
        run.log_artifact(tmp_path / "data", key="sets/data")
    store.alias("data", "prep:sets/data")
    store.alias("of-run", "prep")
    for address in (
        "prep:sets/data/deep/x.csv",
        "data:deep/x.csv",
        "of-run:sets/data/deep/x.csv",
        "experiments/prep:sets/data@v0/deep/x.csv",
        "experiments/prep:sets/data@latest/deep/x.csv",
    ):
        assert store.read_artifact(address) == b"1,2\n"
    assert store.resolve("data:deep/x.csv") == "prep:sets/data/deep/x.csv"
    for address in ("prep:sets/data/deep", "data:nothing"):
        with pytest.raises(ArtifactNotFound, match="has no file"):
            store.read_artifact(address)
    store.alias("tree", str(store.artifact("data").digest))
    assert store.artifact("tree").kind == "directory"
    assert store.read_artifact("tree:deep/x.csv") == b"1,2\n"


def test_versions_are_the_artifacts_of_one_key_in_order(lab: ExperimentStore) -> None:
    add_run(lab, "elsewhere", "model.pt", experiment="other")
    add_run(lab, "without", "another")
    found = lab.versions("resnet", "model.pt")
    assert [(version.number, version.run_id) for version in found] == [(0, "one"), (1, "two")]
    assert [lab.read_artifact(version.address) for version in found] == [
        *(b"one model.pt", b"two model.pt")
    ]
    assert lab.read_artifact("resnet:model.pt@latest") == b"two model.pt"
    assert lab.resolve("experiments/resnet:model.pt@v0") == "one:model.pt"
    lab.delete_run("one")
    assert [version.is_deleted for version in lab.versions("resnet", "model.pt")] == [True, False]
    assert lab.read_artifact("resnet:model.pt@v1") == b"two model.pt", "numbers stay"
    assert lab.versions("resnet", "nothing") == []


def test_a_run_and_a_version_of_one_name_must_be_told_apart(lab: ExperimentStore) -> None:
    add_run(lab, "resnet", "model.pt@v0")
    with pytest.raises(Ambiguous, match="runs/resnet:model.pt@v0 or experiments/resnet"):
        lab.read_artifact("resnet:model.pt@v0")
    assert lab.read_artifact("runs/resnet:model.pt@v0") == b"resnet model.pt@v0"
    assert lab.read_artifact("experiments/resnet:model.pt@v0") == b"one model.pt"


def test_two_experiments_of_one_name_must_be_told_apart(store: ExperimentStore) -> None:
    from holdfast.storage import StoreStorage

    storage = StoreStorage(store)
    ids = [storage.create_experiment("twin") for _ in range(2)]
    for experiment in ids:
        storage.log_artifact(storage.create_run(experiment), "model", experiment.encode())
    with pytest.raises(Ambiguous) as caught:
        store.read_artifact("twin:model@latest")
    assert sorted(caught.value.candidates) == sorted(f"experiments/{i}:model@latest" for i in ids)
    with pytest.raises(Ambiguous):
        store.versions("twin", "model")
    for experiment in ids:
        assert store.read_artifact(f"{experiment}:model@latest") == experiment.encode()


# Every backend call fails once, before it acts or after.


def _moves(store: ExperimentStore, said: list[str | None]) -> None:
    for to in ("one", "two:model.pt", None, "one"):
        made = store.alias("prod/x", to) if to else store.delete_alias("prod/x")
        said.append(made.address)


@pytest.mark.parametrize("kind", [WatchedBackend, LosingBackend])
def test_a_failure_at_any_call_leaves_the_alias_where_it_said(kind: type[WatchedBackend]) -> None:
    for failing in range(1, 500):
        inner, faults = MemoryBackend(), Faults()
        plain = bare(inner)
        add_run(plain, "one", "model.pt"), add_run(plain, "two", "model.pt")
        store, said = bare(kind(inner, faults)), [None]
        faults.left = failing
        try:
            _moves(store, said)
        except BackendError:
            pass
        finally:
            faults.left = -1
        known = plain.alias_history("prod/x") if inner.names("aliases/prod/") else []
        told = [alias.address for alias in known] or [None]
        # All that was said is there, and at most the one that failed besides.
        assert told[: len(said)] == said
        assert len(told) <= len(said) + 1
        assert plain.verify() == []
        _moves(plain, [])
        assert plain.resolve("prod/x") == "one"
        if failing > faults.calls:
            break
    else:
        pytest.fail("it never came to an end")


# A model: an alias is a list of what it named.

steps = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.sampled_from(["one", "two", "one:model.pt"])),
        st.tuples(st.just("delete"), st.none()),
        st.tuples(st.just("undo"), st.none()),
    ),
    max_size=25,
)


@example_settings(max_examples=40)
@given(steps)
def test_an_alias_is_a_list_of_what_it_named(todo: list[tuple[str, str | None]]) -> None:
    store = bare(MemoryBackend())
    add_run(store, "one", "model.pt"), add_run(store, "two", "model.pt")
    named: list[str | None] = []
    for act, to in todo:
        if act == "move":
            store.alias("prod", to)
            named = named or [None]
            named += [to] if named[-1] != to else []
        elif act == "delete" and named:
            store.delete_alias("prod")
            named += [None] if named[-1] is not None else []
        elif act == "undo" and len(named) > 1:
            store.undo_alias("prod")
            named.append(named[-2])
    if named:
        assert [alias.address for alias in store.alias_history("prod")] == named
        for at, address in enumerate(named):
            if address is not None:
                assert store.resolve("prod", at=at) == address
    assert [alias.address for alias in store.aliases()] == [one for one in named[-1:] if one]
