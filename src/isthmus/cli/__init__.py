"""The command line: parse, call, print."""

from isthmus.cli.app import main

__all__ = ["main"]
