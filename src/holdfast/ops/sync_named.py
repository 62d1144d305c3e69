"""Chains that belong to no run: experiments, aliases, the names of snapshots.

Experiments come before the runs that name them, and need nothing. Aliases and snapshots come last: what
they name is there by then, or they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from holdfast import verified_artifact
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.format import alias, layout, snapshot
from holdfast.format.manifest import State
from holdfast.ops import reach, sync_chains
from holdfast.ops.sync_chains import ChainPlan, Divergence
from holdfast.ops.sync_listing import Tip
from holdfast.ops.sync_needs import RunPlan, Sides, parted
from holdfast.repository import Repository


def examine(
    sides: Sides, prefix: str, ours: Tip, theirs: Tip | None
) -> RunPlan | Divergence | None:
    """What to do for one chain; None if there is nothing to do. Raises Corrupt."""
    ours.check(prefix)
    if theirs is not None:
        theirs.check(prefix)
        if sides.memory.is_settled(prefix, ours, theirs):
            return None
        split = _compare(sides, prefix, ours, theirs)
        if split is not None:
            return split
        if theirs.number > ours.number or sides.memory.is_settled(prefix, ours, theirs):
            sides.memory.settle(prefix, ours, theirs)
            return None
        if theirs.number == ours.number and sides.memory.is_complete(prefix, ours.number):
            return None
    have = -1 if theirs is None else theirs.number
    plan = RunPlan(prefix, chains=[ChainPlan(prefix, have, ours.number)], tips={prefix: ours})
    if not prefix.startswith(layout.EXPERIMENTS):
        _add_needs(sides.source, plan, Chain(sides.source.backend, prefix))
    return plan


def _compare(sides: Sides, prefix: str, ours: Tip, theirs: Tip) -> Divergence | None:
    """How the chains diverged; None too if what they say is the same, which is noted."""
    number = parted(sides, prefix, ours, theirs)
    if number is None:
        return None
    source, target = sides.source.backend, sides.target.backend
    states = [Chain(backend, prefix).load().state for backend in (source, target)]
    if sync_chains.means_the_same(*states):
        sides.memory.settle(prefix, ours, theirs)
        return None
    return sync_chains.diverged(source, target, prefix, number, ours, theirs)


def _add_needs(source: Repository, plan: RunPlan, chain: Chain) -> None:
    """The files of what an alias names, or of a snapshot."""
    named = alias.target(chain.load().state)
    if named is None:
        return
    plan.names_run = named.run_id
    if named.digest is None or named.kind is None:
        return
    if named.kind == "snapshot":
        _add_snapshot(source, plan, Digest.parse(named.digest))
    else:
        plan.artifacts.update(reach.of_artifact(source, named.about))


def _add_snapshot(source: Repository, plan: RunPlan, digest: Digest) -> None:
    """Its two documents, and what the states that it holds need. What the newest states need comes with
    the runs."""
    backend = source.backend
    document = snapshot.decode(verified_artifact.read(backend, digest), place=layout.blob(digest))
    listed = verified_artifact.read(backend, document.list)
    plan.artifacts[digest] = plan.artifacts[document.list] = None
    for row in snapshot.decode_list(listed, document, place=layout.blob(document.list)):
        if row.prefix.startswith(layout.RUNS):
            state = Chain(backend, row.prefix).load_hinted(row.number).state
            _add_state(source, plan, row.prefix.split("/")[1], state)


def _add_state(source: Repository, plan: RunPlan, run_id: str, state: State) -> None:
    for about in state.get("artifacts", {}).values():
        plan.artifacts.update(reach.of_artifact(source, about))
    segments: Mapping[str, Mapping[str, int]] = state.get("segments", {})
    for name, row in segments.items():
        plan.segments[layout.segment(run_id, Digest(name))] = row["size_bytes"]
