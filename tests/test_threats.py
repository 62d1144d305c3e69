"""What somebody who means harm can and cannot do: docs/explanation/threat-model.md, line by line."""

from __future__ import annotations

import ast
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest

import holdfast
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.chain import Chain
from holdfast.cli import main
from holdfast.digest import Digest
from holdfast.errors import BackendError, Corrupt, HoldfastError, InvalidValue, QueryError
from holdfast.format import frame, layout, packing, recipe
from holdfast.names import check_alias, check_id, check_key

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "explanation" / "threat-model.md"
ESCAPES = "\x1b[2J\x1b]0;gone\x07\x9b\u202e"


def test_every_line_of_the_page_has_its_test() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    named = [
        (row[2].strip(), row[-2].strip(" `")) for row in rows if row[-2].strip().startswith("`")
    ]
    assert len(named) >= 25
    for what, name in named:
        file, _, test = name.partition("::")
        functions = [
            node.name
            for node in ast.walk(ast.parse((TESTS / file).read_text()))
            if isinstance(node, ast.FunctionDef)
        ]
        assert test in functions, f"{what}: {name} is no test"


# A store that somebody prepared.


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Path]:
    """A store whose entries are well made and whose names were never checked at the door."""
    with holdfast.open(tmp_path / "evil") as store:
        with store.start_run("e", run_id="run", capture=False) as run:
            run.log({"x": 1.0})
            run.log_artifact(b"data", "model")
        chain = store.repository.manifest("run")
        base = chain.load()
        about = base.state["artifacts"]["model"]
        stats = base.state["metrics"]["x"]
        keys = ["../../pwned", str(tmp_path / "pwned"), "a/../../../pwned", f"b/{ESCAPES}"]
        change = {
            "artifacts": dict.fromkeys(keys, about),
            "tags": {ESCAPES: ESCAPES},
            "config": {ESCAPES: ESCAPES},
            "metrics": {ESCAPES: stats},
            "run": {
                "name": ESCAPES,
                "note": ESCAPES,
                "error": {"type": ESCAPES, "message": ESCAPES},
            },
        }
        chain.commit(base, lambda state: change)
        experiment = store.repository.experiment("e")
        experiment.commit(experiment.load(), lambda state: {"experiment": {"name": ESCAPES}})
    return tmp_path / "evil"


