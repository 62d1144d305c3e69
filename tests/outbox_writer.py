"""Logs to a bucket until it is killed, and says what it was told is safe. Run by test_outbox_servers."""

from __future__ import annotations

import json
import os
import sys

import holdfast

url, run_id, told = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = holdfast.open(url, storage_options=json.loads(sys.argv[4]), publish_seconds=0.02)
run = store.start_run("crash", run_id=run_id, capture=False, system=False)
step = 0
while True:
    run.log({"loss": step / 7}, step=step)
    os.write(told, f"step {step}\n".encode())
    if step % 50 == 20:
        key = f"data/{step}"
        run.log_artifact(key.encode() * 1000, key=key)
        os.write(told, f"artifact {key}\n".encode())
    step += 1
