"""The methods of `ExperimentStore` that free space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from holdfast.ops import gc, policy
from holdfast.ops.gc import Collected, GcPlan
from holdfast.ops.policy import Policy

if TYPE_CHECKING:
    from holdfast.repository import Repository
    from holdfast.summary import RunSummary

Progress = Callable[
    [int, int], None
]  # (done, all): runs that were read, then files that were removed


class CollectingMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    runs: Callable[..., list[RunSummary]]

    def gc_plan(self, policy: Policy | None = None, progress: Progress | None = None) -> GcPlan:
        """What a collection would free now: deleted runs, runs that no rule of the policy keeps (that of the
        store, without one here), and what nothing refers to. Nothing is changed.

        Raises Corrupt when something cannot be read that may need files, QueryError, BackendError.
        """
        return gc.plan(self.repository, self._doomed(policy or self.gc_policy()), progress)

    def gc(self, plan: GcPlan | None = None, progress: Progress | None = None) -> Collected:
        """Carry a plan out: what is in it and still unneeded is removed, for good.

        Any number of processes may write, read and collect meanwhile, and each may stop anywhere: the
        next collection finishes what another began. Raises InvalidState, Corrupt, ReadOnly, BackendError.
        """
        return gc.execute(self.repository, plan or self.gc_plan(progress=progress), progress)

    def gc_policy(self) -> Policy:
        """The rules for keeping that the store has."""
        return policy.load(self.repository)

    def set_gc_policy(self, rules: Policy) -> None:
        """Give the store rules for keeping; `Policy()` takes them away. Raises QueryError."""
        if rules.keep:
            self.runs(rules.keep, limit=1)
        policy.save(self.repository, rules)

    def end_sync(self, sync_id: str) -> None:
        """Say that a sync into this store is over for good, so that what it holds may go. Raises NotFound."""
        gc.end_sync(self.repository, sync_id)

    def _doomed(self, rules: Policy) -> dict[str, tuple[int, str]]:
        if not rules:
            return {}
        matching = self.runs(rules.keep) if rules.keep else []
        return policy.doomed(rules, self.runs(), matching)
