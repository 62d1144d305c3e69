"""Rules for keeping: which ended runs a collection may remove. They are kept in the log of the collectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.chain import Chain
from holdfast.errors import InvalidValue
from holdfast.format import gc, layout
from holdfast.format.manifest import State
from holdfast.ops.checkpoints import Best, checked_count
from holdfast.repository import Repository
from holdfast.summary import RunSummary


@dataclass(frozen=True, slots=True)
class Policy:
    """A run stays if any rule keeps it: `keep` is a query; `keep_last` the newest so many of each experiment;
    `keep_best` a metric, `min` or `max`, and how many of each experiment. Without a rule all stay."""

    keep: str | None = None
    keep_last: int | None = None
    keep_best: tuple[str, str, int] | None = None

    @classmethod
    def parse(
        cls, keep: str | None = None, keep_last: int | None = None, keep_best: str | None = None
    ) -> Policy:
        """With `keep_best` as text: `val/loss:min:3`. Raises InvalidValue."""
        return cls(keep, keep_last, _best(keep_best) if keep_best else None)

    def __post_init__(self) -> None:
        checked_count("keep_last", self.keep_last)
        Best.of(self.keep_best)

    def __bool__(self) -> bool:
        return (self.keep, self.keep_last, self.keep_best) != (None, None, None)

    def __str__(self) -> str:
        rules = [
            f"--keep {self.keep!r}" if self.keep else "",
            f"--keep-last {self.keep_last}" if self.keep_last else "",
            "--keep-best {}:{}:{}".format(*self.keep_best) if self.keep_best else "",
        ]
        return " ".join(filter(None, rules)) or "no rule: every run is kept until it is deleted"


def doomed(
    policy: Policy, runs: Iterable[RunSummary], matching: Iterable[RunSummary]
) -> dict[str, tuple[int, str]]:
    """{run id: (generation, why)} of the runs that no rule keeps, given all that are not deleted, the
    newest first, and those that match `policy.keep`. A run that has not ended is kept: the machine that
    writes it may only be away."""
    kept = {run.run_id for run in matching} if policy.keep else set()
    groups: dict[str, list[RunSummary]] = defaultdict(list)
    for run in runs:
        groups[run.experiment_id].append(run)
    best = Best.of(policy.keep_best)
    for group in groups.values():
        kept |= {run.run_id for run in group[: policy.keep_last or 0]}
        if best is not None:
            ranked = sorted(group, key=lambda run: best.rank(_value(run, best)))
            kept |= {run.run_id for run in ranked[: best.count] if best.metric in run.metrics}
    return {
        run.run_id: (run.generation, "kept by no rule")
        for group in (groups.values() if policy else ())
        for run in group
        if run.run_id not in kept and run.status.terminal
    }


def _value(run: RunSummary, best: Best) -> Mapping[str, Any]:
    """The best value of the metric, as `Best.rank` takes it."""
    stats = run.metrics.get(best.metric)
    value = None if stats is None else (stats.min if best.mode == "min" else stats.max)
    return {"metrics": {best.metric: value}}


def load(repository: Repository) -> Policy:
    """The policy of the store; none if nobody has set one. Raises Corrupt."""
    known = Chain(repository.backend, layout.LOG).load().state.get(gc.POLICY, {})
    best = known.get("keep_best")
    return Policy(known.get("keep"), known.get("keep_last"), tuple(best) if best else None)


def save(repository: Repository, policy: Policy) -> None:
    """Make it the policy of the store."""
    best = list(policy.keep_best) if policy.keep_best else None
    wanted = {"keep": policy.keep, "keep_last": policy.keep_last, "keep_best": best}
    chain = Chain(repository.backend, layout.LOG)

    def decide(state: State) -> State:
        known = state.get(gc.POLICY, {})
        changed = {key: value for key, value in wanted.items() if known.get(key) != value}
        return {gc.POLICY: changed} if changed else {}

    chain.commit(chain.load(), decide)


def _best(text: str) -> tuple[str, str, int]:
    metric, _, rest = text.rpartition(":")
    metric, _, mode = metric.rpartition(":")
    if not metric or not rest.isdecimal():
        raise InvalidValue(f"keep-best {text!r}: write it as METRIC:min:3 or METRIC:max:3")
    return metric, mode, int(rest)
