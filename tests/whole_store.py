"""A store with a file of every kind, small enough that each of its bytes can be damaged in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import holdfast

_DYING = """
import holdfast, os, sys
store = holdfast.open(sys.argv[1])
run = store.start_run("crashed", run_id="crashed", capture=False)
for step in range(20):
    run.log({"x": step * 0.5}, step=step)
run.flush()
run.log({"x": -1.0}, step=20)
os._exit(9)
"""


def build(root: Path) -> None:
    """A finished run with ranks, a resumption, plain, packed and directory artifacts; one whose process died
    and left its spool; and chains in versions 1 and 2."""
    with holdfast.open(root) as store:
        weights = np.random.default_rng(0).standard_normal(300_000).astype("f4")
        with store.start_run("exp", run_id="whole", config={"lr": 0.1}, capture=False) as run:
            with store.join_run("whole", rank=1) as joined:
                for step in range(300):
                    run.log({"loss": 1 / (step + 1), "acc": step}, step=step)
                    joined.log({"loss": 2 / (step + 1)}, step=step)
            run.log_artifact(b"small", key="small")
            run.log_artifact(np.random.default_rng(1).bytes(1_200_000), key="plain")
            for number in range(3):
                weights[::9] += 1e-3
                path = root.parent / "weights.npy"
                np.save(path, weights)
                run.log_artifact(path, key=f"checkpoints/{number}.npy", layout="packed")
            tree = root.parent / "tree"
            tree.mkdir(exist_ok=True)
            (tree / "a.txt").write_text("a")
            (tree / "b.txt").write_text("b" * 3_000)
            run.log_artifact(tree, key="tree")
        for number in range(3):
            run_again = store.repository.manifest("whole")
            tags = {f"key-{n}": "x" * 100 for n in range(60)} | {"turn": number}
            run_again.commit(run_again.load(), lambda state, tags=tags: {"tags": tags})
            run_again.commit(run_again.load(), lambda state, n=number: {"run": {"note": str(n)}})
        store.alias("prod/best", "whole:plain")
        store.snapshot("v1")
        store.sign("v1", _new_key(root.parent / "key.pem"))
    subprocess.run(
        [sys.executable, "-c", _DYING, str(root)], check=False,
        env={**os.environ, "HOLDFAST_SYSTEM": "off"},
    )  # fmt: skip


def _new_key(path: Path) -> Path:
    key = ed25519.Ed25519PrivateKey.generate()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return path


def files(root: Path) -> dict[str, bytes]:
    """Every file but those in quarantine, by name."""
    found = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
    return {name: data for name, data in found.items() if not name.startswith("quarantine/")}
