"""The command line: parse, call, print."""

import os

# PyTorch's CPU threads wait by spinning: on a busy machine two are then slower than one. It has to
# be said before the first import of torch; whoever set it otherwise is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from isthmus.cli.app import main

__all__ = ["main"]
