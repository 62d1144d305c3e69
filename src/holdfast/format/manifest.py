"""The state of a run and how a change alters it: two levels of map, None removes.

A state is `{section: {key: value}}`, a change has the same shape. One rule serves every section
(run, config, tags, source, attempts, writer, segments, metrics, artifacts), so two writers that
touch different keys never disturb each other, and a section that a newer version adds is carried
along untouched. See docs/format/manifest.md.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import Corrupt

State = dict[str, dict[str, Any]]
CONFIG = "config"  # the one section where None is a value: what was configured as null stays so


def apply(state: State, change: State) -> State:
    """`state` after `change`; neither argument is altered. An empty section disappears."""
    after = {section: dict(keys) for section, keys in state.items()}
    for section, keys in change.items():
        target = after.setdefault(section, {})
        for key, value in keys.items():
            if value is None and section != CONFIG:
                target.pop(key, None)
            else:
                target[key] = value
    return {section: keys for section, keys in after.items() if keys}


def check_state(state: Any, *, place: str) -> State:
    """`state` if it has the two-level shape. Raises Corrupt."""
    if not isinstance(state, dict) or not all(isinstance(keys, dict) for keys in state.values()):
        raise Corrupt(f"{place} is damaged: a manifest must be a map of maps", place=place)
    return state
