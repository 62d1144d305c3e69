"""Logs until it is killed; writes each acknowledged step to a file descriptor. Run by test_crash."""

from __future__ import annotations

import os
import sys

import holdfast

url, run_id, ack = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = holdfast.open(url)
run = store.start_run("crash", run_id=run_id, capture=False)
step = 0
while True:
    run.log({"loss": step / 7, "acc": step}, step=step)
    os.write(ack, step.to_bytes(8, "little"))
    step += 1
