"""Some thousand inputs of each fuzzing target, always the same; `python3 do.py fuzz` tries many more."""

from __future__ import annotations

import pytest

from fuzz.run import TARGETS, run, tried

EACH = 1000  # inputs of one target in the test suite


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "query"])
def test_decoders_take_any_bytes(target: str) -> None:
    failures, _, _ = run([target], first=0, each=EACH)
    assert [str(failure) for failure in failures] == []


def test_queries_take_any_text() -> None:
    failures, _, _ = run(["query"], first=0, each=EACH)
    assert [str(failure) for failure in failures] == []


def test_an_error_of_another_kind_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes) -> None:
        raise IndexError("out of the file")

    def eats(data: bytes) -> None:
        bytearray(100 << 20)

    monkeypatch.setitem(
        TARGETS, "digest", type(TARGETS["digest"])([b"x"], TARGETS["digest"].change, fails)
    )
    assert "IndexError" in str(tried("digest", 1))
    monkeypatch.setitem(
        TARGETS, "digest", type(TARGETS["digest"])([b"x"], TARGETS["digest"].change, eats)
    )
    assert "bytes of memory" in str(tried("digest", 1, memory=True))


REGRESSIONS = [("recipe", 57), ("outbox change", 334)]  # inputs that raised something else once


@pytest.mark.parametrize(("target", "seed"), REGRESSIONS)
def test_what_was_found_once_stays_mended(target: str, seed: int) -> None:
    assert tried(target, seed) is None
