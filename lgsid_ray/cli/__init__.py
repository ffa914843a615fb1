"""The command line: commands, shared options, tables on a terminal. What a command needs is imported when it runs."""

from lgsid_ray.cli.app import main

__all__ = ["main"]
