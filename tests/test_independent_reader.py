"""The reader that was written from the format pages alone reads what Holdfast reads."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import golden
import holdfast
import old_stores
from holdfast.format import entry, manifest, recipe, spool, storefile, tree
from independent import reader
from test_golden import SEGMENTS, opened, packed, spool_rows
from test_old_stores import FORMATS, expected

SOURCE = Path(reader.__file__)


def test_it_imports_nothing_of_ours() -> None:
    code = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import reader; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.split(".")[0] == "holdfast"]
    assert "holdfast" not in SOURCE.read_text().split('"""', 2)[2]


@pytest.mark.parametrize("name", ["entry-00000000", "entry-00000001", "entry-00000002"])
def test_entries(name: str) -> None:
    theirs, ours = reader.entry(golden.read(name)), entry.decode(golden.read(name), place=name)
    assert [theirs[k] for k in ("n", "prev", "nonce", "at", "full", "body")] == [
        getattr(ours, slot) for slot in entry.Entry.__slots__
    ]


def test_states() -> None:
    first, second = golden.ENTRY_0.body, golden.ENTRY_1.body
    assert reader.apply(first, second) == manifest.apply(first, second)


@pytest.mark.parametrize("name", ["spool", "spool-open", "spool-synced"])
def test_the_spool(name: str) -> None:
    data = golden.read(name)
    about, rows = reader.spool(data)
    scan = spool.scan(data, place="spool")
    assert about == scan.about
    assert [
        (tuple(keys), step, at, tuple(int.from_bytes(v.tobytes(), "little") for v in values))
        for step, at, keys, values in rows
    ] == spool_rows(scan)


@pytest.mark.parametrize("name", SEGMENTS)
def test_the_segments(name: str) -> None:
    data = golden.read(name)
    footer, get = opened(data)
    index = reader.segment(data)
    assert (index["about"], index["columns"]) == (footer.about, footer.columns)
    for key in footer.columns:
        ours = footer.read(key, get)
        theirs = reader.segment_rows(data, key)
        assert [(step, at) for step, at, _ in theirs] == list(
            zip(ours.steps.tolist(), ours.times.tolist(), strict=True)
        )
        packed = b"".join(struct.pack("<d", value) for _, _, value in theirs)
        assert packed == ours.columns[key].tobytes()
    for key in footer.overviews:
        few, theirs = footer.read_overview(key, get), reader.overview_rows(data, key)
        assert [step for step, _, _ in theirs] == few.steps.tolist()
        assert [at for _, at, _ in theirs] == few.times.tolist()
        packed = b"".join(struct.pack("<d", value) for _, _, value in theirs)
        assert packed == few.columns[key].tobytes()


def test_recipe_tree_and_store_json() -> None:
    theirs, ours = (
        reader.recipe(golden.read("recipe")),
        recipe.decode(golden.read("recipe"), place="r"),
    )
    assert theirs["pieces"] == [
        (piece.home.hex, piece.offset, piece.size_bytes, piece.id.hex())
        for piece in map(ours.piece, range(ours.pieces()))
    ]
    entries = tree.decode_tree(golden.read("tree"), place="t")
    assert [
        (e["path"], e["kind"], e["mode"], e.get("target")) for e in reader.tree(golden.read("tree"))
    ] == [(e.path, e.kind, e.mode, e.target) for e in entries]
    assert reader.store_json(golden.read("store.json")) == storefile.decode(
        golden.read("store.json"), place="s"
    )


def test_the_recipe_of_version_2() -> None:
    theirs, ours = reader.recipe_2(golden.read("recipe-2")), golden.recipe_2()
    assert (theirs["artifact"], theirs["size"]) == (ours.artifact.hex, ours.size_bytes)
    assert theirs["order"] == ours.order.tolist()
    assert [about["depth"] for about in theirs["chunks"]] == ours.depths().tolist()
    for about, chunk in zip(theirs["chunks"], map(ours.chunk, range(len(ours))), strict=True):
        assert (about["id"], about["size"], about["home"], about["packed"]) == (
            chunk.id, chunk.size_bytes, chunk.home.hex, chunk.packed,
        )  # fmt: skip
        assert (about["offset"], about["length"], about["codec"], tuple(about["bases"])) == (
            chunk.offset, chunk.length, chunk.codec, chunk.bases,
        )  # fmt: skip
    assert [row[0] for row in theirs["tensors"]] == [tensor.name for tensor in ours.tensors]


def test_the_recipe_of_version_3() -> None:
    theirs, ours = reader.recipe_2(golden.read("recipe-3")), golden.recipe_3().files
    assert ours is not None
    assert list(theirs["files"]) == [digest.hex for digest in ours.digests()]
    for digest in ours.digests():
        start, size = theirs["files"][digest.hex]
        assert ours.find(digest) == (start, start + size)


