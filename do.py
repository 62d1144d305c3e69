"""Everything a clone needs, by one script that runs on plain Python >= 3.11.

    python3 do.py demo      train small models, log them, find the best one, read it back
    python3 do.py test      the test suite
    python3 do.py check     lint, format, types
    python3 do.py servers   the tests against real storage servers, which it installs where it may
    python3 do.py training  the tests with torch, Lightning and Transformers, which it installs
    python3 do.py soak      many processes, a bucket and a bad network, for minutes
    python3 do.py faults    10,000 simulated histories; `--histories 1000000` for a million
    python3 do.py fuzz      a million inputs for decoders and parsers; `--inputs N` for more
    python3 do.py long      the tests that take minutes, these among them
    python3 do.py bench     the benchmarks, beside peers installed for the occasion

The first call makes a virtual environment in .venv; later calls use it until pyproject.toml changes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - the one file that any Python may be given
        return complain(f"Holdfast needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    name, *rest = sys.argv[1:] or ["help"]
    if name not in COMMANDS:
        print(__doc__)
        return 0 if name in ("help", "-h", "--help") else 2
    extra, commands = COMMANDS[name]
    problem = install(extra)
    if problem:
        return complain(problem)
    os.chdir(ROOT)
    return max(run(*command, *(rest if command is commands[-1] else [])) for command in commands)


def complain(sentence: str) -> int:
    print(f"do.py: {sentence}", file=sys.stderr)
    return 1


def install(extra: str) -> str:
    """Bring .venv up to date; returns what went wrong, or ''."""
    stamp = VENV / f"installed-{extra}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return ""
    if not PYTHON.exists():
        try:
            venv.create(VENV, with_pip=True, clear=True)
        except (subprocess.CalledProcessError, OSError) as error:
            return (
                f"cannot make a virtual environment ({error}); on Debian and Ubuntu "
                "`apt install python3-venv` helps"
            )
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print("do.py: installing into .venv …", file=sys.stderr)
    if subprocess.run([*pip, "--editable", f"{ROOT}[{extra}]"], check=False).returncode:
        return "pip could not install what is needed: see its message above"
    stamp.write_text(wanted)
    return ""


def run(*command: str) -> int:
    return subprocess.run([PYTHON, *command], check=False).returncode


COMMANDS: dict[str, tuple[str, list[list[str]]]] = {
    "demo": ("dev", [["-m", "holdfast.cli", "demo"]]),
    "test": (
        "dev",
        [["-m", "pytest", "-n", "2", "-m", "not slow and not server", "--ignore=tests/training"]],
    ),
    "training": ("dev,training", [["-m", "pytest", "tests/training"]]),
    "servers": (
        "dev,s3,gcs,azure,dask",
        [
            ["tests/servers/install.py"],
            ["-m", "pytest", "-n", "2", "--dist", "loadfile", "-m", "server and not slow"],
        ],
    ),
    "soak": (
        "dev,s3,gcs,azure,dask",
        [["tests/servers/install.py"], ["-m", "pytest", "-m", "slow", "tests/test_soak.py"]],
    ),
    "fuzz": ("dev", [["-m", "tests.fuzz", "--inputs", "1000000"]]),
    "long": (
        "dev,s3,gcs,azure,dask",
        [["tests/servers/install.py"], ["-m", "pytest", "-m", "slow"]],
    ),
    "faults": ("dev", [["-m", "tests.faults", "--histories", "10000"]]),
    "check": (
        "dev",
        [
            ["-m", "ruff", "check", "."],
            ["-m", "ruff", "format", "--check", "."],
            ["-m", "mypy"],
        ],
    ),
    "bench": ("dev,s3,bench", [["-m", "benchmarks"]]),
}

if __name__ == "__main__":
    sys.exit(main())
