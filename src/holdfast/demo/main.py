"""The demo from start to end; everything about the store goes through the public API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import holdfast
from holdfast.demo import digits
from holdfast.demo.digits import Split
from holdfast.demo.model import Model, batches

Echo = Callable[[str], None]
EPOCHS = 30
CONFIGS: list[dict[str, Any]] = [
    {"hidden": [], "lr": 0.5, "momentum": 0.0, "batch": 64, "decay": 0.0},
    {"hidden": [32], "lr": 0.02, "momentum": 0.9, "batch": 32, "decay": 1e-4},
    {"hidden": [64], "lr": 0.1, "momentum": 0.9, "batch": 32, "decay": 1e-4},
    {"hidden": [64, 32], "lr": 0.05, "momentum": 0.9, "batch": 64, "decay": 1e-4},
    {"hidden": [128], "lr": 0.001, "momentum": 0.0, "batch": 64, "decay": 0.0},
    {"hidden": [64], "lr": 1.5, "momentum": 0.95, "batch": 16, "decay": 0.0},
]
BEST = "status == 'Success' and metrics['val/accuracy'].last > 0.9"


def run_demo(url: str, echo: Echo, plot: Callable[..., str], table: Callable[..., str]) -> bool:
    """Train, log, query, read back; returns whether the checkpoint read back gave the same accuracy."""
    data = digits.load()
    begun = time.perf_counter()
    with holdfast.open(url) as store:
        echo(f"store      {store.url}")
        echo(f"data       1,797 handwritten digits (UCI, CC BY 4.0), {len(CONFIGS)} models\n")
        ids = [train(store, config, data, echo) for config in CONFIGS]
        echo(f"\ntrained in {time.perf_counter() - begun:.1f} s\n")
        leaderboard(store, ids, echo, table)
        return find_and_check(store, data["test"], echo, plot)


def train(
    store: holdfast.ExperimentStore, config: dict[str, Any], data: dict[str, Split], echo: Echo
) -> str:
    """One run: a point a step, checkpoints every ten epochs, a confusion matrix at the end."""
    name = "mlp-" + "-".join(map(str, config["hidden"])) if config["hidden"] else "softmax"
    model = Model.new([64, *config["hidden"], 10], seed=1)
    with store.start_run("digits", name=name, config=config, tags={"demo": True}) as run:
        run.log_artifact(digits.path(), key="data/digits.npz")
        step = 0
        for epoch in range(1, EPOCHS + 1):
            for batch in batches(data["train"], config["batch"], seed=epoch):
                lr = config["lr"] * 0.97**epoch
                loss, norm = model.step(batch, lr, config["momentum"], config["decay"])
                run.log({"train/loss": loss, "grad_norm": norm, "lr": lr}, step=step)
                step += 1
            loss, accuracy = model.evaluate(data["val"])
            run.log({"val/loss": loss, "val/accuracy": accuracy}, step=step - 1)
            if epoch % 10 == 0:
                run.log_artifact(model.to_bytes(), key=f"checkpoints/epoch={epoch}.npz")
        run.log({"test/accuracy": model.evaluate(data["test"])[1]}, step=step - 1)
        run.log_artifact(model.confusion(data["test"]).encode(), key="confusion.csv")
    echo(f"  {run.id}  {name:<10} {step:>5} steps   val/accuracy {accuracy:.4f}")
    return run.id


def leaderboard(
    store: holdfast.ExperimentStore, ids: list[str], echo: Echo, table: Callable[..., str]
) -> None:
    """This demo's runs, best first."""
    runs = store.runs("tags.demo", order_by="-metrics['val/accuracy'].last")
    mine = [run for run in runs if run.run_id in ids]
    rows = [
        [
            str(place),
            run.run_id,
            run.name or "",
            f"{run.config['lr']:g}",
            f"{run.metrics['train/loss'].last:.4f}",
            f"{run.metrics['val/accuracy'].last:.4f}",
            f"{run.metrics['test/accuracy'].last:.4f}",
        ]
        for place, run in enumerate(mine, 1)
    ]
    echo(table(["#", "run", "model", "lr", "train/loss", "val/accuracy", "test/accuracy"], rows))
    stored = {artifact.digest for run in mine for artifact in run.artifacts.values()}
    named = sum(len(run.artifacts) for run in mine)
    echo(
        f"\n{named} artifacts were logged and {len(stored)} stored: "
        "the data set, logged by every run, is there once\n"
    )


def find_and_check(
    store: holdfast.ExperimentStore, test: Split, echo: Echo, plot: Callable[..., str]
) -> bool:
    """Find the best run by a query, read its checkpoint by sha256, and evaluate it again."""
    order = "-metrics['val/accuracy'].last"
    [best] = store.runs(BEST, order_by=order, limit=1)
    echo(f"best       store.runs({BEST!r},\n                      order_by={order!r}, limit=1)")
    echo(f"           → {best.run_id} ({best.name})\n")
    series = {
        key: (store.metrics(best.run_id, key).steps, store.metrics(best.run_id, key).values)
        for key in ("train/loss", "val/loss")
    }
    echo(plot(series, title=f"loss of {best.name}", log=True))
    digest = best.artifacts[f"checkpoints/epoch={EPOCHS}.npz"].digest
    again = Model.from_bytes(store.read_artifact(str(digest))).evaluate(test)[1]
    logged = best.metrics["test/accuracy"].last
    same = again == logged
    echo(f"\ncheckpoint {digest}")
    echo(f"           read back, hash checked; evaluated again: test/accuracy {again:.4f}")
    echo(
        f"           {'the same as' if same else 'NOT the same as'} the {logged:.4f} that was logged"
    )
    return same
