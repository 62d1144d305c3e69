"""What checkpoints take of which only the newest are kept: `python -m benchmarks.kept FOLDER`.

FOLDER is what `python -m benchmarks.series FOLDER` made. The checkpoints of s1 (fp32, with optimizer) and of
the steps of s3 (bf16) go in one after the other with `keep_last`; what is told is the bytes that the run
still needs, the bases of names that are gone among them, over the size of the checkpoints that are kept.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import holdfast
from benchmarks import measure


def needed(versions: list[Path], kept: int, place: Path) -> float:
    """The bytes that are needed over the logical bytes that are kept, at the worst moment behind the first
    `kept` steps."""
    worst = 0.0
    with (
        holdfast.open(place / "lab", cache=False) as store,
        store.start_run("kept", run_id="r", capture=False, system=False) as run,
    ):
        for step, path in enumerate(versions):
            run.log_checkpoint(path, step=step, keep_last=kept)
            if step >= kept:
                [row] = store.du().rows
                worst = max(worst, row.freed_bytes / row.logical_bytes)
    shutil.rmtree(place / "lab")
    return worst


def main(folder: Path) -> None:
    print(f"{measure.machine()}\n")
    print("| series | keep_last | needed / plain, at worst |")
    print("|---|---|---|")
    series = {
        "fp32 with AdamW": sorted((folder / "s1").glob("*/checkpoint.pt")),
        "bf16": sorted((folder / "s3").glob("01-*/model.safetensors")),
    }
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-", dir=folder.parent) as place:
        for name, versions in series.items():
            for kept in (1, 2, 3, 4, 5):
                if kept < len(versions):
                    worst = needed(versions, kept, Path(place))
                    print(f"| {name} | {kept} | {worst:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