def test_artifacts_of_an_evil_store_stay_in_the_directory_they_are_written_to(
    evil: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    with holdfast.open(evil) as store:
        with pytest.raises(InvalidValue, match=r"the part '\.\.'|begins with '/'"):
            store.get_artifacts("run", to=out)
        out.mkdir(parents=True)
        for key in ("../../pwned", "a/../../../pwned"):
            with pytest.raises(HoldfastError):
                store.get_artifact("run", key, to=out)
            with pytest.raises(HoldfastError):
                store.get_artifacts("run", [key], to=out)
    assert list(tmp_path.rglob("pwned*")) == []
    assert list(out.iterdir()) == []


VERBS = [
    ["ls"], ["runs"], ["show", "run"], ["artifacts", "run"], ["metrics", "run"], ["fsck"], ["verify"],
    ["du"], ["get", "run", "nothing"], ["get", "run"], ["cat", "run", "nothing"], ["diff", "run", "run"],
    ["sql", "select * from runs"], ["sql", "select * from tags"], ["export"], ["watch", "run"],
    ["lineage", "run"], ["alias"], ["snapshot", "--list"], ["runs", "--json"], ["show", "run", "--json"],
    ["recover"], ["runs", "tags.a == 1"],
]  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_names_of_an_evil_store_do_not_reach_the_terminal_as_commands(
    words: list[str], evil: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_STORE", str(evil))
    main(words)
    out, err = capfd.readouterr()
    assert out + err
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out + err)
    if words[-1] == "--json" and words[0] == "show":
        assert json.loads(out)["name"] == ESCAPES  # and programs get what is there


@pytest.mark.parametrize(
    "name", ["runs/../../pwned/manifest/00000000", "../pwned", "aliases/../../x/00000000"]
)
def test_a_name_that_leads_out_of_a_store_is_never_touched(name: str, tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "lab")
    for touch in (
        lambda: backend.create(name, b"x"),
        lambda: backend.put(name, b"x"),
        lambda: backend.delete(name),
        lambda: backend.get(name),
        lambda: backend.append(name, b"x"),
    ):
        with pytest.raises(BackendError, match="leads out of the store"):
            touch()
    staged = backend.stage()
    with pytest.raises(BackendError, match="leads out of the store"):
        staged.commit(name)
    staged.abort()
    assert list(tmp_path.rglob("pwned")) == []


def test_a_sync_from_an_evil_store_writes_nothing_outside_of_ours(tmp_path: Path) -> None:
    from holdfast.ops.sync import sides_of, sync
    from holdfast.ops.sync_needs import What
    from holdfast.repository import connected

    source = MemoryBackend("memory://evil")
    repository = connected(source)
    with holdfast.open(tmp_path / "lab") as store:
        for prefix in ("runs/../manifest/", "experiments/../../x/", "aliases/../../../pwned/"):
            chain = Chain(source, prefix)
            about = {"run": {"run_id": "..", "experiment_id": "../..", "status": "Success"}}
            chain.commit(chain.load(), lambda state, about=about: about)  # type: ignore[misc]
        before = sorted(path for path in tmp_path.rglob("*") if "lab" not in path.parts)
        with suppress(HoldfastError):  # refused as a whole, or run by run
            sync(sides_of(repository, store.repository, What()))
        after = sorted(path for path in tmp_path.rglob("*") if "lab" not in path.parts)
        assert after == before
        assert store.fsck().findings == []


@pytest.mark.parametrize("store_id", ["../../etc", "a/b", "", "x" * 200, 7, None, "a\0b"])
def test_an_evil_store_id_names_no_directory_of_this_machine(
    store_id: object, tmp_path: Path
) -> None:
    from holdfast.repository import state_place

    about = {"format": 1, "store_id": store_id, "features": {"read": [], "write": [], "gc": []}}
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "store.json").write_text(
        json.dumps({**about, "created_at": "2025-01-01T00:00:00Z"})
    )
    try:
        with holdfast.open(tmp_path / "lab") as store:
            store.runs()
    except HoldfastError:
        pass
    if not isinstance(store_id, str) or not re.fullmatch(r"[\w-]{1,128}", store_id):
        with pytest.raises((Corrupt, TypeError)):
            state_place(store_id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"{", b"\xff", b'{"format": 1e999}', b"[" * 100_000, b'{"format": []}'],
)
def test_an_evil_store_json_is_an_error_in_words(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "store.json").write_bytes(data)
    with pytest.raises(HoldfastError):
        holdfast.open(tmp_path / "lab").close()


def test_a_recipe_that_claims_to_be_huge_costs_nothing(tmp_path: Path) -> None:
    """Its pieces must add up to what it says before anything is made ready for them."""
    digest = Digest.of(b"huge")
    plain = recipe.plain(digest, 3 << 20, [bytes(32)] * 3)
    fields = packing.unpack(
        frame.unwrap(b"R", recipe.encode(plain), place="f", max_version=9)[1], place="f"
    )
    for size in (1 << 50, -1, 1 << 64 - 1, "many"):
        changed = {**fields, "size": size} if "size" in fields else {**fields, "size_bytes": size}
        data = frame.wrap(b"R", recipe.encode(plain)[10], packing.pack(changed))
        tracemalloc.start()
        with pytest.raises(Corrupt):
            recipe.decode(data, place="f")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [65, 10_000, 1_000_000])
def test_values_nested_deep_are_refused(depth: int) -> None:
    for data in (b"\x91" * depth + b"\xc0", b"\x81\xa1k" * depth + b"\xc0"):
        with pytest.raises(Corrupt):
            packing.unpack(data, place="f")


def test_extension_types_are_never_made_into_objects() -> None:
    for data in (msgpack.packb(msgpack.ExtType(5, b"x")), b"\xd6\xff" + bytes(4)):
        with pytest.raises(Corrupt):
            packing.unpack(data, place="f")


def test_an_entry_that_speaks_for_another_place_is_refused(tmp_path: Path) -> None:
    """An entry that was copied from one number or chain to another continues nothing there."""
    with holdfast.open(tmp_path / "lab") as store:
        for name in ("one", "two"):
            store.start_run("e", run_id=name, capture=False).finish()
        backend = store.repository.backend
        foreign = backend.get("runs/two/manifest/00000001")
        backend.put("runs/one/manifest/00000001", foreign)
        assert [one.place for one in store.verify("one")] == ["runs/one/manifest/00000001"]
        backend.put("runs/one/manifest/00000001", backend.get("runs/one/manifest/00000000"))
        with pytest.raises(Corrupt, match="says it is entry 0"):
            store.run("one")


