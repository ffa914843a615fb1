"""The command line `lgsid`."""

from lgsid_ray.cli.app import app, main

__all__ = ["app", "main"]
