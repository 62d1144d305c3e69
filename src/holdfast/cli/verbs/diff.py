"""`holdfast diff`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import options
from holdfast.cli.table import number, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, TensorChange, TensorInfo


@click.command()
@click.argument("one", metavar="ADDRESS")
@click.argument("other", metavar="ADDRESS")
@click.option("--all", "show_all", is_flag=True, help="Also the tensors that are equal.")
@options.with_store()
def command(store: ExperimentStore, one: str, other: str, show_all: bool, as_json: bool) -> None:
    """Show which tensors changed from one checkpoint to another, and how much, the most changed first."""
    changes = list(store.checkpoint_diff(one, other))
    if as_json:
        options.say_json([_json(change) for change in changes])
        return
    shown = [change for change in changes if show_all or change.status != "equal"]
    shown.sort(key=_rank)
    if shown:
        click.echo(table(_HEAD, [_row(change) for change in shown]))
    equal = sum(change.status == "equal" for change in changes)
    click.echo(f"{len(changes):,} tensors: {len(changes) - equal:,} differ, {equal:,} are equal")


_HEAD = ["tensor", "what", "type", "shape", "max |Δ|", "mean |Δ|", "relative", "elements"]


def _rank(change: TensorChange) -> tuple[int, float]:
    first = {"reshaped": 0, "removed": 1, "added": 2, "changed": 3, "equal": 4}[change.status]
    value = change.relative_l2
    return first, -(math.inf if value is None else value)


def _row(change: TensorChange) -> list[str]:
    before, after = change.before, change.after
    share = change.changed_fraction
    return [
        change.name,
        change.status,
        _both(before, after, lambda about: about.dtype),
        _both(before, after, lambda about: "×".join(map(str, about.shape)) or "-"),
        number(change.max_abs),
        number(change.mean_abs),
        number(change.relative_l2),
        "-" if share is None else f"{100 * share:.1f} %",
    ]


def _both(before: TensorInfo | None, after: TensorInfo | None, of: Any) -> str:
    values = [of(about) for about in (before, after) if about is not None]
    return str(values[0]) if len(set(values)) == 1 else " → ".join(values)


def _json(change: TensorChange) -> dict[str, Any]:
    about = {
        side: None if info is None else {"dtype": info.dtype, "shape": list(info.shape)}
        for side, info in (("before", change.before), ("after", change.after))
    }
    numbers = ("max_abs", "mean_abs", "relative_l2", "changed_fraction")
    values = {name: getattr(change, name) for name in numbers}
    return {"tensor": change.name, "status": change.status, **about, **values}