def test_the_writer_of_one_run_cannot_change_bytes_that_others_named(tmp_path: Path) -> None:
    """Whatever lies in place of a blob: it is read as what its name says, or not at all."""
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("e", run_id="theirs", capture=False) as run:
            about = run.log_artifact(b"weights" * 100, "model")
        path = tmp_path / "lab" / layout.blob(about.digest)
        path.write_bytes(b"poison!" * 100)
        with pytest.raises(Corrupt):
            store.read_artifact("theirs", "model")
        with pytest.raises(Corrupt):
            store.get_artifact("theirs", "model", to=tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "a/../b",
        "/etc/passwd",
        "C:/x",
        "con",
        "a\\b",
        "",
        "x" * 600,
        "a\0",
        "\u202e",
        "e\u0301",
        "a//b",
    ],
)
def test_names_are_refused_at_the_door(name: str) -> None:
    with pytest.raises(InvalidValue):
        check_key("artifact", name)
    for check in (check_id, check_alias):
        with pytest.raises(InvalidValue):
            check("name", name)


QUERIES = [
    "__import__('os').system('true')", "().__class__", "[x for x in (1,)]", "lambda: 1", "f'{1}'",
    "open('/etc/passwd')", "config.lr ** 10 ** 10 ** 10", "'a' * 10**9 == ''", "(" * 500 + "1" + ")" * 500,
    "not " * 5000 + "1", "1 == " * 3000 + "1", "config." + "a." * 3000 + "b == 1", "9" * 5000 + " == 1",
    "1 if 2 else 3", "(yield)", "x := 1", "config.a == 1; 2", "'\\ud800' == 1", "\0", "config['a'] is config",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_never_run_and_never_runs_away(query: str, tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store, pytest.raises(QueryError):
        store.runs(query)


class Harm:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path(HARM),))


HARM = "harm-was-done"


def test_pickles_in_artifacts_are_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import pickle
    import zipfile

    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"w": Harm()}))
        archive.writestr("m/version", "3\n")
        archive.writestr("m/data/0", bytes(2 << 20))
    array = io.BytesIO()
    np.save(array, np.array([Harm()], dtype=object), allow_pickle=True)
    with holdfast.open(tmp_path / "lab", layout="packed") as store:
        with store.start_run("e", run_id="run", capture=False) as run:
            for key, data in {"m.pt": buffer.getvalue(), "a.npy": array.getvalue()}.items():
                run.log_artifact(data, key)
        for key in ("m.pt", "a.npy"):
            store.read_artifact("run", key)
            with pytest.raises(HoldfastError):
                tensors = store.open_tensors("run", key)
                _ = [tensors[name] for name in tensors]
    assert not Path(HARM).exists()


def test_a_reader_sees_everything_and_the_page_says_so(tmp_path: Path) -> None:
    """What is stored is not encrypted: whoever may list and get needs no key and no Holdfast."""
    secret = b"unpublished weights"
    with (
        holdfast.open(tmp_path / "lab") as store,
        store.start_run("e", run_id="run", capture=False, config={"site": "hospital"}) as run,
    ):
        run.log_artifact(secret, "model")
    files = {
        path.name: path.read_bytes() for path in (tmp_path / "lab").rglob("*") if path.is_file()
    }
    assert files[Digest.of(secret).hex] == secret
    assert any(b"hospital" in data for data in files.values())


def test_storage_options_are_never_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = MemoryBackend("s3://bucket/lab")
    monkeypatch.setattr("holdfast.repository.connect", lambda url, options=None: backend)
    options = {"key": "AKIAEXAMPLE", "secret": "hunter2-hunter2"}
    with holdfast.open("s3://bucket/lab", storage_options=options) as store:
        store.start_run("e", capture=False).finish()
    stored = [backend.get(stat.name) for stat in backend.walk("")]
    for variable in ("HOLDFAST_CACHE_DIR", "HOLDFAST_STATE_DIR"):
        kept = Path(os.environ[variable]).rglob("*")
        stored += [path.read_bytes() for path in kept if path.is_file()]
    assert not any(b"hunter2" in data or b"AKIAEXAMPLE" in data for data in stored)
