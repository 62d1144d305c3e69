"""Play histories: `python -m tests.faults --histories 10000`; one again: `--seed N`."""

from __future__ import annotations

import os
import sys

if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is part of a history
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]])

from .command import main

sys.exit(main())
