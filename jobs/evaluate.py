"""Everything up to stage evaluate as a Ray job.

ray job submit --working-dir . -- python jobs/evaluate.py --config configs/production.yaml --out s3://bucket/run
"""

import sys

from lgsid_ray.cli import app

if __name__ == "__main__":
    app(["evaluate", *sys.argv[1:]])
