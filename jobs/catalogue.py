"""Everything up to stage catalogue as a Ray job.

ray job submit --working-dir . -- python jobs/catalogue.py --config configs/production.yaml --out s3://bucket/run
"""

import sys

from lgsid_ray.cli import app

if __name__ == "__main__":
    app(["catalogue", *sys.argv[1:]])
