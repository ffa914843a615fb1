"""The command line as a Ray job: the whole path, or the command that is named first, a stage for example.

ray job submit --working-dir . -- python jobs/run.py --config configs/production.yaml --out s3://bucket/run
ray job submit --working-dir . -- python jobs/run.py sample --config configs/production.yaml --out s3://bucket/run
"""

import sys

from lgsid_ray.cli.app import app

if __name__ == "__main__":
    given = sys.argv[1:]
    app(given if given and not given[0].startswith("-") else ["run", *given])
