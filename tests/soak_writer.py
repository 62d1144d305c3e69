"""One process of the soak: four runs, logged and published until time is up. Run by test_soak.

What was acknowledged goes to standard output as JSON: {run_id: {steps, artifacts: {key: sha256}}}.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time

import holdfast

url, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
chance = random.Random(name)
store = holdfast.open(
    url, storage_options=json.loads(sys.argv[4]), publish_seconds=0.5, create=False
)
runs = [
    store.start_run("soak", run_id=f"{name}-{number}", capture=False, system=False)
    for number in range(4)
]
said = {run.id: {"steps": 0, "artifacts": {}} for run in runs}
until = time.monotonic() + seconds
step = 0
while time.monotonic() < until:
    for run in runs:
        run.log({"loss": step / 7, "acc": float(step)}, step=step)
        said[run.id]["steps"] = step + 1
        if step % 40 == 7:
            data = chance.randbytes(chance.choice([100, 60_000, 1_300_000]))
            key = f"data/{step}"
            run.log_artifact(data, key=key)
            said[run.id]["artifacts"][key] = hashlib.sha256(data).hexdigest()
    step += 1
    time.sleep(0.01)
left = [str(one) for run in runs if (one := run.finish(timeout=300))]
store.close()
print(json.dumps({"runs": said, "unsent": left}))
