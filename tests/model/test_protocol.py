"""The protocol of docs/format/gc.md loses nothing, in any order of steps and wherever a process stops; and
each of its rules is needed."""

from __future__ import annotations

import pytest

from model.explore import Explored, explore
from model.protocol import Model, Rules, State, is_lost, symmetric
from model.worlds import LARGE, NEEDED, WORLDS


def explored(first: State, rules: Rules = Rules(), **how: int) -> Explored:  # noqa: B008 - it is frozen
    return explore(first, symmetric(Model(rules, **how).successors), is_lost)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_lost(name: str) -> None:
    found = explored(WORLDS[name], collections=1)
    assert found.schedule is None
    assert found.states > 300


@pytest.mark.slow
@pytest.mark.parametrize("name", {**WORLDS, **LARGE})
def test_nothing_is_lost_in_two_collections(name: str) -> None:
    """`pytest -m slow tests/model -s` prints the number of states."""
    found = explored({**WORLDS, **LARGE}[name], collections=2)
    print(f"{found.states:,} states: {name}")
    assert found.schedule is None


@pytest.mark.parametrize("rule", NEEDED)
def test_every_rule_is_needed(rule: str) -> None:
    name, collections = NEEDED[rule]
    found = explored(WORLDS[name], Rules(**{rule: False}), collections=collections)
    assert found.schedule is not None
