"""Addresses as text: what each form says, what is refused, and that none can be read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.digest import Digest
from holdfast.errors import InvalidValue
from holdfast.format import address
from holdfast.format.address import ALIAS, EXPERIMENT, KINDS, LATEST, RUN, Address, parse
from holdfast.names import check_alias, check_id, check_key

HEX = "ab" * 32


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"sha256:{HEX}", Address(Digest(HEX))),
        ("run:key", Address(scope="run", key="key")),
        ("run:dir/file:1", Address(scope="run", key="dir/file:1")),
        ("prod", Address(scope="prod")),
        ("prod/resnet", Address(scope="prod/resnet")),
        ("prod/resnet:model.pt", Address(scope="prod/resnet", key="model.pt")),
        ("resnet:model.pt@v3", Address(scope="resnet", key="model.pt@v3")),
        ("runs/prod:key", Address(scope="prod", key="key", kind=RUN)),
        ("aliases/prod/resnet", Address(scope="prod/resnet", kind=ALIAS)),
        ("experiments/prod:key@latest", Address(scope="prod", key="key@latest", kind=EXPERIMENT)),
    ],
)
def test_what_an_address_says(text: str, wanted: Address) -> None:
    assert parse(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("model.pt@v3", ("model.pt", 3, "")),
        ("model.pt@latest", ("model.pt", LATEST, "")),
        ("model.pt", ("model.pt", None, "")),
        ("data@v3/deep/x.csv", ("data", 3, "deep/x.csv")),
        ("a@v1@v0", ("a@v1", 0, "")),
        ("a@v1/b@latest/c", ("a@v1/b", LATEST, "c")),
        ("a@v01", ("a@v01", None, "")),
        ("a@v", ("a@v", None, "")),
        ("@v1", ("@v1", None, "")),
        ("a@V1", ("a@V1", None, "")),
    ],
)
def test_versions(key: str, wanted: tuple[str, int | None, str]) -> None:
    assert address.split_version(key) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no address"),
        ("sha256:xyz", "64 lower-case"),
        (f"sha256:{HEX.upper()}", "64 lower-case"),
        (":key", "it is empty"),
        ("run:", "it is empty"),
        ("run:../up", "it has the part '..'"),
        ("a//b", "an empty part"),
        ("/a", "an empty part"),
        ("runs/a/b:key", "it holds '/'"),
        ("experiments/:key", "it is empty"),
        ("prod@x/y", "it holds '@'"),
        ("prod/00000001", "looks like a generation"),
        ("snapshots/x", "addresses begin with"),
        ("a\nb", "cannot be printed"),
    ],
)
def test_what_is_refused_and_why(text: str, reason: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse(text)
    assert reason in caught.value.message


def test_a_key_may_come_by_itself_but_not_twice() -> None:
    assert parse("run", "key") == parse("run:key")
    with pytest.raises(InvalidValue, match="has a key, and so has the call"):
        parse("run:key", "other")
    with pytest.raises(InvalidValue, match="leave out 'key'"):
        parse(f"sha256:{HEX}", "key")
    with pytest.raises(InvalidValue, match="is no address"):
        parse(7)  # type: ignore[arg-type]


def keeps(check: object, text: str) -> bool:
    try:
        check("name", text)  # type: ignore[operator]
    except InvalidValue:
        return False
    return True


words = st.text("ab@:/.é0v1", min_size=1, max_size=8)
ids = words.filter(lambda text: keeps(check_id, text))
aliases = st.lists(words, min_size=1, max_size=3).map("/".join)
aliases = aliases.filter(lambda text: keeps(check_alias, text))
keys = words.filter(lambda text: keeps(check_key, text))
scopes = st.one_of(
    st.tuples(ids, st.none()),
    st.tuples(aliases, st.none()),
    st.tuples(ids, st.sampled_from([RUN, EXPERIMENT])),
    st.tuples(aliases, st.just(ALIAS)),
)


@given(scopes, st.none() | keys)
def test_every_address_is_read_back_as_it_was_meant(
    scope: tuple[str, str | None], key: str | None
) -> None:
    meant = Address(scope=scope[0], kind=scope[1], key=key)
    assert parse(str(meant)) == meant
    if key is not None:
        assert parse(str(Address(scope=scope[0], kind=scope[1])), key) == meant


@given(st.text("ab@:/.s0é\n ", max_size=12) | st.text(max_size=12))
def test_any_text_is_an_address_that_gives_itself_back_or_a_refusal(text: str) -> None:
    try:
        found = parse(text)
    except InvalidValue:
        return
    assert str(found) == text
    assert found.scope and ":" not in found.scope
    assert set(found.may_be) <= set(KINDS)
    assert ("/" in found.scope) <= (found.may_be == (ALIAS,))


@given(keys, st.integers(0, 999_999_999))
def test_a_version_is_the_last_suffix(key: str, number: int) -> None:
    assert address.split_version(f"{key}@v{number}") == (key, number, "")
    assert address.split_version(f"{key}@latest") == (key, LATEST, "")


@given(st.lists(aliases, min_size=2, max_size=2, unique=True))
def test_two_aliases_have_two_heads(names: list[str]) -> None:
    from holdfast.format import layout

    heads = [layout.head(layout.alias(name), 7) for name in names]
    assert heads[0] != heads[1]
    for name, head in zip(names, heads, strict=True):
        parts = layout.head_parts(head)
        assert parts and parts[0] == "aliases" and parts[1].replace("@", "/") == name
