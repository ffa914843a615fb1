"""`python -m lgsid_ray.cli`."""

from lgsid_ray.cli.app import main

main()
