"""Who meets whom in the model, and which world shows what a rule is for."""

from __future__ import annotations

from model.protocol import (
    COLLECTOR,
    DELETED,
    ENDED,
    REFERRING,
    State,
    deleter,
    syncer,
    world,
    writer,
)

TWO = (COLLECTOR, COLLECTOR)

# x: the blob of the artifact, q: a pack to share; both were left by a run that is gone.
WORLDS: dict[str, State] = {
    "a run begins and finds the blob": world("x", [()], writer(0), *TWO),
    "a run begins and shares a pack": world("q", [()], writer(0, share=True), *TWO),
    "an ended run gets an artifact": world("x q", [ENDED], writer(0, share=True), *TWO),
    "an artifact is packed": world("x q", [REFERRING], writer(0, "packed", share=True), *TWO),
    "a run is undeleted": world("x", [DELETED], writer(0, "undelete"), *TWO),
    "undeleted while another begins": world(
        "x", [DELETED, ()], writer(0, "undelete"), writer(1), COLLECTOR
    ),
    "deleted while another begins": world("x", [REFERRING, ()], deleter(0), writer(1), COLLECTOR),
    "a sync brings a run": world("x", [(), ()], syncer(0, 1), *TWO),
    "a sync goes on with a run": world("x", [ENDED, ()], syncer(0, 1), COLLECTOR),
}

# Larger: minutes.
LARGE: dict[str, State] = {
    "two writers, two layouts": world(
        "x q", [(), ENDED], writer(0), writer(1, share=True), COLLECTOR
    ),
    "three collectors": world("x", [()], writer(0), *TWO, COLLECTOR),
    "a sync while a run begins": world("x", [(), (), ()], syncer(0, 1), writer(2), COLLECTOR),
    "packed while another begins": world(
        "x q", [REFERRING, ()], writer(0, "packed", share=True), writer(1), COLLECTOR
    ),
}

# Without the rule, this world loses something, in so many collections.
NEEDED: dict[str, tuple[str, int]] = {
    "fence": ("a run begins and finds the blob", 1),
    "empty_first": ("an ended run gets an artifact", 1),
    "recheck": ("a run begins and shares a pack", 1),
    "retire": ("an ended run gets an artifact", 1),
    "decide": ("an artifact is packed", 2),
    "sessions_first": ("a sync goes on with a run", 1),
    "collect_runs": ("a run is undeleted", 1),
    "condemn": ("a run begins and finds the blob", 1),
}
