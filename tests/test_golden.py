"""The golden files: today's encoders give the same bytes, today's decoders read them, and the worked
examples on the format pages are these bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

import golden
from holdfast import codecs
from holdfast.format import (
    entry,
    gc,
    layout,
    manifest,
    outbox,
    pack,
    recipe,
    segment,
    spool,
    storefile,
    tree,
)
from holdfast.format.segment import Axis, Footer

PAGES = Path(__file__).parents[1] / "docs" / "format"


def opened(data: bytes, place: str = "segment") -> tuple[Footer, segment.Getter]:
    def get(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    return segment.footer(data, len(data), get, place=place), get


def same_axis(found: Axis, wanted: Axis, key: str) -> bool:
    pairs = [
        (found.steps, wanted.steps),
        (found.times, wanted.times),
        (found.columns[key], wanted.columns[key]),
    ]
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("name", golden.exact())
def test_encoders_give_the_golden_bytes(name: str) -> None:
    # `segment` and `pack` hold only codecs that need no compressor: what pcodec and zstd make of the same
    # numbers may change with their versions, so `segment-codecs` and `pack-codecs` are decoded only.
    assert golden.exact()[name] == golden.read(name)


def test_every_golden_file_is_known() -> None:
    names = {path.name for path in golden.FOLDER.iterdir()}
    assert names == {*golden.exact(), golden.CODECS, golden.PACK_CODECS}


def test_the_entries_are_read() -> None:
    found = [entry.decode(golden.read(f"entry-0000000{n}"), place="e") for n in range(3)]
    assert found == [golden.ENTRY_0, golden.ENTRY_1, golden.ENTRY_2]


def test_an_entry_has_the_lowest_version_that_can_say_it() -> None:
    versions = [golden.read(f"entry-0000000{n}")[10] for n in range(3)]
    assert versions == [1, 1, 2]


def test_the_state_is_the_one_on_the_page() -> None:
    state = manifest.apply(golden.ENTRY_0.body, golden.ENTRY_1.body)
    shown = re.search(r"```json\n(.*?)```", (PAGES / "manifest.md").read_text(), re.DOTALL)
    assert shown and json.loads(shown[1]) == state


def test_recipe_tree_and_store_json_are_read() -> None:
    assert recipe.decode(golden.read("recipe"), place="r") == golden.RECIPE
    assert recipe.decode(golden.read("recipe-2"), place="r") == golden.recipe_2()
    assert recipe.decode(golden.read("recipe-3"), place="r") == golden.recipe_3()
    assert list(tree.decode_tree(golden.read("tree"), place="t")) == golden.TREE
    assert storefile.decode(golden.read("store.json"), place="s") == golden.STORE


def test_what_collectors_write_is_read() -> None:
    assert entry.decode(golden.read("fence"), place="e") == golden.FENCE
    found = entry.decode(golden.read("collected"), place="e")
    assert found == golden.COLLECTED
    assert gc.is_collected(found.body)
    assert sorted(gc.decode_names(golden.read("names"), place="n")) == sorted(golden.NAMES)


def test_the_outbox_is_read() -> None:
    assert outbox.decode_owner(golden.read("outbox-owner"), place="o") == golden.OWNER
    assert outbox.decode_pending(golden.read("outbox-pending"), place="p") == golden.PENDING
    assert outbox.decode_pending(golden.read("outbox-wishing"), place="p") == golden.WISHING


def packed(data: bytes) -> pack.Index:
    return pack.index(data, len(data), lambda at, size: data[at : at + size], place="pack")


def test_the_pack_is_read() -> None:
    data = golden.read("pack")
    for chunk, wanted in zip(packed(data).chunks(), golden.PACKED, strict=True):
        payload = data[chunk.offset : chunk.offset + chunk.length]
        bases = list(chunk.bases)
        assert (chunk.id, chunk.size_bytes, chunk.codec, bases, payload) == wanted


def test_every_codec_is_read() -> None:
    data = golden.read(golden.PACK_CODECS)
    index, known = packed(data), {}
    for chunk in index.chunks():
        payload = data[chunk.offset : chunk.offset + chunk.length]
        bases = [known[id_] for id_ in chunk.bases]
        plain = codecs.decode(chunk.codec, payload, chunk.size_bytes, bases).tobytes()
        assert blake3(plain).digest() == chunk.id
        known[chunk.id] = plain
    assert {chunk.codec for chunk in index.chunks()} == set(codecs.BASES_OF)
    assert {plain for _, plain, _ in golden.CODED} <= set(known.values())


def spool_rows(scan: spool.Scan) -> list[Any]:
    """(keys, step, time, bits of the values) of every row, in the order of logging."""
    found: dict[int, Any] = {}
    for table in scan.tables:
        for place, row in zip(table.order.tolist(), table.rows, strict=True):
            bits = tuple(row["values"].astype("<f8").view(np.uint64).tolist())
            found[place] = (tuple(table.keys), int(row["step"]), int(row["time"]), bits)
    return [found[place] for place in range(len(found))]


def test_the_spool_is_read() -> None:
    scan = spool.scan(golden.read("spool"), place="w")
    assert scan.about == golden.SPOOL_ABOUT
    assert spool_rows(scan) == golden.SPOOL_ROWS
    assert (scan.row_count, scan.torn_bytes) == (3, 0)


def test_room_behind_a_spool_is_not_torn() -> None:
    data = golden.read("spool-open")
    scan = spool.scan(data, place="w")
    assert spool_rows(scan) == golden.SPOOL_ROWS[:1]
    assert (scan.good_bytes, scan.torn_bytes) == (len(data) - golden.SPOOL_ROOM, 0)


def test_a_synced_record_is_no_row() -> None:
    data = golden.read("spool-synced")
    scan = spool.scan(data, place="w")
    assert spool_rows(scan) == golden.SPOOL_ROWS
    assert (scan.good_bytes, scan.torn_bytes) == (len(data) - golden.SPOOL_ROOM, 0)


SEGMENTS = {
    "segment": golden.plain_axes(),
    "segment-overview": golden.long_axes(),
    golden.CODECS: golden.codec_axes(),
}


@pytest.mark.parametrize(("name", "axes"), SEGMENTS.items())
def test_the_segments_are_read(name: str, axes: list[Axis]) -> None:
    footer, get = opened(golden.read(name))
    assert footer.about == golden.SEGMENT_ABOUT
    assert sorted(footer.columns) == sorted(key for axis in axes for key in axis.columns)
    for axis in axes:
        for key in axis.columns:
            assert same_axis(footer.read(key, get), axis, key)


def test_the_overviews_are_read() -> None:
    footer, get = opened(golden.read("segment-overview"))
    (axis,) = golden.long_axes()
    inner = axis.columns["loss"][1:5]
    ends = {0, 5, 1 + int(inner.argmin()), 1 + int(inner.argmax())}
    for key, rows in {"loss": sorted(ends), "gap": [0, 1, 4, 5]}.items():
        assert same_axis(footer.read_overview(key, get), axis.rows(rows, key), key)


def test_the_codec_segment_has_every_codec() -> None:
    footer, _ = opened(golden.read(golden.CODECS))
    lists = [blocks for axis in footer.axes for blocks in axis[1:]]
    lists += [blocks for _, blocks in footer.columns.values()]
    assert {block[0] for blocks in lists for block in blocks} == {0, 1, 2, 3, 4, 5}


def test_the_pages_show_the_golden_bytes() -> None:
    text = "".join(page.read_text() for page in sorted(PAGES.glob("*.md")))
    dumps = re.findall(r"```dump ([\w-]+)\n(.*?)```", text, re.DOTALL)
    texts = {name for name in golden.exact() if name.endswith(".json")}
    assert {name for name, _ in dumps} == set(golden.exact()) - texts
    for name, lines in dumps:
        shown = bytearray()
        for line in lines.splitlines():
            assert int(line[:6], 16) == len(shown), f"{name}: {line}"
            shown += bytes.fromhex(line[8:55])
        assert bytes(shown) == golden.read(name), name
    for name in texts:
        assert f"```json\n{golden.read(name).decode()}```" in (PAGES / "store-json.md").read_text()


def test_the_pages_link_to_pages_that_exist() -> None:
    for page in PAGES.glob("*.md"):
        for link in re.findall(r"\]\(([\w-]+\.md)\)", page.read_text()):
            assert (PAGES / link).exists(), f"{page.name} links to {link}"


def test_the_example_on_the_layout_page() -> None:
    page = (PAGES / "layout.md").read_text()
    assert layout.blob(golden._BLOB) in page
