"""Logs as several ranks of the run `r`, one thread each: `rank_writer.py STORE FIRST STOP STEPS`.

With 0 steps it goes on until it is killed, and says each acknowledged `rank step`. Run by test_ranks.
"""

from __future__ import annotations

import itertools
import sys
import threading

import holdfast

url, first, stop, steps = sys.argv[1], *map(int, sys.argv[2:])
store = holdfast.open(url)
failed = []


def work(rank: int) -> None:
    try:
        with store.join_run("r", rank=rank, wait_seconds=120) as run:
            for step in range(steps) if steps else itertools.count():
                run.log({"x": step * 64 + rank}, step=step)
                if not steps:
                    sys.stdout.write(f"{rank} {step}\n")
                    sys.stdout.flush()
    except BaseException as error:
        failed.append(error)
        raise


threads = [threading.Thread(target=work, args=(rank,)) for rank in range(first, stop)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
store.close()
sys.exit(bool(failed))
