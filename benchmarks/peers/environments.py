"""The peers' own environments, one each under the git-ignored `.peers/`.

Each peer is installed as its users would install it, at a fixed version, and never meets the
project's own packages. PyTorch comes first, at the version the project is tested with, so that
all sides run the same one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
TORCH = "torch==2.13.0"
REQUIREMENTS = {
    "rectools": ["rectools[torch]==0.19.0"],
    "recbole": ["recbole==1.2.1", "numpy<2", "pandas<3", "setuptools<81"],
}
VARIABLES = {"recbole": {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}}


def interpreter(peer: str) -> Path:
    """The Python of a peer's environment, built first where it is missing."""
    home = PEERS / peer
    python = home / "bin" / "python"
    stamp = home / "installed.txt"
    wanted = "\n".join([TORCH, *REQUIREMENTS[peer]])
    if not (stamp.is_file() and stamp.read_text() == wanted):
        print(f"building {home.relative_to(ROOT)}, once", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, TORCH], check=True, stdout=sys.stderr)
        subprocess.run([*pip, TORCH, *REQUIREMENTS[peer]], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def variables(peer: str) -> dict[str, str]:
    """The process environment in which a peer runs."""
    return {**os.environ, "PYTHONWARNINGS": "ignore", **VARIABLES.get(peer, {})}


if __name__ == "__main__":
    for peer in sys.argv[1:] or REQUIREMENTS:
        print(interpreter(peer))
