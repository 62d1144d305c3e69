"""`holdfast du`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from holdfast.cli import options
from holdfast.cli.table import size, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, Usage, UsageRow


@click.command()
@click.argument("where", required=False)
@click.option("--where", "-w", "where_option", help="The same, as an option.")
@click.option(
    "--by", type=click.Choice(["experiment", "run", "artifact"]), default="run", show_default=True,
    help="What a line stands for.",
)  # fmt: skip
@click.option("--bytes", "exact", is_flag=True, help="Sizes in bytes.")
@options.with_store()
def command(
    store: ExperimentStore,
    where: str | None,
    where_option: str | None,
    by: str,
    exact: bool,
    as_json: bool,
) -> None:
    """Show what the runs that match WHERE take on disk, and what removing them would free.

    A line's `freed` is what nothing else needs; `shared` is what others need too. The sums below add up
    to all bytes of the store.
    """
    found = store.du(where or where_option, by=by)
    if as_json:
        options.say_json(asdict(found))
        return
    say = (lambda count: f"{count:,}") if exact else size
    sizes = ("logical_bytes", "stored_bytes", "shared_bytes", "freed_bytes")
    rows = [[*_name(row, by), *(say(getattr(row, name)) for name in sizes)] for row in found.rows]
    heads = {
        "experiment": ["experiment"],
        "run": ["run", "experiment"],
        "artifact": ["run", "artifact"],
    }
    if rows:
        click.echo(table([*heads[by], "logical", "stored", "shared", "freed"], rows, whole=["run"]))
        click.echo()
    click.echo(_sums(found, by, say))


def _name(row: UsageRow, by: str) -> list[str]:
    deleted = " (deleted)" if row.deleted else ""
    if by == "experiment":
        return [row.experiment + deleted]
    if by == "run":
        return [str(row.run_id), row.experiment + deleted]
    return [str(row.run_id), (row.key or "(metrics and manifest)") + deleted]


def _sums(found: Usage, by: str, say: object) -> str:
    freed = sum(row.freed_bytes for row in found.rows)
    lines = [
        (f"needed by one {by} of these", freed),
        (f"needed by one other {by}", found.hidden_bytes),
        ("needed by several", found.shared_bytes),
        ("garbage, needed by none", found.garbage_bytes),
        ("the store's own files", found.own_bytes),
        ("all on disk", found.total_bytes),
    ]
    rows = [[name, say(count)] for name, count in lines if count or name.startswith("all")]  # type: ignore[operator]
    text = table(["bytes", ""], rows)
    if found.unreadable:
        text += f"\n{len(found.unreadable)} runs cannot be read: what they need shows as garbage"
    return text