@pytest.mark.parametrize("name", ["pack", golden.PACK_CODECS])
def test_packs(name: str) -> None:
    data = golden.read(name)
    ours = [
        {"id": c.id, "size": c.size_bytes, "offset": c.offset, "length": c.length,
         "codec": c.codec, "bases": list(c.bases)}
        for c in packed(data).chunks()
    ]  # fmt: skip
    assert reader.pack(data) == reader.pack_heads(data) == ours


def test_every_codec() -> None:
    data, known = golden.read(golden.PACK_CODECS), {}
    for about in reader.pack(data):
        payload = data[about["offset"] : about["offset"] + about["length"]]
        bases = [known[id_] for id_ in about["bases"]]
        plain = reader.plain(about["codec"], payload, about["size"], bases)
        assert blake3(plain).digest() == about["id"]
        known[about["id"]] = plain


@pytest.mark.parametrize("name", FORMATS)
def test_whole_stores(name: str) -> None:
    found, wanted = reader.read_store(old_stores.STORES / name), expected(name)
    assert found["store_id"] == wanted["store_id"]
    assert sorted(found["experiments"]) == [e["experiment_id"] for e in wanted["experiments"]]
    assert found["runs"].keys() == wanted["runs"].keys()
    for run_id, run in found["runs"].items():
        told = wanted["runs"][run_id]
        assert run["series"] == told["series"]
        assert run["state"].get("config", {}) == told["config"]
        assert run["state"].get("tags", {}) == told["tags"]
        assert run["state"]["run"].get("note") == told["note"]
        assert run["state"]["run"].get("error") == told["error"]
        assert {k: _plain(v) for k, v in run["artifacts"].items()} == {
            key: about["content"] for key, about in told["artifacts"].items()
        }
        _check_statistics(run)


def test_names_and_snapshots() -> None:
    lab = old_stores.STORES / "format-1-names"
    wanted = expected(lab.name)
    found = {
        name: ":".join(filter(None, (about.get("run_id"), about.get("key"))))
        for name, about in reader.aliases(lab).items()
    }
    assert found == {name: moves[-1] for name, moves in wanted["aliases"].items()}
    (name, rows), *others = reader.snapshots(lab).items()
    assert name == "paper/2025" and not others
    told = wanted["snapshots"][name]
    assert {f"runs/{run}/manifest/": number for run, number in told["runs"].items()} == {
        prefix: row[1] for prefix, row in rows.items() if prefix.startswith("runs/")
    }
    assert {prefix for prefix in rows if prefix.startswith("aliases/")} == {
        f"aliases/{alias}/" for alias in told["aliases"]
    }
    with holdfast.open(lab, at=name, cache=False) as then:
        assert str(then.repository.as_of) == told["id"]
        for run in then.runs(deleted=True):
            for key, info in run.artifacts.items():
                proven = reader.proof(then.proof(run.run_id, key))
                assert proven[:2] == (told["id"], run.run_id)
                assert proven[2][1:3] == [key, str(info.digest)]


def _plain(artifact: Any) -> Any:
    if isinstance(artifact, str):
        return artifact
    names = {
        "file": ("kind", "mode", "content"),
        "directory": ("kind", "mode"),
        "link": ("kind", "target"),
    }
    return {item["path"]: {k: item[k] for k in names[item["kind"]]} for item in artifact}


def _check_statistics(run: dict[str, Any]) -> None:
    """What the manifest and the ranks say of the sealed metrics follows from their points."""
    states = [run["state"], *(run["ranks"][rank] for rank in sorted(run["ranks"]))]
    for key in {key for state in states for key in state.get("metrics", {})}:
        told = [state["metrics"][key] for state in states if key in state.get("metrics", {})]
        _check_metric(told, run["series"][key])


def _check_metric(told: list[dict[str, Any]], points: list[list[Any]]) -> None:
    """`told` are the statistics by each writer, the main one first, then by rank."""
    values = [struct.unpack(">d", bytes.fromhex(bits))[0] for _, _, bits in points]
    real = [value for value in values if value == value]
    assert sum(stats["count"] for stats in told) == len(values)
    assert sum(stats["nan"] for stats in told) == len(values) - len(real)
    first = min(told, key=lambda stats: stats["first_step"])
    last = max(reversed(told), key=lambda stats: stats["last_step"])
    assert (first["first_step"], last["last_step"]) == (points[0][0], points[-1][0])
    assert [struct.pack(">d", value) for value in (first["first"], last["last"])] == [
        struct.pack(">d", values[0]),
        struct.pack(">d", values[-1]),
    ]
    some = [stats for stats in told if "mean" in stats]
    assert min(stats["min"] for stats in some) == min(real)
    assert max(stats["max"] for stats in some) == max(real)
    total = sum(stats["mean"] * (stats["count"] - stats["nan"]) for stats in some)
    assert total == pytest.approx(sum(real))
