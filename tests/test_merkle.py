"""Merkle trees as RFC 6962 defines them, and the documents of a snapshot."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden
from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import frame, merkle, packing, snapshot


def by_definition(leaves: list[bytes]) -> bytes:
    """The recursive definition in RFC 6962, section 2.1, over leaves as they are."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    below = by_definition(leaves[:left]) + by_definition(leaves[left:])
    return hashlib.sha256(b"\x01" + below).digest()


# The inputs and roots that the certificate-transparency projects test with.
KNOWN_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
KNOWN_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
}


@pytest.mark.parametrize("count", KNOWN_ROOTS)
def test_roots_that_others_have_published(count: int) -> None:
    leaves = [merkle.leaf(bytes.fromhex(text)) for text in KNOWN_LEAVES[:count]]
    assert merkle.root(leaves).hex() == KNOWN_ROOTS[count]


@given(st.lists(st.binary(max_size=4), max_size=40))
def test_the_root_is_that_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle.root(map(merkle.leaf, leaves)) == by_definition(leaves)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_a_path_leads_to_the_root_and_nothing_else_does(
    leaves: list[bytes], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(leaves) - 1))
    hashes = [merkle.leaf(leaf) for leaf in leaves]
    path, root = merkle.path(hashes, at), merkle.root(hashes)
    assert merkle.climb(hashes[at], at, len(hashes), path) == root
    assert merkle.climb(merkle.leaf(b"another"), at, len(hashes), path) != root
    for bent in ([*path, bytes(32)], path[:-1]):
        if bent != path:
            with pytest.raises(ValueError, match="path is too"):
                merkle.climb(hashes[at], at, len(hashes), bent)
    for outside in (-1, len(hashes)):
        with pytest.raises(ValueError, match="no leaf"):
            merkle.climb(hashes[at], outside, len(hashes), path)


def test_the_golden_snapshot_is_read() -> None:
    document = snapshot.decode(golden.read("snapshot"), place="s")
    assert document.chains == 3
    assert document.list == Digest.of(golden.read("snapshot-list"))
    rows = snapshot.decode_list(golden.read("snapshot-list"), document, place="l")
    assert rows == sorted(golden.ROWS, key=lambda row: row.prefix)


@given(st.permutations(golden.ROWS))
def test_the_order_in_which_chains_were_found_says_nothing(rows: list[snapshot.Row]) -> None:
    assert snapshot.encode(rows) == (golden.read("snapshot"), golden.read("snapshot-list"))


@pytest.mark.parametrize(
    "change", [{"tip": bytes(32)}, {"number": 7}, {"items": bytes(32)}, {"prefix": "runs/x/"}]
)
def test_another_row_gives_another_id(change: dict[str, object]) -> None:
    rows = [replace(golden.ROWS[0], **change), *golden.ROWS[1:]]  # type: ignore[arg-type]
    assert snapshot.encode(rows)[0] != golden.read("snapshot")


ROW = ["a/", 0, bytes(32), bytes(32)]


@pytest.mark.parametrize(
    "rows",
    [
        {"no": "list"},
        [ROW[:3]],
        [["a", *ROW[1:]]],
        [["a/", -1, bytes(32), bytes(32)]],
        [["a/", True, bytes(32), bytes(32)]],
        [["a/", 0, bytes(31), bytes(32)]],
        [["a/", 0, bytes(32), "text"]],
        [ROW, ROW],
        [["b/", *ROW[1:]], ROW],
        [],
    ],
)
def test_a_list_that_is_not_as_defined_is_refused(rows: object) -> None:
    data = frame.wrap(snapshot.LIST, 1, packing.pack(rows))
    document = snapshot.Document(1, bytes(32), Digest.of(data))
    with pytest.raises(Corrupt, match="here is damaged"):
        snapshot.decode_list(data, document, place="here")


def test_a_list_with_another_root_is_refused() -> None:
    data = frame.wrap(snapshot.LIST, 1, packing.pack([ROW]))
    with pytest.raises(Corrupt, match="do not give the root"):
        snapshot.decode_list(data, snapshot.Document(1, bytes(32), Digest.of(data)), place="here")


@pytest.mark.parametrize("fields", [[], {}, {"chains": 1, "root": b"", "list": bytes(32)}])
def test_a_snapshot_that_is_not_as_defined_is_refused(fields: object) -> None:
    data = frame.wrap(snapshot.KIND, 1, packing.pack(fields))
    with pytest.raises(Corrupt, match="here is damaged"):
        snapshot.decode(data, place="here")
