"""`holdfast watch`."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from holdfast.cli import exits, options
from holdfast.cli.screen import Screen, has_colour, is_screen
from holdfast.cli.table import duration, number
from holdfast.cli.view import KEPT, Head, View
from holdfast.errors import RunNotFound

if TYPE_CHECKING:
    from holdfast import ExperimentStore, RunSummary, Tail, TailRecord

_GOOD = {"Pending", "Running", "Success"}
_LOOK_SECONDS = 0.1  # how soon a new size of the terminal, and new points, are seen
_AT_ONCE = 20_000  # records between two frames
_MOST = 20  # values on a line where there is no terminal


@click.command()
@click.argument("run", required=False)
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--keys", "-k", "patterns", multiple=True, metavar="PATTERN",
              help="Only metrics that match, such as 'train/*'; may be repeated.")  # fmt: skip
@click.option("--interval", type=click.FloatRange(0.05), default=1.0, show_default=True,
              metavar="SECONDS", help="Between two frames, or two lines.")  # fmt: skip
@click.option("--once", is_flag=True, help="Show what is there and stop.")
@click.option("--from-start", is_flag=True, help="With --json: begin with the first record.")
@click.option("--last", type=click.IntRange(0), default=0, metavar="N",
              help="With --json: begin with the last N records.")  # fmt: skip
@options.with_store()
def command(
    store: ExperimentStore,
    run: str | None,
    keys: tuple[str, ...],
    patterns: tuple[str, ...],
    interval: float,
    once: bool,
    from_start: bool,
    last: int,
    as_json: bool,
) -> int:
    """Watch RUN, by default the newest that is running, until it ends.

    A terminal shows each KEY (a metric, or a pattern) on a line that is drawn over in place; a file
    or a pipe gets a line whenever something was logged. With --json every record is a line of JSON.
    The exit code says how the run ended: 0 for Success, 1 for Failed, Cancelled or Crashed.
    """
    if (from_start or last) and not as_json:
        raise click.UsageError("--from-start and --last belong to --json")
    run_id = store.run(run).run_id if run else _newest(store)
    wanted = [*keys, *patterns] or None
    if as_json:
        last = last or int(once)
        tail = store.tail(run_id, wanted, from_start=from_start, last=last, follow=not once)
        for record in tail:
            _say_record(record)
    else:
        tail = store.tail(run_id, wanted, last=KEPT // 4, unsealed=True)
        _Watch(store, tail, interval).run(once)
    return exits.OK if store.run(run_id).state in _GOOD else exits.FINDINGS


def _newest(store: ExperimentStore) -> str:
    found = store.runs("state == 'Running'", limit=1)
    if not found:
        raise RunNotFound("no run is running: name one (holdfast runs lists them)")
    return found[0].run_id


def _say_record(record: TailRecord) -> None:
    from holdfast import Timestamp

    about = {
        "step": record.step,
        "timestamp": str(Timestamp(record.timestamp)),
        "rank": record.rank,
        "attempt": record.attempt,
        "metrics": options.strict(record.metrics),
    }
    click.echo(json.dumps(about, ensure_ascii=False, allow_nan=False))
    sys.stdout.flush()


class _Watch:
    """One run on its way to a screen or to lines."""

    def __init__(self, store: ExperimentStore, tail: Tail, interval: float) -> None:
        self.store = store
        self.tail = tail
        self.interval = interval
        self.view = View()
        self.looked = 0.0
        self.about = self._summary()

    def _summary(self) -> RunSummary:
        """What the manifest says, with the statistics of the metrics that are watched."""
        about = self.store.run(self.tail.run_id)
        watched = {key: of for key, of in about.metrics.items() if self.tail.wants(key)}
        self.view.seed(watched)
        return about

    def run(self, once: bool) -> None:
        self._look()
        if once:
            click.echo("\n".join(self._frame(Screen().size()[0], None)))
        elif is_screen():
            self._draw()
        else:
            self._lines()

    def _look(self) -> list[TailRecord]:
        """Take up what is new."""
        before, records = self.view.attempt, self.tail.poll(_AT_ONCE)
        self.view.feed(records)
        if before and self.view.attempt != before:  # statistics without what is superseded now
            self.about = self._summary()
        return records

    def _frame(self, width: int, height: int | None) -> list[str]:
        return self.view.frame(
            self._head(), time.time_ns(), width, height, colour=has_colour() and height is not None
        )

    def _head(self) -> Head:
        about = self.about
        title = f"{about.run_id}   {about.experiment}" + (f"   {about.name}" if about.name else "")
        heard = self.tail.heard_at
        return Head(
            title,
            about.state,
            about.duration_seconds,
            None if heard is None else (time.time_ns() - heard) / 1e9,
        )

    def _goes_on(self) -> bool:
        """Look when it is time to; False when the run has ended and everything was seen."""
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - self.looked < self.tail.poll_seconds:
            return True
        self.looked, ended = time.monotonic(), self.tail.ended
        if self._look() or not (ended and self.tail.ended):
            return True
        self.about = self._summary()
        return False

    def _draw(self) -> None:
        with Screen() as screen:
            drawn, size = 0.0, (0, 0)
            while self._goes_on():
                if time.monotonic() - drawn >= self.interval or size != screen.size():
                    drawn, size = time.monotonic(), screen.size()
                    screen.draw(self._frame(*size))
        click.echo("\n".join(self._frame(screen.size()[0], None)))

    def _lines(self) -> None:
        """The newest values whenever there are new ones, and how it ended."""
        click.echo(self._head().title)
        said, shown = 0.0, 0
        goes_on = True
        while goes_on:
            goes_on = self._goes_on()
            due = not goes_on or time.monotonic() - said >= self.interval
            if due and self.view.records > shown:
                said, shown = time.monotonic(), self.view.records
                click.echo(self._line())
                sys.stdout.flush()
        click.echo(f"{self.about.state} after {duration(self.about.duration_seconds)}")

    def _line(self) -> str:
        from holdfast import Timestamp

        metrics = sorted(self.view.metrics.items())
        values = [f"{key} {number(metric.last)}" for key, metric in metrics[:_MOST]]
        more = [f"… and {len(metrics) - _MOST} more"] if len(metrics) > _MOST else []
        at = str(Timestamp(self.view.newest // 10**9 * 10**9))
        return "   ".join([at, f"step {self.view.step}", *values, *more])
